package tasks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
)

// concurrentChunks is the number of chunks that one import writes at a time.
const concurrentChunks = 8

// chunkWriter writes the rows of an import in chunks, several at a time. No two chunks
// in progress have an ID in common, so that the first of several rows with the same ID
// is accepted.
type chunkWriter struct {
	client *Client
	batch  openBatch
	done   func(Result)
	chunks []*chunk // in progress, oldest first
	ids    map[string]bool
	failed bool
	unused []*chunk // that are finished; the next ones take their memory
}

// chunk is a number of consecutive rows.
type chunk struct {
	number  int
	results []Result
	fresh   []request.Record // memory for the records of new requests, while a step is decided
	err     error
	written chan struct{}
}

func (w *chunkWriter) writeAll(ctx context.Context, name string, rows iter.Seq2[Row, error]) error {
	last, next := 0, w.newChunk(0)
	for row, err := range rows {
		_, invalid := errors.AsType[*InvalidError](err)
		if err != nil && !invalid {
			return err
		}
		if row.Number <= last {
			return fmt.Errorf("batch %q: row %d follows row %d: row numbers must start at 1 and increase", name, row.Number, last)
		}
		if row.Request.Lane == "" {
			row.Request.Lane = Bulk
		}
		for (row.Number-1)/order.ChunkRows > next.number {
			if err := w.start(ctx, next); err != nil {
				return err
			}
			next = w.newChunk(next.number + 1)
		}
		last = row.Number
		next.results = append(next.results, Result{Row: row, Err: err})
	}
	return w.start(ctx, next)
}

func (w *chunkWriter) newChunk(number int) *chunk {
	last := len(w.unused) - 1
	if last < 0 {
		return &chunk{number: number, results: make([]Result, 0, order.ChunkRows), fresh: make([]request.Record, order.ChunkRows)}
	}
	unused := w.unused[last]
	w.unused = w.unused[:last]
	return &chunk{number: number, results: unused.results[:0], fresh: unused.fresh}
}

// start starts writing a chunk, which may have no rows.
func (w *chunkWriter) start(ctx context.Context, next *chunk) error {
	inProgress := func(r Result) bool { return r.Err == nil && w.ids[r.Row.Request.ApplicationID] }
	for len(w.chunks) == concurrentChunks || len(w.chunks) > 0 && slices.ContainsFunc(next.results, inProgress) {
		if err := w.finishOldest(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range next.results {
		w.ids[r.Row.Request.ApplicationID] = true
	}
	next.written = make(chan struct{})
	var previous *chunk
	if n := len(w.chunks); n > 0 && w.client.limit > 0 {
		previous = w.chunks[n-1]
	}
	w.chunks = append(w.chunks, next)
	go func() {
		defer close(next.written)
		if next.err = previous.wait(ctx); next.err == nil {
			next.err = w.client.acceptChunk(ctx, w.batch, next)
		}
	}()
	return nil
}

// wait waits until a chunk has been written. With a limited backlog, a chunk waits for
// the previous one, so that rows get places in their order.
func (c *chunk) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.written:
		return c.err
	}
}

// finishOldest waits for the oldest chunk and reports its results. It reports nothing
// once a chunk has failed.
func (w *chunkWriter) finishOldest() error {
	oldest := w.chunks[0]
	w.chunks = w.chunks[1:]
	<-oldest.written
	for _, r := range oldest.results {
		delete(w.ids, r.Row.Request.ApplicationID)
	}
	if w.failed = w.failed || oldest.err != nil; w.failed {
		return oldest.err
	}
	for _, r := range oldest.results {
		w.done(r)
	}
	w.unused = append(w.unused, oldest)
	return nil
}

// acceptChunk accepts the rows of a chunk in as many steps as needed: rows that repeat
// an ID, or that wait for a full backlog, are accepted in a later step.
func (c *Client) acceptChunk(ctx context.Context, into openBatch, chunk *chunk) error {
	var pending []*Result
	for i := range chunk.results {
		r := &chunk.results[i]
		if r.Err == nil {
			r.Err = r.Row.check(c.destinations)
		}
		if r.Err == nil {
			pending = append(pending, r)
		}
	}
	var written []chunkRow
	for first := true; first || len(pending) > 0; first = false {
		var full error
		rows := make([]Row, len(pending))
		for i, r := range pending {
			rows[i] = r.Row
		}
		to := target{batch: into.number, chunk: chunk.number, notAfter: into.notAfter, by: c.caller.ID, fresh: chunk.fresh}
		all, err := c.acceptAll(ctx, to, written, rows)
		if err != nil {
			return err
		}
		var retry []*Result
		for i, r := range pending {
			a := all[i]
			switch {
			case a.retry:
				retry = append(retry, r)
			case ReasonOf(a.err) == string(fault.BacklogFull):
				full = a.err
				retry = append(retry, r)
			case a.err != nil:
				r.Err = a.err
			default:
				if r.Link, err = c.dispatch(ctx, a.record); err != nil {
					return err
				}
				r.Acceptance = into.acceptance(a, r.Row)
				written = append(written, chunkRow{r.Row.Number, r.Row.Request.ApplicationID, r.Acceptance == Joined})
			}
		}
		pending = retry
		if err := c.awaitBacklog(ctx, full); err != nil {
			return err
		}
	}
	return nil
}
