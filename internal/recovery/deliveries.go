package recovery

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/delivery"
)

const (
	defaultStalledAfter = 10 * time.Minute // longer than a busy receiver postpones a callback
	mostStalledPages    = 10               // a dead receiver may have many more, which are not lost
)

// Deliveries names deliveries that may have lost their task.
type Deliveries interface {
	// Stalled returns pending deliveries that are long overdue; more says that
	// there are others.
	Stalled(ctx context.Context, since time.Duration) (stalled []delivery.Task, more bool, err error)
}

// deliveries ensures that each pending delivery has a task. In a cluster, the node of
// a task may fail and lose it while the delivery is kept.
type deliveries struct {
	deliveries   Deliveries
	queue        asynqx.Queue
	enqueue      func(ctx context.Context, d delivery.Task) error
	stalledAfter time.Duration
}

// enqueueStalled enqueues the missing tasks. A postponed task stays so, as its receiver
// may be busy.
func (d *deliveries) enqueueStalled(ctx context.Context, counts Counts) error {
	for range mostStalledPages {
		stalled, more, err := d.deliveries.Stalled(ctx, d.stalledAfter)
		if err != nil {
			return err
		}
		events := make([]string, len(stalled))
		for i, one := range stalled {
			events[i] = one.EventID
		}
		states, err := d.queue.States(ctx, events)
		if err != nil {
			return err
		}
		for i, state := range states {
			if state != "" {
				continue
			}
			if err := d.enqueue(ctx, stalled[i]); err != nil {
				return err
			}
			counts[Missing]++
		}
		if !more {
			break
		}
	}
	return nil
}
