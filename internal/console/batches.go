package console

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/search"
	"github.com/kyclink/kyclink/tasks"
)

// batchesData is the list of batches.
type batchesData struct {
	Batches []batchRow
	Next    string // the address of the next page; "" if there is none
	Now     time.Time
	// Find is the part of a name by which the batches were selected; More says that there are
	// others.
	Find string
	More bool
}

// batchRow is a batch with its progress.
type batchRow struct {
	batch.Batch
	Parts []part
}

// part is the share of a batch's rows that are in a state, in a bar that is 1000 wide.
type part struct {
	State    string
	Rows     int
	X, Width float64
}

const barWidth = 1000

func newBatchRow(b batch.Batch) batchRow {
	row := batchRow{Batch: b}
	x := 0.0
	for _, state := range []request.State{
		request.Created, request.Calling, request.Queued, request.Waiting, request.Held, request.Failed, request.Cancelled, batch.Erased,
	} {
		rows := b.Counts[state] + b.JoinedCounts[state]
		p := part{State: string(state), Rows: rows, X: x}
		if b.Rows > 0 {
			p.Width = float64(rows) / float64(b.Rows) * barWidth
		}
		x += p.Width
		row.Parts = append(row.Parts, p)
	}
	return row
}

// Ended is how many rows have ended, and Share which part of all rows that is.
func (r batchRow) Ended() int {
	n := 0
	for _, p := range r.Parts {
		switch request.State(p.State) { //nolint:exhaustive // the others have not ended
		case request.Created, request.Failed, request.Cancelled, batch.Erased:
			n += p.Rows
		}
	}
	return n
}

// Percent is the part of the rows that has ended: 100 only if all have.
func (r batchRow) Percent() int {
	if r.Rows == 0 {
		return 0
	}
	return r.Ended() * 100 / r.Rows
}

// Count returns the number of rows in a state.
func (r batchRow) Count(state string) int {
	return r.Counts[request.State(state)] + r.JoinedCounts[request.State(state)]
}

func (c *Console) batchesPage(ctx context.Context, v *visit) error {
	if find := strings.TrimSpace(v.r.FormValue("find")); find != "" {
		return c.foundBatches(ctx, v, find)
	}
	before := 0
	if text := v.r.FormValue("before"); text != "" {
		var err error
		if before, err = strconv.Atoi(text); err != nil || before < 1 {
			return &pageError{http.StatusUnprocessableEntity, "No such page", "The address does not continue the list of batches."}
		}
	}
	now, err := c.operator.Now(ctx)
	if err != nil {
		return err
	}
	d := batchesData{Now: now}
	page, next, err := c.Stores.Batches.Before(ctx, before, pageSize)
	if err != nil {
		return err
	}
	for _, b := range page {
		d.Batches = append(d.Batches, newBatchRow(b))
	}
	if next != 0 {
		d.Next = "/batches?before=" + strconv.Itoa(next)
	}
	return c.show(v, http.StatusOK, "batches", "Batches", d)
}

// foundBatches shows the batches whose names contain a text, or the batch of this name.
func (c *Console) foundBatches(ctx context.Context, v *visit, find string) error {
	if _, ok, err := c.Stores.Batches.Number(ctx, find); err != nil {
		return err
	} else if ok {
		return v.redirect("/batch?" + url.Values{"name": {find}}.Encode())
	}
	names, err := c.Stores.Batches.Names(ctx)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.Contains(strings.ToLower(name), strings.ToLower(find)) })
	slices.Sort(names)
	d := batchesData{Find: find, More: len(names) > pageSize}
	if d.Now, err = c.operator.Now(ctx); err != nil {
		return err
	}
	found, err := c.Stores.Batches.Named(ctx, names[:min(len(names), pageSize)])
	if err != nil {
		return err
	}
	for _, b := range found {
		d.Batches = append(d.Batches, newBatchRow(b))
	}
	return c.show(v, http.StatusOK, "batches", "Batches", d)
}

// batchData is one batch.
type batchData struct {
	batchRow
	Diagnosis diagnosis.Diagnosis
	Now       time.Time
	Failures  *failures // nil if none failed, and in the part of the page that is live
}

// failures are the failed requests of a batch by reason.
type failures struct {
	ByReason []listData
	// Latest is how many failed requests were read, if there are more.
	Latest int
}

// mostFailures is how many failed requests are read to group them.
const mostFailures = 3 * search.MaxLimit

