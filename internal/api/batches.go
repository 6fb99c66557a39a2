package api

import (
	"context"
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

// actionTimeout limits how long one HTTP request processes the requests of a batch, which
// may have a million.
const actionTimeout = 20 * time.Second

// concurrentRetries is the number of requests that are retried at a time.
const concurrentRetries = 16

// maxBatches is the maximum number of batches on a page.
const maxBatches = 1000

// listBatches returns one page of batches. The cursor is the number of the last batch on
// the page. Numbers only increase, so no batch is skipped or repeated.
func (a *API) listBatches(c *call) error {
	if err := c.noBody("limit", "cursor"); err != nil {
		return err
	}
	limit, err := c.pageSize(maxBatches)
	if err != nil {
		return err
	}
	after, err := c.number()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	batches, more, err := a.Stores.Batches.After(ctx, after, limit)
	if err != nil {
		return err
	}
	page := batchPage{Batches: batches}
	if more {
		page.Next = cursor(strconv.Itoa(batches[len(batches)-1].Number))
	}
	return c.json(http.StatusOK, page)
}

// batchPage is one page of the list of batches.
type batchPage struct {
	Batches []batch.Batch `json:"batches"`
	Next    string        `json:"next,omitempty"` // the cursor of the next page
}

func (a *API) getBatch(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	b, err := a.batch(ctx, c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, b)
}

// batch returns the batch that the path names.
func (a *API) batch(ctx context.Context, c *call) (batch.Batch, error) {
	name := c.r.PathValue("id")
	number, known, err := a.Stores.Batches.Number(ctx, name)
	if err != nil {
		return batch.Batch{}, err
	}
	if known {
		var b batch.Batch
		if b, known, err = a.Stores.Batches.Get(ctx, number); err != nil || known {
			return b, err
		}
	}
	return batch.Batch{}, notFound(fmt.Sprintf("there is no batch %q", legible.Shorten(name)))
}

// controlBatch returns the handler of a control that changes only the batch itself.
func (a *API) controlBatch(control batch.Control) func(*call) error {
	return func(c *call) error {
		if err := c.noBody(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
		defer cancel()
		b, err := a.applyControl(ctx, c, control)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, b)
	}
}

// applyControl applies a control to the batch that the path names, and returns the changed
// batch.
func (a *API) applyControl(ctx context.Context, c *call, control batch.Control) (batch.Batch, error) {
	b, err := a.batch(ctx, c)
	if err != nil {
		return b, err
	}
	if err := a.record(ctx, c, "batches."+string(control), b.Batch); err != nil {
		return b, err
	}
	if err := a.Stores.Batches.Control(ctx, b, control); err != nil {
		return b, err
	}
	return a.batch(ctx, c)
}

// cancelBatch cancels a batch: from then on, FaceKi is not called for its requests. It ends
// as many of them as time allows; the workers end the rest.
func (a *API) cancelBatch(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	controlling, cancelControlling := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancelControlling()
	b, err := a.applyControl(controlling, c, batch.Cancel)
	if err != nil {
		return err
	}
	if b.Status != batch.Cancelled { // the batch is done
		return c.json(http.StatusOK, b)
	}
	ctx, stop := a.longCall(c)
	defer stop(nil)
	ending, endingDone := context.WithTimeout(ctx, actionTimeout)
	defer endingDone()
	if err := a.Stores.Batches.CancelRequests(ending, b.Number, func(int) {}); err != nil && (ctx.Err() != nil || ending.Err() == nil) {
		return err
	}
	showing, cancelShowing := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancelShowing()
	if b, err = a.batch(showing, c); err != nil {
		return err
	}
	return c.json(http.StatusOK, b)
}

// retried is the response to a retry.
type retried struct {
	Retried int `json:"retried"`
	// More reports that time ran out before all requests were retried.
	More bool `json:"more"`
}

// retryBatch starts a new run of the failed requests of a batch.
func (a *API) retryBatch(c *call) error {
	if err := c.noBody("reason"); err != nil {
		return err
	}
	reason := fault.Reason(c.r.URL.Query().Get("reason"))
	if reason != "" && !slices.Contains(fault.Ends(), reason) {
		return malformed("reason", fmt.Sprintf("is not a reason for which requests fail; use one of %v", fault.Ends()))
	}
	reading, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	b, err := a.batch(reading, c)
	switch {
	case err != nil:
		return err
	case b.Status == batch.Cancelled:
		return &tasks.CancelledError{Batch: b.Batch}
	}
	if err := a.record(reading, c, "batches.retry", b.Batch); err != nil {
		return err
	}
	ctx, stop := a.longCall(c)
	defer stop(nil)
	did, err := a.retry(ctx, b, reason)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, did)
}

// retry retries the requests that had failed when it began; with later failures, it might
// never end. When time runs out, it completes the retries in progress.
func (a *API) retry(ctx context.Context, b batch.Batch, reason fault.Reason) (did retried, err error) {
	reading, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	now, err := a.Stores.Keys.Clock(reading, a.Redis).Time()
	if err != nil {
		return did, err
	}
	limited, stop := context.WithTimeout(ctx, actionTimeout)
	defer stop()
	var n atomic.Int64
	for page, err := range a.Stores.DeadLetters.Requests(limited, request.Failed, time.Time{}, now.Add(time.Millisecond)) {
		if err == nil {
			group, groupCtx := errgroup.WithContext(limited)
			group.SetLimit(concurrentRetries)
			for _, r := range page {
				if r.Batch != b.Number || reason != "" && r.Outcome.Reason != string(reason) || groupCtx.Err() != nil {
					continue
				}
				group.Go(func() error { return a.retryRequest(ctx, r, &n) })
			}
			err = errors.Join(group.Wait(), limited.Err())
		}
		did = retried{int(n.Load()), limited.Err() != nil}
		if err != nil && !did.More || ctx.Err() != nil {
			return did, err
		}
		if did.More {
			break
		}
	}
	return did, nil
}

// retryRequest starts a new run of one request. If its task cannot be enqueued, the
// workers' recovery enqueues it later.
func (a *API) retryRequest(ctx context.Context, r request.Record, n *atomic.Int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
	defer cancel()
	now, ok, err := a.Stores.Requests.Retry(ctx, r)
	if err == nil && ok {
		n.Add(1)
		if now.State == request.Queued {
			err = a.Dispatch(ctx, now.Lane, now.Ref())
		}
	}
	return err
}
