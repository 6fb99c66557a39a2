package recovery

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// OverdueAfter is the default time after which a queued turn is examined.
const OverdueAfter = 30 * time.Second

const repairedAtOnce = 32

// Turns names turns that may have lost their task.
type Turns interface {
	// Overdue returns queued turns that no handler has taken for a long time; more says that
	// there are others.
	Overdue(ctx context.Context, lane request.Lane, since time.Duration) (refs []request.Ref, more bool, err error)
	// Lost returns the turns whose call died with its process, page by page.
	LostCalls(ctx context.Context, page string) (lost []request.Turn, next string, err error)
}

// turns ensures that each turn has a task, its own or a bundle.
type turns struct {
	turns   Turns
	queues  []asynqx.Queue
	bundles asynqx.Queue
	enqueue func(ctx context.Context, lane request.Lane, turn request.Ref) error
	overdue time.Duration
}

// lost repairs the turns whose call died with its process.
func (t *turns) lost(ctx context.Context, counts Counts) error {
	page, bundled := "", t.bundled(ctx)
	for range mostPages {
		lost, next, err := t.turns.LostCalls(ctx, page)
		if err != nil {
			return err
		}
		for _, q := range t.queues {
			var refs []request.Ref
			for _, turn := range lost {
				if turn.Lane == q.Lane() {
					refs = append(refs, turn.Ref)
				}
			}
			if err := t.repair(ctx, q, refs, bundled, counts); err != nil {
				return err
			}
		}
		if page = next; page == "" {
			break
		}
	}
	return nil
}

// overdueOf repairs the queued turns of a lane that no handler has taken.
func (t *turns) overdueOf(ctx context.Context, q asynqx.Queue, counts Counts) error {
	bundled := t.bundled(ctx)
	for range mostPages {
		refs, more, err := t.turns.Overdue(ctx, q.Lane(), t.overdue)
		if err != nil {
			return err
		}
		if err := t.repair(ctx, q, refs, bundled, counts); err != nil || !more {
			return err
		}
	}
	return nil
}

// bundled returns a function that returns the turns of all bundles, which it reads at its
// first call.
func (t *turns) bundled(ctx context.Context) func() (map[request.Ref]bool, error) {
	return sync.OnceValues(func() (map[request.Ref]bool, error) {
		messages, err := t.bundles.Messages(ctx)
		all := map[request.Ref]bool{}
		for _, m := range messages {
			refs, _ := linktask.Bundled(m.Payload())
			for _, ref := range refs {
				all[ref] = true
			}
		}
		return all, err
	})
}

// repair ensures that turns have a task that will run. It leaves active tasks to
// [orphans].
func (t *turns) repair(
	ctx context.Context, q asynqx.Queue, refs []request.Ref, bundled func() (map[request.Ref]bool, error), counts Counts,
) error {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.String()
	}
	states, err := q.States(ctx, ids)
	if err != nil {
		return err
	}
	if q.Lane() == request.Bulk && slices.Contains(states, "") {
		inBundle, err := bundled()
		if err != nil {
			return err
		}
		for i, ref := range refs {
			if states[i] == "" && inBundle[ref] {
				states[i] = "pending"
			}
		}
	}
	kinds := make([]string, len(states)) // of the repairs
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(repairedAtOnce)
	for i, state := range states {
		kind, repair := Missing, func() error { return t.enqueue(ctx, q.Lane(), refs[i]) }
		switch state {
		case "pending", "active", "archived":
			continue
		case "scheduled", "retry":
			kind, repair = Late, func() error { return q.Run(ctx, ids[i]) }
		case "":
		default: // completed, or a state of a later asynq, which the task would not leave by itself
			repair = func() error {
				if err := q.Delete(ids[i]); err != nil {
					return err
				}
				return t.enqueue(ctx, q.Lane(), refs[i])
			}
		}
		group.Go(func() error {
			err := repair()
			if err == nil {
				kinds[i] = kind
			}
			return err
		})
	}
	err = group.Wait()
	for _, kind := range kinds {
		counts[kind]++
	}
	delete(counts, "")
	return err
}
