package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// bulkLane handles the tasks of the bulk lane: those of one turn, and bundles. Each turn
// of a bundle goes through the pipeline as if it had a task of its own; they share only the
// task.
type bulkLane struct {
	pipeline *pipeline
	places   chan struct{} // held by the turns that the lane handles
	life     *lifecycle.Lifecycle
	// enqueue enqueues the task of a turn, which runs after a delay.
	enqueue func(ctx context.Context, turn request.Ref, delay time.Duration) error
	limited *zap.Logger

	mu      sync.Mutex
	held    map[string]int // the number of handlers of each bundle that has one
	running goroutines     // of the turns of bundles
}

// bundlesAtOnce is the number of bundles that a process takes at a time. A bundle is done
// when its turns were called, so that a few are enough to have the next turn always at hand.
const bundlesAtOnce = 4

// turnsPerSlot is the number of turns that the lane handles for each call that may be in
// flight: while the answers of some are recorded, others are called, and more transitions
// share a script.
const turnsPerSlot = 2

// ProcessTask handles a task of one turn.
func (l *bulkLane) ProcessTask(ctx context.Context, task *asynq.Task) error {
	if !l.life.Acquire(ctx, l.places) {
		return &asynqx.Later{}
	}
	defer func() { <-l.places }()
	return l.pipeline.ProcessTask(ctx, task)
}

// processBundle handles a bundle. It returns when each of its turns was called or needs no
// call now: one slow answer does not keep the task, since recovery finds a call whose
// process died without its task. A turn that must run again gets a task of its own, unless
// the worker stops. Then the bundle runs again, in which the turns that have ended are
// stale.
func (l *bulkLane) processBundle(ctx context.Context, task *asynq.Task) error {
	if task.Type() != linktask.BundleType {
		return l.pipeline.quarantine.tasks.Put(ctx, task, fmt.Sprintf("its type is %q, not %q", task.Type(), linktask.BundleType))
	}
	id, _ := asynq.GetTaskID(ctx)
	l.hold(id)
	defer l.drop(id)
	b := &bundle{lane: l}
	turns, undecodable := linktask.Bundled(task.Payload())
	for _, line := range undecodable {
		if l.pipeline.quarantine.tasks.PutPart(ctx, task, []byte(line), "it names no turn of a request") != nil {
			b.again.Store(true)
		}
	}
	// The turns that are called outlast the handler, and with it asynq's context.
	handling, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, cancel)()
	for _, turn := range turns {
		if !l.life.Acquire(ctx, l.places) {
			b.again.Store(true)
			break
		}
		b.open.Add(1)
		l.running.Go(func() {
			defer func() { <-l.places }()
			b.process(handling, turn)
		})
	}
	b.open.Wait()
	if b.again.Load() {
		return &asynqx.Later{}
	}
	return nil
}

// bundle is a bundle that is being handled.
type bundle struct {
	lane  *bulkLane
	open  sync.WaitGroup // its turns that are neither called nor settled
	again atomic.Bool    // the bundle must run again
}

// process handles one of the turns.
func (b *bundle) process(ctx context.Context, turn request.Ref) {
	called := false
	done := sync.OnceFunc(b.open.Done)
	defer done()
	err := b.lane.pipeline.processUntil(ctx, turn, func() { called = true; done() })
	if err == nil {
		return
	}
	later, _ := errors.AsType[*asynqx.Later](err)
	if later == nil || later.Delay == 0 && !called {
		b.again.Store(true)
		return
	}
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
	defer cancel()
	if err := b.lane.enqueue(once, turn, later.Delay); err != nil {
		b.again.Store(true) // if the bundle has ended, recovery finds that the task is missing
		b.lane.limited.Warn("enqueueing a request of a bundle failed; recovery enqueues it", zap.Error(err))
	}
}

func (l *bulkLane) hold(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[id]++
}

func (l *bulkLane) drop(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[id]--; l.held[id] == 0 {
		delete(l.held, id)
	}
}

// Wait waits until no turn of a bundle has a handler.
func (l *bulkLane) Wait() { l.running.Wait() }

// Handled returns the bundles that have a handler.
func (l *bulkLane) Handled() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]string, 0, len(l.held))
	for id := range l.held {
		ids = append(ids, id)
	}
	return ids
}
