package operator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/request"
)

// Batch reads a batch by its name.
func (o *Operator) Batch(ctx context.Context, name string) (batch.Batch, error) {
	number, err := o.BatchNumber(ctx, name)
	if err != nil {
		return batch.Batch{}, err
	}
	b, ok, err := o.stores.Batches.Get(ctx, number)
	if err == nil && !ok {
		err = fmt.Errorf("batch %q: its counters are missing in Redis, so that it can no longer be used", name)
	}
	return b, err
}

// suggestions is how many names are offered where one is unknown.
const suggestions = 5

// BatchNumber returns the number of a batch, or an error that names similar batches.
func (o *Operator) BatchNumber(ctx context.Context, name string) (int, error) {
	number, known, err := o.stores.Batches.Number(ctx, name)
	if err != nil || known {
		return number, err
	}
	names, err := o.stores.Batches.Names(ctx)
	if err != nil {
		return 0, err
	}
	if len(names) == 0 {
		return 0, fmt.Errorf("there is no batch %q in account %q, nor any other", name, o.account)
	}
	slices.Sort(names)
	names = slices.DeleteFunc(names, func(other string) bool { return !similar(name, other) })
	if len(names) == 0 {
		return 0, fmt.Errorf("there is no batch %q in account %q; kyclink batch list shows the existing ones", name, o.account)
	}
	names = names[:min(len(names), suggestions)]
	for i, n := range names {
		names[i] = fmt.Sprintf("%q", n)
	}
	return 0, fmt.Errorf("there is no batch %q in account %q; did you mean %s?", name, o.account, strings.Join(names, " or "))
}

// similar reports whether one name contains the other, or differs from it in one place
// by at most two bytes.
func similar(typed, name string) bool {
	a, b := strings.ToLower(typed), strings.ToLower(name)
	if len(a) >= 3 && strings.Contains(b, a) || len(b) >= 3 && strings.Contains(a, b) {
		return true
	}
	head := 0
	for head < min(len(a), len(b)) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < min(len(a), len(b))-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	return max(len(a), len(b))-head-tail <= min(2, len(b)/2)
}

// Batches reads all batches, the oldest first.
func (o *Operator) Batches(ctx context.Context) ([]batch.Batch, error) {
	return o.stores.Batches.All(ctx)
}

// Steer pauses or resumes a batch, and returns its new state.
func (o *Operator) Steer(ctx context.Context, b batch.Batch, control batch.Control) (batch.Batch, error) {
	err := o.stores.Batches.Control(ctx, b, control)
	if err == nil {
		b, _, err = o.stores.Batches.Get(ctx, b.Number)
	}
	return b, err
}

// CancelBatch cancels a batch, and ends its requests that have no link. It returns how many
// requests it ended, also with an error, and the batch's new state. If it is interrupted,
// workers end the rest. A batch that is done stays done.
func (o *Operator) CancelBatch(ctx context.Context, b batch.Batch) (now batch.Batch, cancelled int, err error) {
	now, err = o.Steer(ctx, b, batch.Cancel)
	if err != nil || now.Status != batch.Cancelled {
		return now, 0, err
	}
	err = o.stores.Batches.CancelRequests(ctx, b.Number, func(ended int) { cancelled += ended })
	if err == nil {
		now, _, err = o.stores.Batches.Get(ctx, b.Number)
	}
	return now, cancelled, err
}

// ErrPast is the error of [Operator.RefreshBatch] for a not_after that has passed.
var ErrPast = errors.New("not_after has passed already")

// Expired counts the requests of a batch whose link has expired.
func (o *Operator) Expired(ctx context.Context, b batch.Batch) (n int, err error) {
	err = o.eachExpired(ctx, b, func(page []request.Record) error {
		n += len(page)
		return nil
	})
	return n, err
}

// RefreshBatch requests the next generation of each request of a batch whose link has
// expired. It returns how many it requested, also with an error. notAfter may be zero.
func (o *Operator) RefreshBatch(ctx context.Context, b batch.Batch, notAfter time.Time) (refreshed int, err error) {
	err = o.eachExpired(ctx, b, func(page []request.Record) error {
		ids, err := o.stores.Batches.Refresh(ctx, b.Number, page, notAfter)
		refreshed += len(ids)
		return err
	})
	return refreshed, err
}

// CheckRefresh refuses to refresh a cancelled batch, and a not_after that has passed.
func (o *Operator) CheckRefresh(ctx context.Context, b batch.Batch, notAfter time.Time) error {
	if b.Status == batch.Cancelled {
		return fmt.Errorf("batch %q is cancelled, and accepts no new generations; ask for single ones with kyclink request --generation", b.Batch)
	}
	now, err := o.Now(ctx)
	if err == nil && !notAfter.IsZero() && !notAfter.After(now) {
		err = ErrPast
	}
	return err
}

func (o *Operator) eachExpired(ctx context.Context, b batch.Batch, do func([]request.Record) error) error {
	now, err := o.Now(ctx)
	if err != nil {
		return err
	}
	for page, err := range o.stores.Batches.Requests(ctx, b.Number) {
		page = slices.DeleteFunc(page, func(r request.Record) bool { return !batch.LinkExpired(r, now) })
		if err == nil {
			err = do(page)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// CheckBatch counts a batch again from its rows and their records.
func (o *Operator) CheckBatch(ctx context.Context, b batch.Batch) (batch.Recount, error) {
	c, err := o.stores.Batches.Recount(ctx, b.Number)
	if err != nil {
		return c, fmt.Errorf("batch %q: %w", b.Batch, err)
	}
	return c, nil
}

// watchInterval is how often [Operator.WatchBatch] reads.
const watchInterval = time.Second

// ErrBatchErased is the error of [Operator.WatchBatch] for a batch that was erased.
var ErrBatchErased = errors.New("the batch no longer exists")

// WatchBatch reads a batch once a second until it is done or cancelled, and returns it. It
// calls show with each reading and its diagnosis, and failed with the error of each reading
// that fails, which it repeats.
func (o *Operator) WatchBatch(ctx context.Context, b batch.Batch, show func(batch.Batch, diagnosis.Diagnosis), failed func(error)) (batch.Batch, error) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		if d, err := o.DiagnoseBatch(ctx, b); err == nil {
			show(b, d)
		}
		if b.Finished() {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-tick.C:
		}
		now, ok, err := o.stores.Batches.Get(ctx, b.Number)
		switch {
		case ctx.Err() != nil:
			return b, ctx.Err()
		case err != nil:
			failed(err)
		case !ok:
			return b, ErrBatchErased
		default:
			b = now
		}
	}
}
