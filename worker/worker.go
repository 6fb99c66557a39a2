// Package worker is the engine: it takes requests from their lanes, calls
// FaceKi and records what came of it. The life of one request is pipeline.go,
// from top to bottom.
package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// Config is how a worker works. Zero values mean the defaults given.
type Config struct {
	// Account is the namespace of one FaceKi account.
	Account string
	// Slots is how many requests a lane handles at a time; 10.
	Slots int
	// AutoSlots lets the calls that are out follow the rate and the usual
	// latency, within Slots.
	AutoSlots bool
	// Defaults is what requests get that say nothing.
	Defaults request.Defaults
	// MaxCharged is how many faults held against a request end it; 8.
	MaxCharged int
	// HoldUnknown leaves a request whose call may have made a link to a person,
	// instead of calling again.
	HoldUnknown bool
	// BackoffBase and BackoffCap bound the pauses between attempts; 2 s and
	// 10 min.
	BackoffBase, BackoffCap time.Duration
	// CallTimeout is the longest that a call may take; 15 s. A soft stop waits
	// for it, and for the answer to be recorded.
	CallTimeout time.Duration
	// Blocking is for reads that wait for something to come, whose connections
	// they hold; the worker's own client where nil.
	Blocking redis.UniversalClient
	// Callbacks sends them; nil where this worker is to send none.
	Callbacks Poster
	// CallbackPauses are between attempts to deliver; those of [CallbackPauses].
	CallbackPauses []time.Duration
	// Log gets a line an attempt. Limited gets what may repeat itself many
	// times a second, such as asynq's lines while Redis is away; it should pass
	// each message now and then only. Nothing is logged where they are nil.
	Log, Limited *zap.Logger
	// Meter counts what is done; nil: nothing does.
	Meter Meter
}

const (
	beatPause       = time.Second // calls that hang are known for such only after the next one
	beatTimeout     = 3 * time.Second
	interactivePoll = 10 * time.Millisecond
	bulkPoll        = 50 * time.Millisecond
	bulkServers     = 4 // at most
	serverSlots     = 8 // from which on one server is not enough
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
	if c.Meter == nil {
		c.Meter = noMeter{}
	}
	if c.Slots == 0 {
		c.Slots = 10
	}
	if c.MaxCharged == 0 {
		c.MaxCharged = 8
	}
	if c.CallbackPauses == nil {
		c.CallbackPauses = CallbackPauses()
	}
	return c
}

// Worker is one process of the fleet.
type Worker struct {
	cfg     Config
	rdb     redis.UniversalClient
	members Membership
	lanes   map[request.Lane]*lane
	servers []laneServer
	queues  []string               // of asynq, one a lane
	paused  atomic.Pointer[string] // one of them that is paused in asynq; nil while none is
	pipe    *pipeline
	feeder  *feeder
	sweep   *sweep
	log     *zap.Logger
	joined  atomic.Bool
	started atomic.Bool

	dispatcher *dispatcher // nil where no callbacks are sent, like the next
	callbacks  *callbackLane

	stop    context.CancelFunc // no call is begun any more
	end     context.CancelFunc // answers in hand are given up
	failure chan error         // holds the first that ends the worker
}

