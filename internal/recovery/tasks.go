package recovery

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/quarantine"
)

const (
	defaultUnclaimed = 5 * time.Second // several heartbeats, which name the handled tasks
	defaultKnownFor  = 5 * time.Second
)

// Handlers says which turns and deliveries have a handler, and whether its process lives.
type Handlers interface {
	Handlers(ctx context.Context) (alive map[string]bool, err error)
}

// Quarantine keeps tasks that cannot be decoded for a person.
type Quarantine interface {
	Add(ctx context.Context, entry quarantine.Entry) error
}

// requeuer returns tasks to their queue.
type requeuer struct {
	quarantine Quarantine
	log        *zap.Logger
}

// requeue lets a task run again, which ends it if its turn is stale. A task that asynq
// cannot decode is quarantined; an id without a message is removed.
func (r *requeuer) requeue(ctx context.Context, q asynqx.Queue, id, kind string, counts Counts) error {
	task, err := q.Message(ctx, id)
	if err != nil {
		return err
	}
	var ok bool
	switch {
	case task.Raw == "":
		ok, err = q.Remove(ctx, id, task)
	case !task.Readable(id):
		kind = Quarantined
		r.log.Warn("undecodable task quarantined", zap.String("task", id), zap.String("queue", q.Name()))
		if err = r.quarantine.Add(ctx, quarantine.Entry{Queue: q.Name(), Task: id, Why: "asynq cannot read the task", Raw: []byte(task.Raw)}); err == nil {
			ok, err = q.Remove(ctx, id, task)
		}
	default:
		ok, err = q.Requeue(ctx, id)
	}
	if ok {
		counts[kind]++
	}
	return err
}

// archived requeues the tasks that asynq archived.
func (r *requeuer) archived(ctx context.Context, q asynqx.Queue, counts Counts) error {
	for range mostPages {
		ids, err := q.Archived(ctx)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := r.requeue(ctx, q, id, Archived, counts); err != nil {
				return err
			}
		}
	}
	return nil
}

// orphans requeues active tasks whose handler died.
type orphans struct {
	handlers  Handlers
	requeuer  *requeuer
	queues    []asynqx.Queue
	knownFor  time.Duration
	unclaimed time.Duration
	seen      map[string]time.Time // active tasks that no process has a handler for, since when
}

// forget discards the state of earlier passes.
func (o *orphans) forget() { o.seen = nil }

// requeue requeues tasks while the list of handlers is valid: a process that was stopped
// for a while must not act on an old list.
func (o *orphans) requeue(ctx context.Context, counts Counts) error {
	ctx, cancel := context.WithTimeout(ctx, o.knownFor)
	defer cancel()
	alive, err := o.handlers.Handlers(ctx)
	if err != nil {
		o.seen = nil
		return err
	}
	still := map[string]time.Time{}
	var all []error
	for _, q := range o.queues {
		all = append(all, o.requeueIn(ctx, q, alive, still, counts))
	}
	o.seen = still
	return errors.Join(all...)
}

// requeueIn requeues a task at once if its process is known to be dead, and otherwise when no
// heartbeat has named it for several passes; still collects the tasks to examine again. If
// the handler lives after all, its next query for admission shows that the turn is busy or
// stale, and nothing is lost.
func (o *orphans) requeueIn(ctx context.Context, q asynqx.Queue, alive map[string]bool, still map[string]time.Time, counts Counts) error {
	ids, err := q.Active(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, id := range ids {
		lives, claimed := alive[id]
		if lives {
			continue
		}
		key := q.Name() + " " + id
		since, known := o.seen[key]
		if !known {
			since = time.Now()
		}
		if !claimed && time.Since(since) < o.unclaimed {
			still[key] = since
			continue
		}
		if err := o.requeuer.requeue(ctx, q, id, Orphaned, counts); err != nil {
			all = append(all, err)
			still[key] = since
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(all...)
}
