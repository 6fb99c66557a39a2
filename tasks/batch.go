package tasks

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
)

// chunkRows is how many of the input's row numbers one chunk of a batch spans.
const chunkRows = 100

// MaxBatchName is how many bytes a batch's name has at most: a path fits.
const MaxBatchName = 4096

// inFlight is how many chunks are on their way to Redis at a time.
const inFlight = 8

// Batch says which batch rows are accepted in. A name must not be imported from
// two places at once.
type Batch struct {
	Name string
	// Options are the defaults of its rows. The first import of the batch fixes
	// them: a later one may leave them out, or give the same.
	Options Options
}

// Acceptance tells what a row of a batch found when it was accepted.
type Acceptance string

// A row that was accepted is one of these.
const (
	Fresh    Acceptance = "fresh"    // it is accepted now
	Earlier  Acceptance = "again"    // it was accepted by an earlier import of the batch
	Repeated Acceptance = "repeated" // another row of the batch, or an earlier file's, was accepted for its id
	Joined   Acceptance = "joined"   // another batch, or somebody without one, asked for its id
)

// Rows are requests numbered from 1.
func Rows(requests []Request) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for i, r := range requests {
			if !yield(Row{Number: i + 1, Request: r}, nil) {
				return
			}
		}
	}
}

// Result is what became of one row.
type Result struct {
	Row Row
	// Link and How are given where Err is nil.
	Link       Link
	Acceptance Acceptance
	// Err is what [Client.Enqueue] would give.
	Err error
}

// EnqueueAll accepts the rows of a batch, whose numbers must grow, in constant
// memory: several hundred rows at a time are on their way. It is repeatable:
// rows that were accepted before stay as they are, so that an import that broke
// off is simply done again. Requests that give no lane are bulk.
//
// done is called for every row in order, by the goroutine of the caller, which
// reads the rows as well. An [*InvalidError] that rows gives is its row's.
// EnqueueAll itself fails where rows gives another error, Redis fails, ctx ends or
// the numbers do not grow; what was accepted stays accepted. Before it reads a row
// it gives an [*InvalidError] for a name that is empty, too long or unprintable,
// and for invalid options, and an [*OptionsError] for others than the batch has.
// It gives a [*CancelledError] where the batch is cancelled, or as soon as it is.
// Where a lane has no room for rows, see [Config].MaxBacklog, it waits until there
// is, and tells [Config].OnFull.
func (c *Client) EnqueueAll(ctx context.Context, batch Batch, rows iter.Seq2[Row, error], done func(Result)) error {
	open, err := c.openBatch(ctx, batch)
	if err != nil {
		return err
	}
	p := pipeline{client: c, batch: open, done: done, ids: make(map[string]bool)}
	err = p.feed(ctx, batch.Name, rows)
	for len(p.chunks) > 0 {
		if failed := p.deliver(); err == nil {
			err = failed
		}
	}
	return err
}

// pipeline has up to [inFlight] chunks accepted at a time. No id is in two of
// them: of rows that repeat one, the first is to be accepted.
type pipeline struct {
	client *Client
	batch  openBatch
	done   func(Result)
	chunks []*chunk // in flight, the oldest first
	ids    map[string]bool
	failed bool
}

// chunk is rows on their way.
type chunk struct {
	number  int
	results []Result
	err     error
	over    chan struct{}
}

func (p *pipeline) feed(ctx context.Context, name string, rows iter.Seq2[Row, error]) error {
	last, next := 0, &chunk{}
	for row, err := range rows {
		_, invalid := errors.AsType[*InvalidError](err)
		if err != nil && !invalid {
			return err
		}
		if row.Number <= last {
			return fmt.Errorf("batch %q: row %d comes after row %d; rows are numbered from 1, and the numbers grow", name, row.Number, last)
		}
		if row.Request.Lane == "" {
			row.Request.Lane = Bulk
		}
		for (row.Number-1)/chunkRows > next.number {
			if err := p.send(ctx, next); err != nil {
				return err
			}
			next = &chunk{number: next.number + 1, results: make([]Result, 0, chunkRows)}
		}
		last = row.Number
		next.results = append(next.results, Result{Row: row, Err: err})
	}
	return p.send(ctx, next)
}

// send starts a chunk. It may have no rows.
func (p *pipeline) send(ctx context.Context, next *chunk) error {
	clash := func(r Result) bool { return r.Err == nil && p.ids[r.Row.Request.ApplicationID] }
	for len(p.chunks) == inFlight || len(p.chunks) > 0 && slices.ContainsFunc(next.results, clash) {
		if err := p.deliver(); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range next.results {
		p.ids[r.Row.Request.ApplicationID] = true
	}
	next.over = make(chan struct{})
	var first *chunk
	if n := len(p.chunks); n > 0 && p.client.limit > 0 {
		first = p.chunks[n-1]
	}
	p.chunks = append(p.chunks, next)
	go func() {
		defer close(next.over)
		if next.err = first.await(ctx); next.err == nil {
			next.err = p.client.acceptChunk(ctx, p.batch, next)
		}
	}()
	return nil
}

// await waits until a chunk is accepted: where a lane's room is limited, rows take it
// in their order, and not those behind a chunk that waits for it.
func (c *chunk) await(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.over:
		return c.err
	}
}

// deliver waits for the oldest chunk. Nothing is told of what comes after one
// that failed.
func (p *pipeline) deliver() error {
	oldest := p.chunks[0]
	p.chunks = p.chunks[1:]
	<-oldest.over
	for _, r := range oldest.results {
		delete(p.ids, r.Row.Request.ApplicationID)
	}
	if p.failed = p.failed || oldest.err != nil; p.failed {
		return oldest.err
	}
	for _, r := range oldest.results {
		p.done(r)
	}
	return nil
}

func (c *Client) acceptChunk(ctx context.Context, batch openBatch, chunk *chunk) error {
	var left []*Result
	for i := range chunk.results {
		r := &chunk.results[i]
		if r.Err == nil {
			r.Err = r.Row.acceptable(c.destinations)
		}
		if r.Err == nil {
			left = append(left, r)
		}
	}
	var lines []line
	for first := true; first || len(left) > 0; first = false {
		var full error
		rows := make([]Row, len(left))
		for i, r := range left {
			rows[i] = r.Row
		}
		all, err := c.acceptAll(ctx, place{batch.number, chunk.number, batch.notAfter, c.caller.ID}, lines, rows)
		if err != nil {
			return err
		}
		var later []*Result
		for i, r := range left {
			a := all[i]
			switch {
			case a.later:
				later = append(later, r)
			case ReasonOf(a.err) == string(fault.BacklogFull):
				full = a.err
				later = append(later, r)
			case a.err != nil:
				r.Err = a.err
			default:
				if r.Link, err = c.dispatched(ctx, a.record); err != nil {
					return err
				}
				r.Acceptance = batch.how(a, r.Row)
				lines = append(lines, line{r.Row.Number, r.Row.Request.ApplicationID, r.Acceptance == Joined})
			}
		}
		left = later
		if err := c.awaitRoom(ctx, full); err != nil {
			return err
		}
	}
	return nil
}

// batchName refuses names that cannot be shown or found again.
func batchName(name string) error {
	if problem := legible.WrongName(name, MaxBatchName); problem != "" {
		return &InvalidError{[]Problem{{"batch", "has a name that " + problem}}}
	}
	return nil
}