// New makes a worker that uses, and does not close, rdb. Its asynq servers panic
// where rdb is closed before they have ended, as they may not have after a stop
// that took too long.
func New(rdb redis.UniversalClient, ledger interface {
	Ledger
	Gate
	Source
	Membership
	Leftovers
	Bin
	Deliveries
}, upstream Upstream, cfg Config) *Worker {
	cfg = cfg.withDefaults()
	stopping, stop := context.WithCancel(context.Background())
	ending, end := context.WithCancel(context.Background())
	w := &Worker{cfg: cfg, rdb: rdb, members: ledger, lanes: map[request.Lane]*lane{}, log: cfg.Log, stop: stop, end: end, failure: make(chan error, 1)}
	w.pipe = &pipeline{
		ledger: ledger, gate: ledger, bin: ledger, upstream: upstream, auto: cfg.AutoSlots, defaults: cfg.Defaults, calls: newCalls(), log: cfg.Log, limited: cfg.Limited, meter: cfg.Meter,
		fatal: w.fail, stopping: stopping, ending: ending.Done(),
		policy: policy{base: cfg.BackoffBase, cap: cfg.BackoffCap, maxCharged: cfg.MaxCharged, hold: cfg.HoldUnknown, random: uniform},
	}
	queue := asynq.NewClientFromRedisClient(pipelined(rdb))
	w.pipe.dispatch = func(ctx context.Context, lane request.Lane, ref request.Ref) error {
		return linktask.Enqueue(ctx, queue, cfg.Account, lane, ref)
	}
	w.feeder = &feeder{
		source: ledger, queue: queue, account: cfg.Account,
		atLeast: 2 * cfg.Slots, rate: w.inForce, lease: feedLease, log: cfg.Log, limited: cfg.Limited,
	}
	w.sweep = newSweep(rdb, ledger, queue, cfg, w.feeder.leads.Load)
	w.addLane(rdb, request.Interactive, interactivePoll, 1)
	w.addLane(rdb, request.Bulk, bulkPoll, min(bulkServers, (cfg.Slots+serverSlots-1)/serverSlots))
	if cfg.Callbacks != nil {
		w.dispatcher = newDispatcher(cmp.Or(cfg.Blocking, rdb), queue, ledger, cfg)
		w.callbacks = newCallbackLane(w.pipe, ledger, cfg)
		w.queues = append(w.queues, keyspace.Keys{Account: cfg.Account}.Queue(request.Callbacks))
		w.servers = append(w.servers, laneServer{w.server(rdb, request.Callbacks, callbackSlots, callbackPoll), w.callbacks})
	}
	return w
}

// addLane adds a lane of its own to the process, so that bulk requests never hold
// an interactive slot. Its slots are shared out among several asynq servers, each
// of which takes tasks one after the other; together they look for one as often as
// one alone would.
func (w *Worker) addLane(rdb redis.UniversalClient, name request.Lane, poll time.Duration, servers int) {
	l := newLane(w.pipe)
	w.lanes[name] = l
	w.queues = append(w.queues, keyspace.Keys{Account: w.cfg.Account}.Queue(name))
	for i := range servers {
		slots := (w.cfg.Slots + i) / servers
		w.servers = append(w.servers, laneServer{w.server(rdb, name, slots, poll*time.Duration(servers)), l})
	}
}

// inForce tells the lanes of the account's rate, per second, and looks whether it
// is the rate that limits them.
func (w *Worker) inForce(rate float64) {
	for name, l := range w.lanes {
		l.slots.inForce(rate)
		if l.slots.crowded(time.Now(), w.cfg.Slots, l.flows.Load()) {
			w.cfg.Limited.Warn("slots, not the rate, limit this lane: start more workers, or raise KYCLINK_CONCURRENCY",
				zap.String("lane", string(name)), zap.Int("slots", w.cfg.Slots), zap.Float64("rate_per_second", rate))
		}
	}
}

// pipelined sends commands of several goroutines together: the feeder enqueues
// hundreds of tasks at a time, each of which would be a round trip. The pipeline
// is rdb's, and ends with it.
func pipelined(rdb redis.UniversalClient) redis.UniversalClient {
	if auto, ok := rdb.(interface {
		AutoPipeline() (*redis.AutoPipeliner, error)
	}); ok {
		if pipeline, err := auto.AutoPipeline(); err == nil {
			return pipeline
		}
	}
	return rdb
}

// laneServer is a lane and an asynq server that hands it tasks.
type laneServer struct {
	*asynq.Server
	handler asynq.Handler
}

