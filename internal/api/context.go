package api

import (
	"context"

	"github.com/kyclink/kyclink/internal/audit"
)

// runWithContext runs do, and returns when do returns or ctx ends. It is for functions that
// ignore contexts, such as Redis commands that share a pipeline with others: do may still
// complete after ctx has ended.
func runWithContext(ctx context.Context, do func() error) error {
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

// record stores a change in the audit trail. Call it before making the change, so that
// no change is missing there.
func (a *API) record(ctx context.Context, c *call, action, target string) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	change := audit.Change{Key: c.key, Action: action, Target: target, RequestID: c.id}
	return runWithContext(ctx, func() error { return a.Audit.Append(ctx, change) })
}
