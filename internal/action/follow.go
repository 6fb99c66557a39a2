package action

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Follow carries out an action, or watches while another runner does so, until the action
// has ended. It calls show with each reading of it. When ctx is done, Follow completes the
// page that it has begun, leaves the rest to other runners, and returns the action with the
// error of ctx.
func (r *Runner) Follow(ctx context.Context, id string, show func(Action)) (Action, error) {
	var a Action
	var own sync.WaitGroup
	ended := make(chan struct{}, 1)
	tick := time.NewTicker(r.cfg.Pause)
	defer tick.Stop()
	defer own.Wait()
	for ctx.Err() == nil && !a.Ended() {
		if r.claim(id) {
			own.Go(func() {
				defer r.unclaim(id)
				if r.continueAction(ctx, id) {
					ended <- struct{}{}
				}
			})
		}
		select {
		case <-ctx.Done():
		case <-ended:
		case <-tick.C:
		}
		switch now, ok, err := r.read(ctx, id); {
		case err != nil && ctx.Err() == nil:
			r.cfg.Limited.Warn("reading an action failed; retrying", zap.String("action", id), zap.Error(err))
			continue
		case err == nil && !ok:
			return a, fmt.Errorf("action %s does not exist; actions are kept for seven days after their end", id)
		case err == nil && now.State == Unreadable:
			return now, errors.New(now.Message)
		case err == nil:
			a = now
			show(a)
		}
	}
	own.Wait()
	if now, ok, err := r.read(context.WithoutCancel(ctx), id); err == nil && ok { // with what was completed meanwhile
		a = now
	}
	if a.Ended() {
		return a, nil
	}
	return a, ctx.Err()
}

func (r *Runner) read(ctx context.Context, id string) (Action, bool, error) {
	once, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return r.store.Get(once, id)
}
