package operator

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
)

// earlierTurns is how many turns and runs before the latest may still have a task: one
// that was promoted, released or cancelled while it was queued.
const earlierTurns = 20

// deleteTurns deletes the tasks that the turns of requests may still have, and returns
// the turns that have had one.
func (e *Erasure) deleteTurns(ctx context.Context, found []request.Record, busy map[string]bool) ([]request.Ref, error) {
	keys := e.operator.ledger.Keys()
	type task struct {
		ref  request.Ref
		lane request.Lane
	}
	states := map[task]*redis.StringCmd{}
	if _, err := e.operator.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, r := range found {
			for _, ref := range turns(r) {
				for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
					states[task{ref, lane}] = pipe.HGet(ctx, "asynq:{"+keys.Queue(lane)+"}:t:"+ref.String(), "state")
				}
			}
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("find tasks: %w", err)
	}
	refs := map[request.Ref]bool{}
	for t, state := range states {
		refs[t.ref] = true
		if state.Err() == nil && !e.deleteTask(keys.Queue(t.lane), t.ref.String()) {
			busy[t.ref.ApplicationID] = true
		}
	}
	return slices.Collect(maps.Keys(refs)), nil
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
	events, err := e.operator.ledger.DeliveryEvents(ctx, ids)
	if err != nil {
		return err
	}
	queue := e.operator.ledger.Keys().Queue(request.Callbacks)
	for i, id := range ids {
		for _, event := range events[i] {
			if !e.deleteTask(queue, event) {
				busy[id] = true
			}
		}
	}
	return nil
}

// deleteTask deletes a task if it exists. It reports false where a worker handles the
// task, which finishes its attempt.
func (e *Erasure) deleteTask(queue, id string) bool {
	err := e.inspector.DeleteTask(queue, id)
	if err == nil {
		e.erased.Tasks++
	}
	return err == nil || errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound)
}
