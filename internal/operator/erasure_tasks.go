package operator

import (
	"context"
	"slices"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// earlierTurns is how many turns and runs before the latest may still have a task: one
// that was promoted, released or cancelled while it was queued.
const earlierTurns = 20

// deleteTurns deletes the tasks that the turns of requests may still have, and returns
// these turns.
func (e *Erasure) deleteTurns(ctx context.Context, found []request.Record, busy map[string]bool) (refs []request.Ref, err error) {
	var tasks, owners []string
	for _, r := range found {
		for _, ref := range turns(r) {
			refs = append(refs, ref)
			tasks, owners = append(tasks, ref.String()), append(owners, r.ApplicationID)
		}
	}
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		if err := e.deleteFrom(ctx, lane, tasks, owners, busy); err != nil {
			return nil, err
		}
	}
	return refs, e.removeFromBundles(ctx, found, busy)
}

// removeFromBundles replaces the bundles that name one of the requests by bundles of the
// other turns. If it is interrupted in between, the workers' recovery enqueues these.
func (e *Erasure) removeFromBundles(ctx context.Context, found []request.Record, busy map[string]bool) error {
	queue := asynqx.NewQueue(e.operator.rdb, e.operator.account, request.Bundles)
	bundles, err := queue.Messages(ctx)
	if err != nil || len(bundles) == 0 {
		return err
	}
	erased := make(map[string]bool, len(found))
	for _, r := range found {
		erased[r.ApplicationID] = true
	}
	for id, bundle := range bundles {
		turns, _ := linktask.Bundled(bundle.Payload())
		var named []string
		others := slices.DeleteFunc(turns, func(turn request.Ref) bool {
			if erased[turn.ApplicationID] {
				named = append(named, turn.ApplicationID)
			}
			return erased[turn.ApplicationID]
		})
		switch {
		case len(named) == 0:
		case queue.Delete(id) != nil:
			for _, id := range named {
				busy[id] = true
			}
		default:
			e.erased.Tasks += len(named)
			if len(others) == 0 {
				continue
			}
			if err := linktask.EnqueueBundle(ctx, e.operator.queue, e.operator.account, others); err != nil {
				return err
			}
		}
	}
	return nil
}

// turns are those of a request that may still have a task.
func turns(r request.Record) (refs []request.Ref) {
	for run := max(1, r.Run-earlierTurns); run <= r.Run; run++ {
		for turn := max(0, r.Turn-earlierTurns); turn <= r.Turn; turn++ {
			refs = append(refs, request.Ref{ApplicationID: r.ApplicationID, Generation: r.Generation, Run: run, Turn: turn})
		}
	}
	return refs
}

// deleteDeliveries deletes the tasks of deliveries.
func (e *Erasure) deleteDeliveries(ctx context.Context, found []request.Record, busy map[string]bool) error {
	ids := make([]string, len(found))
	for i, r := range found {
		ids[i] = r.ApplicationID
	}
	events, err := e.operator.stores.Deliveries.EventIDs(ctx, ids)
	if err != nil {
		return err
	}
	var tasks, owners []string
	for i, id := range ids {
		for _, event := range events[i] {
			tasks, owners = append(tasks, event), append(owners, id)
		}
	}
	return e.deleteFrom(ctx, request.Callbacks, tasks, owners, busy)
}

// deleteFrom deletes those of the tasks that exist. It marks the owner of a task as busy
// if a worker handles the task, which finishes its attempt.
func (e *Erasure) deleteFrom(ctx context.Context, lane request.Lane, tasks, owners []string, busy map[string]bool) error {
	queue := asynqx.NewQueue(e.operator.rdb, e.operator.account, lane)
	states, err := queue.States(ctx, tasks)
	if err != nil {
		return err
	}
	for i, task := range tasks {
		switch {
		case states[i] == "":
		case queue.Delete(task) != nil:
			busy[owners[i]] = true
		default:
			e.erased.Tasks++
		}
	}
	return nil
}
