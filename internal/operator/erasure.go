package operator

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/erasure"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	erasePage = 500
	// usualCall is how long a call, and recording its answer, take at most with the
	// default settings.
	usualCall = 20 * time.Second
)

// Erased counts what an erasure removed, by kind.
type Erased struct {
	Requests    int `json:"requests"`
	Generations int `json:"generations"`
	Rows        int `json:"rows"` // of batches, and of what was to be fed, that lost their ID
	Events      int `json:"events"`
	Tasks       int `json:"tasks"`
	Quarantined int `json:"put_aside"`
	Entries     int `json:"entries"` // of the intake stream's rejects and of the audit trail
}

// Erasure removes requests, and everything in Redis that names them. It may be interrupted
// and repeated.
type Erasure struct {
	operator *Operator
	ids      []string
	batch    batch.Batch // the zero value if IDs are given

	quarantined map[string]bool // IDs that a quarantined entry names
	unknown     map[string]bool // IDs without a record, whose events no record names
	damaged     bool            // a damaged record was erased, which could not tell its batch
	erased      Erased
	skipped     int           // requests that are being called, or handled
	wait        time.Duration // until these can be erased
}

// Erasure prepares to erase requests by their IDs or, if batchName is not empty, the
// requests that a batch accepted first.
func (o *Operator) Erasure(ctx context.Context, ids []string, batchName string) (*Erasure, error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	e := &Erasure{operator: o, ids: slices.Compact(ids), unknown: map[string]bool{}}
	if batchName == "" {
		return e, nil
	}
	number, err := o.BatchNumber(ctx, batchName)
	e.batch = batch.Batch{Batch: batchName, Number: number}
	return e, err
}

// Count returns how many requests are to be erased, and calls unknown for each ID without a
// request.
func (e *Erasure) Count(ctx context.Context, unknown func(id string)) (total int, err error) {
	book := e.operator.stores
	if e.batch.Number != 0 {
		b, _, err := book.Batches.Get(ctx, e.batch.Number)
		return b.Rows - b.Joined - b.Counts[batch.Erased], err
	}
	for page := range slices.Chunk(e.ids, erasePage) {
		found, err := book.Records.Latest(ctx, page)
		if err != nil {
			return 0, err
		}
		for i, raw := range found {
			if raw != nil {
				total++
			} else {
				unknown(page[i])
			}
		}
	}
	return total, nil
}

// Erased returns what was erased so far.
func (e *Erasure) Erased() Erased { return e.erased }

// SkippedError reports that an erasure left requests in place, because a call is in flight
// or a worker handles their tasks.
type SkippedError struct {
	Requests int
	Wait     time.Duration // after which to try again
}

func (e *SkippedError) Error() string {
	return fmt.Sprintf("%d not erased: being called, or handled by a worker; a call is cancelled as soon as it is answered; run the same command again in %d s",
		e.Requests, int(math.Ceil(e.Wait.Seconds())))
}

// Run erases the requests, and then every mention of them elsewhere. It removes the mentions
// even if an earlier, interrupted run has already erased the records. A [SkippedError] means
// that everything else was erased.
func (e *Erasure) Run(ctx context.Context) (err error) {
	book := e.operator.stores
	if e.quarantined, err = book.Erasure.QuarantinedIDs(ctx); err != nil {
		return err
	}
	whose := erasure.EventFilter{Batch: e.batch.Batch}
	if e.batch.Number != 0 {
		err = e.eraseBatch(ctx)
	} else {
		whose.IDs, err = e.eraseIDs(ctx)
	}
	if err != nil {
		return err
	}
	if err := e.eraseMentions(ctx, whose); err != nil {
		return err
	}
	if e.skipped > 0 {
		return &SkippedError{e.skipped, e.wait}
	}
	return nil
}

// eraseMentions removes mentions of requests outside their records.
func (e *Erasure) eraseMentions(ctx context.Context, whose erasure.EventFilter) error {
	book := e.operator.stores
	n, err := book.Erasure.EraseRows(ctx, e.damaged)
	e.erased.Rows += n
	if err != nil {
		return err
	}
	if err = e.eraseEvents(ctx, whose); err != nil || len(whose.IDs) == 0 {
		return err
	}
	if n, err = book.Erasure.EraseQuarantined(ctx, whose.IDs); err == nil {
		e.erased.Quarantined += n
		n, err = book.Erasure.EraseEntries(ctx, whose.IDs)
		e.erased.Entries += n
	}
	return err
}

// eraseEvents removes the events that no record names.
func (e *Erasure) eraseEvents(ctx context.Context, whose erasure.EventFilter) error {
	book := e.operator.stores
	indexed, err := book.Erasure.EventsIndexed(ctx)
	if err != nil {
		return err
	}
	if indexed && !e.damaged {
		whose = erasure.EventFilter{IDs: e.unknown}
	}
	if whose.Batch == "" && len(whose.IDs) == 0 {
		return nil
	}
	n, err := book.Erasure.EraseEvents(ctx, whose)
	e.erased.Events += n
	return err
}

