// Package worker is the engine: it takes requests from their lanes, calls
// FaceKi and records what came of it. The life of one request is pipeline.go,
// from top to bottom.
package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/record"
)

// Membership is how the worker is known to the rest of the fleet.
type Membership interface {
	Join(ctx context.Context) error
	Beat(ctx context.Context) error
	Leave(ctx context.Context) error
}

// Config is how a worker works. Zero values mean the defaults given.
type Config struct {
	// Account is the namespace of one FaceKi account.
	Account string
	// Slots is how many requests a lane handles at a time; 10.
	Slots int
	// Defaults is what requests get that say nothing.
	Defaults record.Defaults
	// MaxSpent is how many faults held against a request end it; 8.
	MaxSpent int
	// BackoffBase and BackoffCap bound the pauses between attempts; 2 s and
	// 10 min.
	BackoffBase, BackoffCap time.Duration
	// CallTimeout is the longest that a call may take; 15 s. A soft stop waits
	// for it, and for the answer to be recorded.
	CallTimeout time.Duration
	// Log gets a line an attempt. Limited gets what may repeat itself many
	// times a second, such as asynq's lines while Redis is away; it should pass
	// each message now and then only. Nothing is logged where they are nil.
	Log, Limited *zap.Logger
}

const (
	beatPause       = 3 * time.Second
	interactivePoll = 10 * time.Millisecond
	bulkPoll        = 50 * time.Millisecond
	delayedPoll     = time.Second
	stopMargin      = 5 * time.Second // to record an answer after the longest call
	farewell        = 2 * time.Second
)

func (c Config) withDefaults() Config {
	set := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.BackoffBase, 2*time.Second)
	set(&c.BackoffCap, 10*time.Minute)
	set(&c.CallTimeout, 15*time.Second)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Limited == nil {
		c.Limited = zap.NewNop()
	}
	if c.Slots == 0 {
		c.Slots = 10
	}
	if c.MaxSpent == 0 {
		c.MaxSpent = 8
	}
	return c
}

// Worker is one process of the fleet.
type Worker struct {
	cfg     Config
	members Membership
	lanes   []*asynq.Server
	pipe    *pipeline
	feeder  *feeder
	log     *zap.Logger

	end     context.CancelFunc // gives answers in hand up
	mu      sync.Mutex
	failure error
	stop    context.CancelFunc
}

// New makes a worker that uses, and does not close, rdb.
func New(rdb redis.UniversalClient, ledger interface {
	Ledger
	Source
	Membership
}, upstream Upstream, cfg Config) *Worker {
	cfg = cfg.withDefaults()
	w := &Worker{cfg: cfg, members: ledger, log: cfg.Log}
	ending, end := context.WithCancel(context.Background())
	w.end = end
	w.pipe = &pipeline{
		ledger: ledger, upstream: upstream, defaults: cfg.Defaults, calls: newCalls(), fatal: w.fail, ending: ending.Done(),
		log: cfg.Log, limited: cfg.Limited,
		policy: policy{base: cfg.BackoffBase, cap: cfg.BackoffCap, maxSpent: cfg.MaxSpent, random: uniform},
	}
	w.feeder = &feeder{
		source: ledger, queue: asynq.NewClientFromRedisClient(rdb), account: cfg.Account,
		target: min(5000, max(200, 20*cfg.Slots)), log: cfg.Log,
	}
	w.lanes = []*asynq.Server{
		w.lane(rdb, record.Interactive, interactivePoll),
		w.lane(rdb, record.Bulk, bulkPoll),
	}
	return w
}

// lane is an asynq server of its own, so that bulk requests never hold an
// interactive slot.
func (w *Worker) lane(rdb redis.UniversalClient, lane record.Lane, poll time.Duration) *asynq.Server {
	return asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              w.cfg.Slots,
		Queues:                   map[string]int{record.Keys{Account: w.cfg.Account}.Queue(lane): 1},
		TaskCheckInterval:        poll,
		DelayedTaskCheckInterval: delayedPoll,
		ShutdownTimeout:          w.cfg.CallTimeout + stopMargin,
		IsFailure:                func(error) bool { return false },
		RetryDelayFunc: func(_ int, err error, _ *asynq.Task) time.Duration {
			if l, ok := errors.AsType[*later](err); ok {
				return l.delay
			}
			return w.pipe.policy.pause()
		},
		Logger:   w.cfg.Limited.Sugar(),
		LogLevel: asynq.WarnLevel,
	})
}

// Run works until ctx is done, then stops softly: nothing new is taken, calls
// that were sent are seen through and recorded. It fails where it cannot
// start, or finds that the account's links are of the other kind.
func (w *Worker) Run(ctx context.Context) error {
	defer w.end()
	if err := w.members.Join(ctx); err != nil {
		return fmt.Errorf("join the fleet: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	w.mu.Lock()
	w.stop = stop
	w.mu.Unlock()

	var background sync.WaitGroup
	beating, quiet := context.WithCancel(context.WithoutCancel(ctx))
	defer quiet()
	background.Go(func() { w.beat(beating) })
	background.Go(func() { w.feeder.run(ctx) })
	started, err := w.startLanes()
	if err == nil {
		w.log.Info("worker started", zap.String("account", w.cfg.Account), zap.Int("slots", w.cfg.Slots))
		<-ctx.Done()
		w.log.Info("stopping: calls that were sent are seen through", zap.Duration("at_most", w.cfg.CallTimeout+stopMargin))
	}
	stop()
	w.stopLanes(started)
	quiet()
	background.Wait()
	leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := w.members.Leave(leaving); err != nil {
		w.log.Warn("the worker could not take itself off the list", zap.Error(err))
	}
	w.log.Info("worker stopped")
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(err, w.failure)
}

func (w *Worker) startLanes() (started []*asynq.Server, err error) {
	for _, lane := range w.lanes {
		if err := lane.Start(w.pipe); err != nil {
			return started, fmt.Errorf("start a lane: %w", err)
		}
		started = append(started, lane)
	}
	return started, nil
}

// stopLanes lets handlers finish. asynq moves on after its time-out while a
// handler may still run, so they are waited for here once more.
func (w *Worker) stopLanes(started []*asynq.Server) {
	var stopping sync.WaitGroup
	for _, lane := range started {
		stopping.Go(lane.Shutdown)
	}
	stopping.Wait()
	select {
	case <-w.pipe.calls.done():
		return
	case <-time.After(farewell):
	}
	w.end()
	<-w.pipe.calls.done()
}

func (w *Worker) beat(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(beatPause):
		}
		once, cancel := context.WithTimeout(ctx, beatPause)
		err := w.members.Beat(once)
		cancel()
		if err != nil && ctx.Err() == nil {
			w.log.Warn("Redis was not reached", zap.Error(err))
		}
	}
}

// fail ends the worker with an error.
func (w *Worker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil {
		w.failure = err
		w.stop()
	}
}
