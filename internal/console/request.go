package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// requestData is one request.
type requestData struct {
	operator.History
	Now      time.Time
	Steps    []step // the latest ones
	Earlier  int    // further steps
	HasLink  bool
	Revealed bool // the page shows the link
}

// LatestDeliveries are those that the page shows.
func (d requestData) LatestDeliveries() []operator.Delivery {
	return d.Deliveries[max(0, len(d.Deliveries)-mostDeliveries):]
}

// Open reports whether the request can be cancelled.
func (d requestData) Open() bool { return !d.Status.Ended() }

// CanRetry reports whether the request waits for a person.
func (d requestData) CanRetry() bool { return d.Status == tasks.Failed || d.Status == tasks.Held }

func unknownRequest(id string) error {
	return &pageError{http.StatusNotFound, "No such request", "There is no request " + quoted(id) + ". It was never accepted, or has been erased."}
}

func (c *Console) requestPage(ctx context.Context, v *visit) error {
	return c.showRequest(ctx, v, false)
}

// showRequest shows a request, and its link only if it is to be revealed.
func (c *Console) showRequest(ctx context.Context, v *visit, reveal bool) error {
	id := v.r.FormValue("id")
	h, err := c.operator.History(ctx, id)
	if errors.Is(err, tasks.ErrNotFound) || id == "" {
		return unknownRequest(id)
	}
	if err != nil {
		return err
	}
	now, err := c.operator.Now(ctx)
	if err != nil {
		return err
	}
	d := requestData{History: h, Now: now, HasLink: h.URL != "", Revealed: reveal}
	if !reveal { // nothing that a template does can show them then
		d.conceal()
	}
	d.Steps = d.timeline()
	d.Earlier = max(0, len(d.Steps)-mostSteps)
	d.Steps = d.Steps[d.Earlier:]
	return c.show(v, http.StatusOK, "request", "Request "+id, d)
}

// conceal removes all links and their IDs.
func (d *requestData) conceal() {
	d.URL, d.LinkID = "", ""
	for i := range d.Generations {
		d.Generations[i].URL, d.Generations[i].LinkID = "", ""
	}
	for i := range d.Runs {
		d.Runs[i].URL, d.Runs[i].LinkID = "", ""
	}
}

// revealLink shows a request with its link, which is recorded.
func (c *Console) revealLink(ctx context.Context, v *visit) error {
	id := v.r.PostFormValue("id")
	if _, err := c.recordOf(ctx, id); err != nil {
		return err
	}
	if err := c.record(ctx, v, "links.reveal", id); err != nil {
		return err
	}
	return c.showRequest(ctx, v, true)
}

// recordOf reads the latest generation of a request.
func (c *Console) recordOf(ctx context.Context, id string) (request.Record, error) {
	r, ok, err := c.Stores.Records.Get(ctx, id)
	if err == nil && !ok {
		err = unknownRequest(id)
	}
	return r, err
}

var errChanged = &pageError{http.StatusConflict, "The request has changed", "Meanwhile the request came to another state, so that nothing was changed. Go back and look at it again."}

// retryRequest starts a new run of a failed request, or continues a held one.
func (c *Console) retryRequest(ctx context.Context, v *visit) error {
	return c.act(ctx, v, "retry", "retried", c.operator.Retry)
}

// dropRequest cancels a held request, or removes a failed one from the list of failed
// requests.
func (c *Console) dropRequest(ctx context.Context, v *visit) error {
	if err := v.confirmed(v.r.PostFormValue("id")); err != nil {
		return err
	}
	return c.act(ctx, v, "drop", "dropped", func(ctx context.Context, r request.Record) (request.Record, bool, error) {
		if r.State == request.Held {
			return c.operator.Drop(ctx, r)
		}
		return c.operator.Hide(ctx, r)
	})
}

// act applies an operator action to a failed or held request.
func (c *Console) act(ctx context.Context, v *visit, action, did string, do func(context.Context, request.Record) (request.Record, bool, error)) error {
	r, err := c.recordOf(ctx, v.r.PostFormValue("id"))
	if err != nil {
		return err
	}
	if r.State != request.Failed && r.State != request.Held || string(r.State) != v.r.PostFormValue("state") {
		return errChanged
	}
	if err := c.record(ctx, v, string(r.State)+"."+action, r.ApplicationID); err != nil {
		return err
	}
	_, changed, err := do(ctx, r)
	if err != nil {
		return err
	}
	if !changed {
		return errChanged
	}
	return v.done("/request", url.Values{"id": {r.ApplicationID}}, did)
}

// cancelTries is how often a cancel is tried if the request changes meanwhile.
const cancelTries = 5

// cancelRequest cancels a request. A request in a call ends with the call's answer.
func (c *Console) cancelRequest(ctx context.Context, v *visit) error {
	id := v.r.PostFormValue("id")
	if err := v.confirmed(id); err != nil {
		return err
	}
	if _, err := c.recordOf(ctx, id); err != nil { // the audit trail must not get the ID of an erased request
		return err
	}
	if err := c.record(ctx, v, "links.cancel", id); err != nil {
		return err
	}
	for range cancelTries {
		r, err := c.recordOf(ctx, id)
		if err != nil {
			return err
		}
		state, err := c.Stores.Requests.Cancel(ctx, r)
		if err != nil {
			return err
		}
		query := url.Values{"id": {id}}
		switch state { //nolint:exhaustive // a cancel leaves no other state
		case request.Cancelled:
			return v.done("/request", query, "cancelled")
		case request.Calling:
			return v.done("/request", query, "cancel_asked")
		case request.Created, request.Failed:
			return errChanged
		}
	}
	return errChanged
}

// forgetTimeout is for the search of the streams and the audit trail for a name.
const forgetTimeout = 2 * time.Minute

// forgetRequest erases a request and everything that names it.
func (c *Console) forgetRequest(ctx context.Context, v *visit) error {
	id := v.r.PostFormValue("id")
	if err := v.confirmed(id); err != nil {
		return err
	}
	if _, err := c.recordOf(ctx, id); err != nil {
		return err
	}
	// The audit trail must not keep the ID.
	if err := c.record(ctx, v, "links.erase", "1 id"); err != nil {
		return err
	}
	ctx, cancel := c.long(v, forgetTimeout)
	defer cancel()
	erasure, err := c.operator.Erasure(ctx, []string{id}, "")
	if err == nil {
		err = erasure.Run(ctx)
	}
	if _, skipped := errors.AsType[*operator.SkippedError](err); skipped {
		return &pageError{http.StatusConflict, "Not erased yet", "The request is being called, or a worker handles it. It was cancelled; erase it in a few seconds."}
	}
	if err != nil {
		return err
	}
	return v.done("/requests", nil, "forgotten")
}

// long returns a context for an action that takes longer than a page. It goes on if the
// browser leaves.
func (c *Console) long(v *visit, limit time.Duration) (context.Context, context.CancelFunc) {
	_ = http.NewResponseController(v.w).SetReadDeadline(time.Time{}) // test recorders have no deadline
	return context.WithTimeout(context.WithoutCancel(v.r.Context()), limit)
}
