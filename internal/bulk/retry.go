package bulk

import (
	"context"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// retry starts what [Job.RetryFailed] and [Job.RetryHeld] ask for. It goes through
// the rows, not through the batch: what no row asks for any more, or is refused for,
// is left alone.
func (j *Job) retry(ctx context.Context) error {
	states := map[tasks.Status]bool{tasks.Failed: j.RetryFailed, tasks.Held: j.RetryHeld}
	if j.RetryHeld && j.Retrying != nil {
		held := newIDs()
		err := j.eachStopped(ctx, map[tasks.Status]bool{tasks.Held: true}, func(l tasks.Link) error {
			held.add(l.ApplicationID)
			return nil
		})
		if err != nil {
			return err
		}
		j.Retrying(len(held.hashes))
	}
	if !j.RetryFailed && !j.RetryHeld {
		return nil
	}
	return j.eachStopped(ctx, states, func(l tasks.Link) error {
		return j.insist(ctx, func() error { return j.again(ctx, l) })
	})
}

// eachStopped calls do for the requests of rows that are in one of the states.
func (j *Job) eachStopped(ctx context.Context, states map[tasks.Status]bool, do func(tasks.Link) error) error {
	return j.eachPage(ctx, func(page []Row) error {
		answers, err := j.look(ctx, page)
		if err != nil {
			return err
		}
		for i, a := range answers {
			if a.Err != nil || page[i].linked != nil || !states[a.Link.Status] {
				continue
			}
			if err := do(a.Link); err != nil {
				return err
			}
		}
		return nil
	})
}

// again lets the request go on where the generation is the latest and still in the
// same state. One that is queued then has its task when its row is accepted.
func (j *Job) again(ctx context.Context, l tasks.Link) error {
	r, ok, err := j.Book.Get(ctx, l.ApplicationID)
	if err != nil || !ok || r.State != request.State(l.Status) || r.Generation != l.Generation {
		return err
	}
	_, _, err = j.Book.Again(ctx, r)
	return err
}
