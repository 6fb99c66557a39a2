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

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/request"
)

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

// New makes a worker that uses, and does not close, rdb. Do not close rdb before the
// program ends: asynq's servers panic if it is closed before they have stopped, and after
// a stop that took too long they may not have.
func New(rdb redis.UniversalClient, upstream Upstream, cfg Config) *Worker {
	cfg = cfg.withDefaults()
	log := cfg.Telemetry.Log
	book := ledger.New(rdb, ledger.Config{
		Account: cfg.Account.Name, Simulated: cfg.Account.Simulated, Credential: cfg.Account.Credential,
		Rate: cfg.Account.Rate, Burst: cfg.Account.Burst, HoldUnknown: cfg.Retry.HoldUncertain,
		Retention: cfg.Retention.Requests, ResultsAge: cfg.Retention.Results, ResultsCap: cfg.Retention.ResultsCap,
		RateChanged: func(from admission.Rate, fromBurst int) {
			log.Info("account rate changed", zap.Stringer("from", from), zap.Stringer("to", cfg.Account.Rate),
				zap.Int("from_burst", fromBurst), zap.Int("to_burst", cfg.Account.Burst))
		},
		RowsRefused: func(name, message string) {
			log.Error("batch paused: its calls are refused as invalid; correct the rows, then run kyclink batch resume",
				zap.String("batch", name), zap.Int("in_a_row", batch.MostRefused), zap.String("message", message))
		},
	})
	if cfg.Journal == nil {
		return newWorker(rdb, book, upstream, cfg)
	}
	return newWorker(rdb, struct {
		*recorder.Recorder
		rest
	}{recorder.New(book, book.Get, cfg.Journal), book}, upstream, cfg)
}

// rest is what a worker needs of the ledger besides the transitions.
type rest interface {
	Gate
	Source
	Membership
	Leftovers
	Bin
	Deliveries
}

// newWorker makes a worker with a ledger and a complete configuration.
func newWorker(rdb redis.UniversalClient, ledger interface {
	Ledger
	rest
}, upstream Upstream, cfg Config) *Worker {
	stopping, stop := context.WithCancel(context.Background())
	ending, end := context.WithCancel(context.Background())
	w := &Worker{cfg: cfg, rdb: rdb, members: ledger, lanes: map[request.Lane]*lane{}, log: cfg.Telemetry.Log, stop: stop, end: end, failure: make(chan error, 1)}
	w.pipe = &pipeline{
		ledger: ledger, gate: ledger, bin: ledger, upstream: upstream, auto: cfg.Calls.Auto, defaults: request.Defaults{ExpiryMinutes: cfg.Defaults.ExpiryMinutes, WorkflowID: cfg.Defaults.WorkflowID}, calls: newCalls(), log: cfg.Telemetry.Log, limited: cfg.Telemetry.Limited, meter: cfg.Telemetry.Meter,
		fatal: w.fail, stopping: stopping, ending: ending.Done(),
		policy: policy{base: cfg.Retry.BackoffBase, cap: cfg.Retry.BackoffCap, maxCharged: cfg.Retry.MaxAttempts, hold: cfg.Retry.HoldUncertain, random: uniform},
	}
	queue := asynq.NewClientFromRedisClient(pipelined(rdb))
	w.pipe.dispatch = func(ctx context.Context, lane request.Lane, ref request.Ref) error {
		return linktask.Enqueue(ctx, queue, cfg.Account.Name, lane, ref)
	}
	w.feeder = &feeder{
		source: ledger, queue: queue, account: cfg.Account.Name,
		atLeast: 2 * cfg.Calls.Concurrency, rate: w.inForce, lease: feedLease, log: cfg.Telemetry.Log, limited: cfg.Telemetry.Limited,
	}
	w.sweep = newSweep(rdb, ledger, queue, cfg, w.feeder.leads.Load)
	w.addLane(rdb, request.Interactive, interactivePoll, 1)
	w.addLane(rdb, request.Bulk, bulkPoll, min(bulkServers, (cfg.Calls.Concurrency+serverSlots-1)/serverSlots))
	if cfg.Callbacks.Poster != nil {
		w.dispatcher = newDispatcher(cmp.Or(cfg.Callbacks.Redis, rdb), queue, ledger, cfg)
		w.callbacks = newCallbackLane(w.pipe, ledger, cfg)
		w.queues = append(w.queues, keyspace.Keys{Account: cfg.Account.Name}.Queue(request.Callbacks))
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
	w.queues = append(w.queues, keyspace.Keys{Account: w.cfg.Account.Name}.Queue(name))
	for i := range servers {
		slots := (w.cfg.Calls.Concurrency + i) / servers
		w.servers = append(w.servers, laneServer{w.server(rdb, name, slots, poll*time.Duration(servers)), l})
	}
}

// inForce tells the lanes of the account's rate, per second, and looks whether it
// is the rate that limits them.
func (w *Worker) inForce(rate float64) {
	for name, l := range w.lanes {
		l.slots.inForce(rate)
		if l.slots.crowded(time.Now(), w.cfg.Calls.Concurrency, l.flows.Load()) {
			w.cfg.Telemetry.Limited.Warn("slots, not the rate, limit this lane: start more workers, or raise KYCLINK_CONCURRENCY",
				zap.String("lane", string(name)), zap.Int("slots", w.cfg.Calls.Concurrency), zap.Float64("rate_per_second", rate))
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
		Queues:                   map[string]int{keyspace.Keys{Account: w.cfg.Account.Name}.Queue(lane): 1},
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
		Logger:   asynqLog{w.cfg.Telemetry.Limited},
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
	compareClocks(ctx, w.rdb, w.cfg.Account.Name, time.Now, w.log)
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
		w.log.Info("worker started", zap.String("account", w.cfg.Account.Name), zap.Int("slots", w.cfg.Calls.Concurrency))
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
	longest := w.cfg.Calls.Timeout
	if w.cfg.Callbacks.Poster != nil {
		longest = max(longest, w.cfg.Callbacks.Poster.Timeout())
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
