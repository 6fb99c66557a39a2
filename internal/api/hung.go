package api

import (
	"context"
	"errors"
	"time"
)

// heeding returns when ctx is over, also where do heeds no context, as commands that
// are sent together do not. Then do may have done it, or do it yet.
func heeding(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- panicked(p)
			}
		}()
		done <- do()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter puts a change into the trail before it is made, so that none is made that
// is not there.
func (a *API) enter(ctx context.Context, c *call, action, target string) error {
	ctx, cancel := context.WithTimeout(ctx, a.within)
	defer cancel()
	change := Change{Key: c.key, Action: action, Target: target, RequestID: c.id}
	return heeding(ctx, func() error { return a.Audit.Append(ctx, change) })
}

// pingPause is between two looks at whether Redis answers.
const pingPause = time.Second

// alive is ctx, but ends as well when Redis was silent for as long as an answer may
// take: what goes on for long is not to hang with it. Whoever calls it stops it.
func (a *API) alive(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, stop := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(pingPause)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			looking, cancel := context.WithTimeout(ctx, a.within)
			err := a.Redis.Ping(looking).Err()
			silent := errors.Is(looking.Err(), context.DeadlineExceeded)
			cancel()
			if err != nil && silent {
				stop(err)
				return
			}
		}
	}()
	return ctx, stop
}