// failuresOf groups the latest failed requests of a batch by reason.
func (c *Console) failuresOf(ctx context.Context, b batch.Batch) (*failures, error) {
	counts, read := map[string]int{}, 0
	searcher, cursor := search.New(c.Redis, c.Stores.Keys), ""
	for read < mostFailures {
		page, err := searcher.Page(ctx, search.Filter{Status: request.Failed, Batch: b.Number}, cursor, search.MaxLimit)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Records {
			counts[r.Outcome.Reason]++
		}
		read += len(page.Records)
		if cursor = page.Next; cursor == "" || len(page.Records) == 0 { // a page that found none has read enough
			break
		}
	}
	f := &failures{}
	if cursor != "" {
		f.Latest = read
	}
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		query := url.Values{"batch": {b.Batch}, "reason": {reason}}
		f.ByReason = append(f.ByReason, listData{Name: reason, Href: "/failed?" + query.Encode(), Number: counts[reason]})
	}
	slices.SortStableFunc(f.ByReason, func(a, b listData) int { return b.Number - a.Number })
	return f, nil
}

// Flows reports whether links are created, so that the speed so far says when the batch is
// done.
func (d batchData) Flows() bool { return d.Diagnosis.State == diagnosis.Flowing }

func (c *Console) batchOf(ctx context.Context, name string) (batch.Batch, error) {
	number, ok, err := c.Stores.Batches.Number(ctx, name)
	if err != nil {
		return batch.Batch{}, err
	}
	if ok {
		var b batch.Batch
		if b, ok, err = c.Stores.Batches.Get(ctx, number); err != nil || ok {
			return b, err
		}
	}
	return batch.Batch{}, &pageError{http.StatusNotFound, "No such batch", "There is no batch " + quoted(name) + ". It never existed, or was erased."}
}

func (c *Console) readBatch(ctx context.Context, name string) (batchData, error) {
	b, err := c.batchOf(ctx, name)
	if err != nil {
		return batchData{}, err
	}
	s, err := c.snapshots.Snapshot(ctx)
	return batchData{batchRow: newBatchRow(b), Diagnosis: diagnosis.Batch(s, b), Now: s.At}, err
}

func (c *Console) batchPage(ctx context.Context, v *visit) error {
	d, err := c.readBatch(ctx, v.r.FormValue("name"))
	if err != nil {
		return err
	}
	if d.Counts[request.Failed] > 0 {
		if d.Failures, err = c.failuresOf(ctx, d.Batch); err != nil {
			return err
		}
	}
	return c.show(v, http.StatusOK, "batch", "Batch "+d.Batch.Batch, d)
}

// batchProgress sends the part of the page that changes.
func (c *Console) batchProgress(ctx context.Context, v *visit) error {
	d, err := c.readBatch(ctx, v.r.FormValue("name"))
	if err != nil {
		return err
	}
	return c.fragment(v, "batch", "progress", d)
}

func (c *Console) pauseBatch(ctx context.Context, v *visit) error {
	return c.steerBatch(ctx, v, batch.Pause, "batch_paused")
}

func (c *Console) resumeBatch(ctx context.Context, v *visit) error {
	return c.steerBatch(ctx, v, batch.Resume, "batch_resumed")
}

// steerBatch pauses or resumes a batch.
func (c *Console) steerBatch(ctx context.Context, v *visit, control batch.Control, did string) error {
	b, err := c.batchOf(ctx, v.r.PostFormValue("name"))
	if err != nil {
		return err
	}
	if err := c.record(ctx, v, "batches."+string(control), b.Batch); err != nil {
		return err
	}
	if _, err = c.operator.Steer(ctx, b, control); err != nil {
		return cancelledBatch(err)
	}
	return v.done("/batch", url.Values{"name": {b.Batch}}, did)
}

// cancelledBatch explains the error of a change that a cancelled batch does not permit.
func cancelledBatch(err error) error {
	if _, ok := errors.AsType[*tasks.CancelledError](err); ok {
		return &pageError{http.StatusConflict, "The batch was cancelled", "A cancelled batch cannot be paused, resumed or retried."}
	}
	return err
}

// actionTimeout limits how long a page works through the requests of a batch.
const actionTimeout = 20 * time.Second

// cancelBatch cancels a batch. Its requests that time does not allow to end here are ended
// by the workers.
func (c *Console) cancelBatch(ctx context.Context, v *visit) error {
	name := v.r.PostFormValue("name")
	if err := v.confirmed(name); err != nil {
		return err
	}
	b, err := c.batchOf(ctx, name)
	if err != nil {
		return err
	}
	if err := c.record(ctx, v, "batches.cancel", b.Batch); err != nil {
		return err
	}
	ctx, cancel := c.long(v, actionTimeout)
	defer cancel()
	if now, _, err := c.operator.CancelBatch(ctx, b); err != nil && now.Status != batch.Cancelled {
		return err
	}
	return v.done("/batch", url.Values{"name": {b.Batch}}, "batch_cancel")
}