// eraseIDs returns the IDs of which no record is left.
func (e *Erasure) eraseIDs(ctx context.Context) (map[string]bool, error) {
	gone := map[string]bool{}
	for page := range slices.Chunk(e.ids, erasePage) {
		ids, err := e.erase(ctx, page)
		if err != nil {
			return gone, err
		}
		for _, id := range ids {
			gone[id] = true
		}
	}
	return gone, nil
}

// eraseBatch cancels a batch, and erases what it accepted first: by its rows, and then
// what an interrupted import accepted, which is in no row.
func (e *Erasure) eraseBatch(ctx context.Context) error {
	book := e.operator.stores
	if err := book.Batches.Control(ctx, e.batch, batch.Close); err != nil {
		return err
	}
	if err := book.Batches.CancelRequests(ctx, e.batch.Number, func(int) {}); err != nil {
		return err
	}
	for _, pages := range []iter.Seq2[[]string, error]{e.rowIDs(ctx), book.Erasure.AcceptedIDs(ctx, e.batch.Number)} {
		for ids, err := range pages {
			if err == nil {
				_, err = e.erase(ctx, ids)
			}
			if err != nil {
				return err
			}
		}
		b, _, err := book.Batches.Get(ctx, e.batch.Number)
		if err != nil {
			return err
		}
		if b.Rows == b.Counts[batch.Erased]+b.Joined {
			return book.Erasure.EraseOrder(ctx, e.batch.Number)
		}
		if b.Rows == b.Counts[batch.Erased]+b.Joined+e.skipped {
			return nil
		}
		e.skipped = 0
	}
	return nil
}

func (e *Erasure) rowIDs(ctx context.Context) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		for page, err := range e.operator.stores.Batches.Requests(ctx, e.batch.Number) {
			ids := make([]string, len(page))
			for i, r := range page {
				ids[i] = r.ApplicationID
			}
			if !yield(ids, err) || err != nil {
				return
			}
		}
	}
}

// erase cancels and erases requests, and returns those of which no record is left.
func (e *Erasure) erase(ctx context.Context, ids []string) (gone []string, err error) {
	busy, err := e.cancel(ctx, ids)
	if err != nil {
		return nil, err
	}
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return busy[id] })
	for range len(busy) {
		e.skip(time.Second)
	}
	all, err := e.operator.stores.Erasure.Erase(ctx, ids)
	for _, r := range all {
		e.erased.Generations += r.Generations
		e.erased.Rows += r.Rows
		e.erased.Events += r.Events
		e.erased.Entries += r.Entries
		e.damaged = e.damaged || r.Erased && r.Unreadable
		switch {
		case r.Erased:
			e.erased.Requests++
			gone = append(gone, r.ApplicationID)
		case r.Unreadable:
			return gone, fmt.Errorf("erase %s: it was written by a newer version of kyclink; erase it with that version", r.ApplicationID)
		case r.State == "":
			gone = append(gone, r.ApplicationID)
			e.unknown[r.ApplicationID] = true
		default:
			e.skip(max(time.Second, usualCall-time.Since(r.Since)))
		}
	}
	return gone, err
}

// skip counts a request that is being called or handled.
func (e *Erasure) skip(wait time.Duration) {
	e.skipped++
	e.wait = max(e.wait, wait)
}

// atOnce is the number of requests that are cancelled at a time.
const atOnce = 16

// cancel cancels the requests that have not ended, and deletes their tasks. A worker is
// handling the tasks of the busy ones.
func (e *Erasure) cancel(ctx context.Context, ids []string) (busy map[string]bool, err error) {
	book := e.operator.stores
	named := map[string]bool{}
	for _, id := range ids {
		if e.quarantined[id] {
			named[id] = true
		}
	}
	if len(named) > 0 {
		n, err := book.Erasure.EraseQuarantined(ctx, named)
		if e.erased.Quarantined += n; err != nil {
			return nil, err
		}
	}
	found, err := book.Records.Headers(ctx, ids)
	if err != nil {
		return nil, err
	}
	group, failed := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, r := range found {
		if !r.State.Ended() {
			group.Go(func() error {
				_, err := book.Requests.Cancel(failed, r)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return e.deleteTasks(ctx, found)
}

// deleteTasks deletes the tasks of requests and of their deliveries.
func (e *Erasure) deleteTasks(ctx context.Context, found []request.Record) (busy map[string]bool, err error) {
	busy = map[string]bool{}
	refs, err := e.deleteTurns(ctx, found, busy)
	if err == nil {
		err = e.deleteDeliveries(ctx, found, busy)
	}
	if err == nil {
		err = e.operator.stores.Erasure.ErasePanics(ctx, refs)
	}
	return busy, err
}
