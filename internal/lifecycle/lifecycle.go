// Package lifecycle stops a worker in two steps. While it drains, no call begins, and calls
// in flight are finished and recorded. When it ends, answers that are not yet recorded are
// given up.
package lifecycle

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/failpoint"
)

const (
	// PersistTimeout limits one attempt to write to Redis.
	PersistTimeout = 5 * time.Second
	// PersistPause is the pause between two attempts.
	PersistPause = time.Second
)

// Lifecycle is the state of a worker: running, draining or ended. It is safe for concurrent
// use.
type Lifecycle struct {
	draining context.Context //nolint:containedctx // its end is an event, which several goroutines wait for
	ending   context.Context //nolint:containedctx // likewise
	drain    context.CancelFunc
	end      context.CancelFunc
	failure  chan error // the first error that ends the worker
	limited  *zap.Logger
}

// New returns the lifecycle of a running worker.
func New(limited *zap.Logger) *Lifecycle {
	l := &Lifecycle{failure: make(chan error, 1), limited: limited}
	l.draining, l.drain = context.WithCancel(context.Background())
	l.ending, l.end = context.WithCancel(context.Background())
	return l
}

// Drain stops new calls from beginning.
func (l *Lifecycle) Drain() { l.drain() }

// End gives up answers that are not yet recorded.
func (l *Lifecycle) End() { l.end() }

// Fail ends the worker with an error. Only the first error counts.
func (l *Lifecycle) Fail(err error) {
	select {
	case l.failure <- err:
	default:
	}
}

// Failure receives the error that ends the worker.
func (l *Lifecycle) Failure() <-chan error { return l.failure }

// Draining returns a channel that is closed when no more calls may begin.
func (l *Lifecycle) Draining() <-chan struct{} { return l.draining.Done() }

// Stopped reports whether no more calls may begin for ctx: the worker drains, or the queue
// has given the task to another process.
func (l *Lifecycle) Stopped(ctx context.Context) bool {
	return l.draining.Err() != nil || ctx.Err() != nil
}

// Sleep waits, and returns false at once when [Lifecycle.Stopped] becomes true.
func (l *Lifecycle) Sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.draining.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// Acquire takes a place of a channel with a few places, first come, first served. It returns
// false if [Lifecycle.Stopped] becomes true first.
func (l *Lifecycle) Acquire(ctx context.Context, places chan<- struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	case <-l.draining.Done():
		return false
	case <-ctx.Done():
		return false
	}
}

// UntilDrain returns a context that also ends when the worker drains.
func (l *Lifecycle) UntilDrain(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(l.draining, cancel)
	return ctx, func() { stop(); cancel() }
}

// Fatal reports whether an error is fatal, for example because the account is of the other
// kind, and ends the worker if it is.
func (l *Lifecycle) Fatal(err error) bool {
	var fatal interface{ Fatal() bool }
	if errors.As(err, &fatal) && fatal.Fatal() {
		l.Fail(err)
		return true
	}
	return false
}

// Persist records an answer. While Redis is unreachable it retries at least every second
// until the worker ends, because the answer may be a paid link.
func (l *Lifecycle) Persist(ctx context.Context, record func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), PersistTimeout)
		err := record(once)
		cancel()
		failpoint.Hit("recorded")
		if err == nil || l.Fatal(err) {
			return err
		}
		l.limited.Warn("recording an answer failed; retrying", zap.Error(err))
		select {
		case <-time.After(PersistPause):
		case <-l.ending.Done():
			return err
		}
	}
}
