package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// getHistory returns everything that is known about a request.
func (a *API) getHistory(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	id, _, err := c.pathID("")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	h, err := a.operator.History(ctx, id)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, h)
}

// retryLink starts a new run of a failed request, or continues a held one.
func (a *API) retryLink(c *call) error {
	link, err := a.actOnLink(c, "retry", func(ctx context.Context, r request.Record) (bool, error) {
		_, changed, err := a.operator.Retry(ctx, r)
		if err != nil && r.State == request.Held { // a repeat may pay for another link
			p := unavailable(err)
			p.Detail = storeFailed + "; read the state of the request before you retry it again"
			return false, p
		}
		return changed, err
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusAccepted, a.unended(c, link))
}

// dropLink cancels a held request, and hides a failed one from the list of failed requests.
func (a *API) dropLink(c *call) error {
	link, err := a.actOnLink(c, "drop", func(ctx context.Context, r request.Record) (bool, error) {
		if r.State == request.Held {
			_, changed, err := a.operator.Drop(ctx, r)
			return changed, err
		}
		_, changed, err := a.operator.Hide(ctx, r)
		if err != nil || changed {
			return changed, err
		}
		now, ok, err := a.Stores.Records.Get(ctx, r.ApplicationID)
		hidden := ok && now.State == r.State && now.Generation == r.Generation && now.Run == r.Run
		return hidden, err
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, link)
}

// actOnLink changes a failed or held request, and returns its link. It repeats do, which
// reports whether it changed the request, if the request changes meanwhile.
func (a *API) actOnLink(c *call, name string, do func(context.Context, request.Record) (bool, error)) (link tasks.Link, err error) {
	if err := c.noBody(); err != nil {
		return link, err
	}
	id, _, err := c.pathID("")
	if err != nil {
		return link, err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	recorded := ""
	for range cancelTries {
		r, ok, err := a.Stores.Records.Get(ctx, id)
		switch {
		case err != nil:
			return link, err
		case !ok:
			return link, tasks.ErrNotFound
		case r.State != request.Failed && r.State != request.Held:
			return link, wrongState(fmt.Sprintf("%s is %s; only failed and held requests can be retried or dropped", id, r.State))
		}
		if action := string(r.State) + "." + name; action != recorded {
			if err := a.record(ctx, c, action, id); err != nil {
				return link, err
			}
			recorded = action
		}
		changed, err := do(ctx, r)
		if err != nil {
			return link, err
		}
		if changed {
			link, err = readLink(ctx, a.Client, id, r.Generation)
			return c.visible(link), err
		}
	}
	return link, unavailable(errors.New("the request kept changing"))
}

// replayed is the response to a replay.
type replayed struct {
	Published int `json:"published"`
}

// replayLink publishes the ends of a request again. It does not wait for slow consumers.
func (a *API) replayLink(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	id, _, err := c.pathID("")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	link, err := readLink(ctx, a.Client, id, 0)
	if err != nil {
		return err
	}
	if err := a.record(ctx, c, "results.replay", id); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	replay := operator.Replay{
		Selection: operator.Selection{IDs: []string{id}}, Limit: rate.NewLimiter(rate.Inf, operator.ReplayBurst),
		Progress: func(int) {}, Waiting: func(group string, n int) { stop(groupBehind(group, n)) },
	}
	published, _, err := replay.Run(ctx, a.operator)
	if behind, ok := errors.AsType[*problem](context.Cause(ctx)); ok {
		return behind
	}
	if err != nil {
		return err
	}
	if published == 0 {
		return wrongState(fmt.Sprintf("%s is %s, and no run of it has ended: there is no event to publish again", id, link.Status))
	}
	return c.json(http.StatusOK, replayed{published})
}

// groupBehind is the response to a replay that could remove events from the results stream
// that a group has not acknowledged.
func groupBehind(group string, unacknowledged int) *problem {
	p := newProblem(http.StatusServiceUnavailable, unavailableReason, "Consumer group behind", fmt.Sprintf(
		"group %q has %d events to acknowledge, and publishing more could remove some of them from the stream; try again when it has", group, unacknowledged))
	p.retryAfter = 10 * time.Second
	return p
}