func (w *Worker) server(rdb redis.UniversalClient, lane request.Lane, slots int, poll time.Duration) *asynq.Server {
	return asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Concurrency:              slots,
		Queues:                   map[string]int{keyspace.Keys{Account: w.cfg.Account}.Queue(lane): 1},
		TaskCheckInterval:        poll,
		DelayedTaskCheckInterval: delayedPoll,
		ShutdownTimeout:          w.patience(),
		IsFailure:                func(error) bool { return false },
		RetryDelayFunc: func(_ int, err error, _ *asynq.Task) time.Duration {
			if l, ok := errors.AsType[*later](err); ok {
				return l.wholeSeconds()
			}
			return w.pipe.policy.pause()
		},
		Logger:   asynqLog{w.cfg.Limited},
		LogLevel: asynq.WarnLevel,
	})
}

// Run works until ctx is done, then stops softly: nothing new is taken, calls
// that were sent are seen through and recorded. That takes CallTimeout and a
// few seconds at most. It joins the account where [Worker.Join] was not called. It
// fails where it cannot start, or finds that the account is of the other kind. It
// is called once.
func (w *Worker) Run(ctx context.Context) error {
	defer w.end()
	defer w.stop()
	if !w.joined.Load() {
		if err := w.Join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	compareClocks(ctx, w.rdb, w.cfg.Account, time.Now, w.log)
	failpoint.Hit("joined")
	feeding, starve := context.WithCancel(ctx)
	defer starve()
	beating, quiet := context.WithCancel(context.WithoutCancel(ctx))
	defer quiet()
	var background sync.WaitGroup
	background.Go(func() { w.beat(beating) })
	background.Go(func() { w.feeder.run(feeding) })
	background.Go(func() { w.sweep.run(feeding) })
	background.Go(func() { w.watchQueues(feeding) })
	if w.dispatcher != nil {
		background.Go(func() {
			if err := w.dispatcher.run(feeding); err != nil {
				w.fail(err)
			}
		})
	}

	started, err := w.startLanes()
	if err == nil {
		w.started.Store(true)
		w.log.Info("worker started", zap.String("account", w.cfg.Account), zap.Int("slots", w.cfg.Slots))
		select {
		case <-ctx.Done():
		case err = <-w.failure:
		}
		w.log.Info("stopping: calls that were sent are seen through", zap.Duration("at_most", w.patience()))
	}
	failpoint.Hit("stopping")
	w.stop()
	starve()
	over := w.stopLanes(started)
	quiet()
	background.Wait()
	if over { // else its attempts may be alive still, and others must not judge them yet
		w.leave(ctx)
	}
	w.log.Info("worker stopped")
	if err == nil {
		select {
		case err = <-w.failure: // found while stopping
		default:
		}
	}
	return err
}

// patience is how long a soft stop waits for calls and for their answers to be
// recorded.
func (w *Worker) patience() time.Duration {
	longest := w.cfg.CallTimeout
	if w.cfg.Callbacks != nil {
		longest = max(longest, w.cfg.Callbacks.Timeout())
	}
	return longest + stopMargin
}

func (w *Worker) startLanes() (started []laneServer, err error) {
	for _, s := range w.servers {
		if err := s.Start(s.handler); err != nil {
			return started, fmt.Errorf("start a lane: %w", err)
		}
		started = append(started, s)
	}
	return started, nil
}

// stopLanes lets handlers finish. asynq moves on after its time-out while a
// handler may still run, so they are waited for as well: first for as long as a
// call and its answer may take, then, with answers in hand given up, for as
// long as one try to record them. It says whether all are over.
func (w *Worker) stopLanes(started []laneServer) bool {
	over := make(chan struct{})
	go func() {
		defer close(over)
		var stopping sync.WaitGroup
		for _, s := range started {
			stopping.Go(s.Shutdown)
		}
		stopping.Wait()
		w.pipe.calls.wait.Wait()
		if w.callbacks != nil {
			w.callbacks.wait.Wait()
		}
	}()
	select {
	case <-over:
		return true
	case <-time.After(w.patience()):
	}
	w.end()
	select {
	case <-over:
		return true
	case <-time.After(recordTimeout + farewell):
		w.log.Error("stopping took too long; what is still under way is left behind")
		return false
	}
}

// fail ends the worker with an error.
func (w *Worker) fail(err error) {
	select {
	case w.failure <- err:
	default: // it is ending
	}
}
