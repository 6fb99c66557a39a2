package api

import "context"

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
