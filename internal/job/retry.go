package job

import (
	"context"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// retry starts the runs that [Job.RetryFailed] and [Job.RetryHeld] ask for. It goes through
// the rows, not through the batch: requests that no valid row asks for stay as they are.
func (j *Job) retry(ctx context.Context) error {
	states := map[tasks.Status]bool{tasks.Failed: j.RetryFailed, tasks.Held: j.RetryHeld}
	if j.RetryHeld && j.OnRetryHeld != nil {
		held := newIDs()
		err := j.eachLink(ctx, map[tasks.Status]bool{tasks.Held: true}, func(l tasks.Link) error {
			held.add(l.ApplicationID)
			return nil
		})
		if err != nil {
			return err
		}
		j.OnRetryHeld(held.len())
	}
	if !j.RetryFailed && !j.RetryHeld {
		return nil
	}
	return j.eachLink(ctx, states, func(l tasks.Link) error {
		return j.withRetries(ctx, func() error { return j.retryRequest(ctx, l) })
	})
}

// eachLink calls do for the requests of rows that are in one of the states.
func (j *Job) eachLink(ctx context.Context, states map[tasks.Status]bool, do func(tasks.Link) error) error {
	return j.eachPage(ctx, func(page []input.Row) error {
		answers, err := j.lookUp(ctx, page)
		if err != nil {
			return err
		}
		for i, a := range answers {
			if a.Err != nil || page[i].Link != nil || !states[a.Link.Status] {
				continue
			}
			if err := do(a.Link); err != nil {
				return err
			}
		}
		return nil
	})
}

// retryRequest starts a new run of a request if the generation is its latest and
// still in the same state. If it is interactive, its task is enqueued when its row is
// accepted.
func (j *Job) retryRequest(ctx context.Context, l tasks.Link) error {
	r, ok, err := j.Stores.Records.Get(ctx, l.ApplicationID)
	if err != nil || !ok || r.State != request.State(l.Status) || r.Generation != l.Generation {
		return err
	}
	_, _, err = j.Stores.Requests.Retry(ctx, r)
	return err
}
