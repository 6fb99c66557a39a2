package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// actionTimeout limits how long one HTTP request processes the requests of a batch, which
// may have a million.
const actionTimeout = 20 * time.Second

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
	// More reports that time ran out before all requests were retried. The workers continue.
	More bool `json:"more"`
	// Action is the ID of the action that retries them; "" if no request had failed.
	Action string `json:"action,omitempty"`
}

// retryBatch starts a new run of the failed requests of a batch: it starts an action, or finds
// the one that an earlier request has started, and carries it out as far as time allows.
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
	limited, done := context.WithTimeout(ctx, actionTimeout)
	defer done()
	did, err := a.retryAll(limited, c, action.Request{
		Kind: action.RetryFailed, Filter: action.Filter{Batch: b.Batch, Reason: string(reason)},
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, did)
}

// retryAll carries out an action until ctx is done. If one with the same filter is running,
// it follows that first: requests that failed after its start are not part of it.
func (a *API) retryAll(ctx context.Context, c *call, r action.Request) (did retried, err error) {
	running, ok, err := a.actions.Running(ctx, r)
	if err != nil {
		return did, err
	}
	if ok {
		if did, err = a.followRetry(ctx, running); err != nil || did.More {
			return did, err
		}
	}
	started, ok, err := a.startAction(ctx, c, r)
	if err != nil || !ok {
		return did, err
	}
	rest, err := a.followRetry(ctx, started)
	rest.Retried += did.Retried
	return rest, err
}

// followRetry follows an action until it ends or ctx is done.
func (a *API) followRetry(ctx context.Context, before action.Action) (retried, error) {
	now, err := a.runner.Follow(ctx, before.ID, func(action.Action) {})
	if err != nil && ctx.Err() == nil {
		return retried{}, err
	}
	return retried{now.Counts.Done - before.Counts.Done, !now.Ended(), now.ID}, nil
}

// startAction plans and starts an action, or finds the running one of the same entries; ok is
// false if nothing matches.
func (a *API) startAction(ctx context.Context, c *call, r action.Request) (started action.Action, ok bool, err error) {
	plan, err := a.actions.Plan(ctx, r)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return started, false, tooManyMatch()
	}
	if err != nil || plan.Count == 0 {
		return started, false, err
	}
	started, err = a.actions.Start(ctx, plan, plan.Token, c.key.Name)
	if same, ok := errors.AsType[*action.SameError](err); ok {
		return a.actions.Get(ctx, same.ID)
	}
	return started, err == nil, notStarted(err)
}
