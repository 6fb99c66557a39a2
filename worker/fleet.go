package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/lifecycle"
)

const (
	heartbeatPause   = time.Second // calls that hang are detected only at the next one
	heartbeatTimeout = 3 * time.Second
	leaveTimeout     = 2 * time.Second
)

// membership registers a process in the account's fleet.
type membership interface {
	// Join registers this process as one of the account's workers, or changes nothing.
	Join(ctx context.Context) error
	// Heartbeat reports that this process lives, and which tasks it has handlers for. An
	// error whose method Emptied returns true means that Redis has lost the account.
	Heartbeat(ctx context.Context, handled []string) error
	// Leave deregisters this process.
	Leave(ctx context.Context) error
}

// member is this process as a member of the fleet.
type member struct {
	fleet   membership
	written func() error                // why Redis did not accept the last heartbeat
	handled func() []string             // the tasks that have a handler
	flush   func(context.Context) error // what was counted since the last heartbeat
	life    *lifecycle.Lifecycle
	joined  atomic.Bool
	log     *zap.Logger
	limited *zap.Logger
}

// Join makes this process one of the account's workers. Programs that change anything else
// of the account before [Worker.Run] call it first: if the account is of the other kind,
// it fails and has changed nothing.
func (w *Worker) Join(ctx context.Context) error { return w.member.join(ctx) }

// Heartbeat returns why Redis did not accept the worker's last heartbeat; nil if it did.
// It is safe for concurrent use.
func (w *Worker) Heartbeat() error { return w.member.written() }

func (m *member) join(ctx context.Context) error {
	if err := m.fleet.Join(ctx); err != nil {
		if ctx.Err() != nil {
			m.leave(ctx) // it may be registered
			return context.Cause(ctx)
		}
		return fmt.Errorf("join the fleet: %w", err)
	}
	m.joined.Store(true)
	return nil
}

func (m *member) leave(ctx context.Context) {
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := m.fleet.Leave(leaving); err != nil {
		m.log.Warn("leaving the fleet failed", zap.Error(err))
	}
}

// heartbeat sends heartbeats until ctx is done, and flushes after each that succeeds. The
// first pause is random: the heartbeats of processes that start together are spread over the
// second, and some process soon notices calls that hang.
func (m *member) heartbeat(ctx context.Context) {
	var err error
	pause := rand.N(heartbeatPause)
	for {
		select {
		case <-ctx.Done():
			if err == nil {
				m.flushLast(ctx)
			}
			return
		case <-time.After(pause):
			pause = heartbeatPause
		}
		once, cancel := context.WithTimeout(ctx, heartbeatTimeout)
		err = m.fleet.Heartbeat(once, m.handled())
		if emptied(err) {
			m.log.Error("Redis lost the account; joining it again", zap.Error(err))
			err = m.fleet.Join(once)
		}
		var unflushed error
		if err == nil {
			unflushed = m.flush(once)
		}
		cancel()
		if m.life.Fatal(err) {
			return // the account is now of the other kind
		}
		if err != nil && ctx.Err() == nil {
			m.limited.Warn("heartbeat failed", zap.Error(err))
		}
		if unflushed != nil && ctx.Err() == nil {
			m.limited.Warn("counting links and faults for the activity of the account failed; it is tried again", zap.Error(unflushed))
		}
	}
}

// flushLast flushes what was counted since the last heartbeat.
func (m *member) flushLast(ctx context.Context) {
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := m.flush(leaving); err != nil {
		m.log.Warn("counting links and faults for the activity of the account failed; those of the last second are missing", zap.Error(err))
	}
}

func emptied(err error) bool {
	e, ok := errors.AsType[interface {
		error
		Emptied() bool
	}](err)
	return ok && e.Emptied()
}
