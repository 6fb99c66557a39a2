package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// Membership is how the worker is known to the rest of the fleet.
type Membership interface {
	// Join makes this process one of the account's workers, or changes nothing.
	Join(ctx context.Context) error
	// Beat says that this process lives, and what tasks it has handlers for. An
	// error whose method Emptied gives true says that Redis has lost the account.
	Beat(ctx context.Context, handled []string) error
	Leave(ctx context.Context) error
	// Written says why Redis did not take the last heartbeat; nil where it did.
	Written() error
}

// Heartbeat returns why Redis did not accept the worker's last heartbeat; nil if it did.
// It is safe for concurrent use.
func (w *Worker) Heartbeat() error { return w.members.Written() }

// Join makes this process one of the account's workers. Whoever changes anything
// else of the account before [Worker.Run] calls it first: it fails, and has changed
// nothing, where the account is of the other kind.
func (w *Worker) Join(ctx context.Context) error {
	if err := w.members.Join(ctx); err != nil {
		if ctx.Err() != nil {
			w.leave(ctx) // it may have got on the list
			return context.Cause(ctx)
		}
		return fmt.Errorf("join the fleet: %w", err)
	}
	w.joined.Store(true)
	return nil
}

func (w *Worker) leave(ctx context.Context) {
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := w.members.Leave(leaving); err != nil {
		w.log.Warn("the worker could not take itself off the list", zap.Error(err))
	}
}

func (w *Worker) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatPause):
		}
		once, cancel := context.WithTimeout(ctx, beatTimeout)
		err := w.members.Beat(once, w.handled())
		if emptied(err) {
			w.log.Error("joining the account again failed", zap.Error(err))
			err = w.members.Join(once)
		}
		cancel()
		if w.pipe.gaveUp(err) {
			return // the account is of the other kind now
		}
		if err != nil && ctx.Err() == nil {
			w.cfg.Telemetry.Limited.Warn("heartbeat failed", zap.Error(err))
		}
	}
}

func emptied(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Emptied() bool
	}](err)
	return ok && e.Emptied()
}

// handled gives the tasks that have a handler.
func (w *Worker) handled() []string {
	var all []string
	for _, ref := range w.pipe.calls.handled() {
		all = append(all, ref.String())
	}
	if w.callbacks != nil {
		all = append(all, w.callbacks.handled()...)
	}
	return all
}
