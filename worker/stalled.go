package worker

import (
	"context"
	"time"
)

const (
	stalledFor   = 10 * time.Minute // longer than a busy receiver puts a callback off
	stalledPages = 10               // a dead receiver may have many more, none of them lost
)

// stalled sees to it that what is to be delivered has a task: in a cluster the task
// may be lost by a node whose death the delivery does not notice. A task that is
// put off stays so, as its receiver may be busy.
func (s *sweep) stalled(ctx context.Context, mended map[string]int) error {
	for range stalledPages {
		stalled, more, err := s.left.StalledDeliveries(ctx, s.stalledFor)
		if err != nil {
			return err
		}
		events := make([]string, len(stalled))
		for i, one := range stalled {
			events[i] = one.EventID
		}
		states, err := s.callbacks.states(ctx, events)
		if err != nil {
			return err
		}
		for i, state := range states {
			if state != "" {
				continue
			}
			if _, err := EnqueueCallback(ctx, s.callbacks.client, s.callbacks.account, stalled[i]); err != nil {
				return err
			}
			mended[missing]++
		}
		if !more {
			break
		}
	}
	return nil
}
