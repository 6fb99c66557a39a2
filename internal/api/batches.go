package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// actFor is how long one request acts on a batch's requests, one after the other.
// There may be a million.
const actFor = 20 * time.Second

// retriers is how many requests are tried again at a time.
const retriers = 16

// How many batches an answer lists, where nothing else is asked for, and at most.
const (
	usualBatches = 100
	mostBatches  = 1000
)

// listBatches gives one page. A cursor is the number of the last batch that was given:
// numbers only grow, so that no batch is passed over or given twice.
func (a *API) listBatches(c *call) error {
	if err := c.noBody("limit", "cursor"); err != nil {
		return err
	}
	limit, after, query := usualBatches, 0, c.r.URL.Query()
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostBatches {
			return unreadable("limit", fmt.Sprintf("must be a whole number from 1 to %d", mostBatches))
		}
	}
	if text := query.Get("cursor"); text != "" {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			after, err = strconv.Atoi(string(raw))
		}
		if err != nil || after < 1 || cursor(after) != text {
			return unreadable("cursor", "must be the next of an earlier answer")
		}
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	batches, more, err := a.Ledger.BatchesAfter(ctx, after, limit)
	if err != nil {
		return err
	}
	page := batchPage{Batches: batches}
	if more {
		page.Next = cursor(batches[len(batches)-1].Number)
	}
	return c.json(http.StatusOK, page)
}

// batchPage is a part of the list of batches.
type batchPage struct {
	Batches []batch.Batch `json:"batches"`
	Next    string        `json:"next,omitempty"` // cursor of what follows
}

func cursor(number int) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(number)))
}

func (a *API) getBatch(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	b, err := a.batch(ctx, c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, b)
}

// batch is the one that the path names.
func (a *API) batch(ctx context.Context, c *call) (batch.Batch, error) {
	name := c.r.PathValue("id")
	number, known, err := a.Ledger.BatchNumber(ctx, name)
	if err != nil {
		return batch.Batch{}, err
	}
	if known {
		var b batch.Batch
		if b, known, err = a.Ledger.Batch(ctx, number); err != nil || known {
			return b, err
		}
	}
	return batch.Batch{}, notFound(fmt.Sprintf("there is no batch %q", legible.Shorten(name)))
}

// steerBatch is what changes nothing but the batch itself.
func (a *API) steerBatch(control batch.Control) func(*call) error {
	return func(c *call) error {
		if err := c.noBody(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.r.Context(), a.within)
		defer cancel()
		b, err := a.steer(ctx, c, control)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, b)
	}
}

// steer gives the batch as it is then.
func (a *API) steer(ctx context.Context, c *call, control batch.Control) (batch.Batch, error) {
	b, err := a.batch(ctx, c)
	if err != nil {
		return b, err
	}
	if err := a.enter(ctx, c, "batches."+string(control), b.Batch); err != nil {
		return b, err
	}
	if err := a.Ledger.Steer(ctx, b, control); err != nil {
		return b, err
	}
	return a.batch(ctx, c)
}

// cancelBatch holds at once for all that was not called, and ends as many as there
// is time for; the workers end the rest.
func (a *API) cancelBatch(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	steering, steered := context.WithTimeout(c.r.Context(), a.within)
	defer steered()
	b, err := a.steer(steering, c, batch.Cancel)
	if err != nil {
		return err
	}
	if b.Status != batch.Cancelled { // it was done
		return c.json(http.StatusOK, b)
	}
	alive, stop := a.underway(c)
	defer stop(nil)
	ending, over := context.WithTimeout(alive, actFor)
	defer over()
	if err := a.Ledger.CallOff(ending, b.Number, func(int) {}); err != nil && (alive.Err() != nil || ending.Err() == nil) {
		return err
	}
	showing, shown := context.WithTimeout(c.r.Context(), a.within)
	defer shown()
	if b, err = a.batch(showing, c); err != nil {
		return err
	}
	return c.json(http.StatusOK, b)
}

// retried is what a retry did.
type retried struct {
	Retried int `json:"retried"`
	// More says that the time was over before all were tried again.
	More bool `json:"more"`
}

// retryBatch starts a new run of failed requests of a batch.
func (a *API) retryBatch(c *call) error {
	if err := c.noBody("reason"); err != nil {
		return err
	}
	reason := fault.Reason(c.r.URL.Query().Get("reason"))
	if reason != "" && !slices.Contains(fault.Ends(), reason) {
		return unreadable("reason", fmt.Sprintf("no request fails for it; use one of %v", fault.Ends()))
	}
	looking, cancel := context.WithTimeout(c.r.Context(), a.within)
	defer cancel()
	b, err := a.batch(looking, c)
	switch {
	case err != nil:
		return err
	case b.Status == batch.Cancelled:
		return &tasks.CancelledError{Batch: b.Batch}
	}
	if err := a.enter(looking, c, "batches.retry", b.Batch); err != nil {
		return err
	}
	alive, stop := a.underway(c)
	defer stop(nil)
	did, err := a.retry(alive, b, reason)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, did)
}

// retry takes what failed until now, so that it ends. A request that was begun is
// seen through.
func (a *API) retry(ctx context.Context, b batch.Batch, reason fault.Reason) (did retried, err error) {
	looking, cancel := context.WithTimeout(ctx, a.within)
	defer cancel()
	now, err := a.Ledger.Keys().Clock(looking, a.Redis).Time()
	if err != nil {
		return did, err
	}
	going, stop := context.WithTimeout(ctx, actFor)
	defer stop()
	var n atomic.Int64
	for page, err := range a.Ledger.Shelved(going, request.Failed, time.Time{}, now.Add(time.Millisecond)) {
		if err == nil {
			group, grouped := errgroup.WithContext(going)
			group.SetLimit(retriers)
			for _, r := range page {
				if r.Batch != b.Number || reason != "" && r.Outcome.Reason != string(reason) || grouped.Err() != nil {
					continue
				}
				group.Go(func() error { return a.again(ctx, r, &n) })
			}
			err = errors.Join(group.Wait(), going.Err())
		}
		did = retried{int(n.Load()), going.Err() != nil}
		if err != nil && !did.More || ctx.Err() != nil {
			return did, err
		}
		if did.More {
			break
		}
	}
	return did, nil
}

// again starts one request anew. Where its task is lost, the sweep of the workers
// enqueues it.
func (a *API) again(ctx context.Context, r request.Record, n *atomic.Int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.within)
	defer cancel()
	now, ok, err := a.Ledger.Again(ctx, r)
	if err == nil && ok {
		n.Add(1)
		if now.State == request.Queued {
			err = a.Dispatch(ctx, now.Lane, now.Ref())
		}
	}
	return err
}
