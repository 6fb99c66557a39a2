package worker

import (
	"cmp"
	"context"
	"math/rand/v2"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/dispatch"
	"github.com/kyclink/kyclink/internal/erasure"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/feeder"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/recovery"
	"github.com/kyclink/kyclink/internal/request"
	resultstream "github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/internal/tracing"
)

// stores are the parts of the ledger that a worker uses, each by the interface of its
// consumer.
type stores struct {
	lanes      laneStores
	fleet      membership
	written    func() error
	flush      func(context.Context) error // of lanes.activity
	feed       feeder.Source
	opener     dispatch.Opener
	deliveries dispatch.Deliveries
	recovery   recovery.Config // with its stores
}

// laneStores are the parts that the stages of the pipeline use.
type laneStores struct {
	admissions  admissions
	signals     signals
	releases    releases
	results     results
	ends        ends
	undecodable undecodable
	quarantine  asynqx.Store
	activity    activityCounter
}

// newStores opens the ledger of the account.
func newStores(rdb redis.UniversalClient, cfg Config) stores {
	log := cfg.Telemetry.Log
	book := storage.New(rdb, storage.Config{
		Fleet: fleet.Config{Account: cfg.Account.Name, Simulated: cfg.Account.Simulated, Rate: admission.Rate(cfg.Account.Rate), Burst: cfg.Account.Burst, RateChanged: func(from admission.Rate, fromBurst int) {
			log.Info("account rate changed", zap.Stringer("from", from), zap.Stringer("to", admission.Rate(cfg.Account.Rate)),
				zap.Int("from_burst", fromBurst), zap.Int("to_burst", cfg.Account.Burst))
		}, DeadAfter: failpoint.Shorten(fleet.DeadAfter)},
		Ledger: ledger.Config{Credential: cfg.Account.Credential, HoldUncertain: cfg.Retry.HoldUncertain, RowsRefused: func(name, message string) {
			log.Error("batch paused: its calls are refused as invalid; correct the rows, then run kyclink batch resume",
				zap.String("batch", name), zap.Int("in_a_row", batch.MaxRefused), zap.String("message", message))
		}},
		Results:   resultstream.Config{Age: cfg.Retention.Results, Cap: cfg.Retention.ResultsCap},
		Retention: cfg.Retention.Requests,
	})
	s := storesOf(book)
	if cfg.Journal != nil {
		journaled := recorder.New(book.Requests, book.Records.Get, cfg.Journal)
		s.lanes.admissions, s.lanes.results, s.lanes.ends = journaled, journaled, journaled
	}
	return s
}

// storesOf returns the parts of an account's stores.
func storesOf(book *storage.Stores) stores {
	requests, counter := book.Requests, new(activity.Counter)
	return stores{
		lanes: laneStores{
			admissions: requests, signals: requests, releases: requests, results: requests, ends: requests, undecodable: requests,
			quarantine: book.Quarantine, activity: counter,
		},
		fleet: book.Fleet, written: book.Fleet.WriteError,
		flush: func(ctx context.Context) error { return book.Activity.Flush(ctx, counter) },
		feed:  requests, opener: book.Deliveries, deliveries: book.Deliveries,
		recovery: recovery.Config{
			Handlers: book.Fleet, Quarantine: book.Quarantine, Turns: requests, Deliveries: book.Deliveries, Requests: requests,
			Batches: book.Batches, Results: book.Results, Counters: requests, OverdueAfter: failpoint.Shorten(recovery.OverdueAfter),
			Upkeep: struct {
				*erasure.Eraser
				*batch.Store
			}{book.Erasure, book.Batches},
		},
	}
}

// newWorker makes a worker; cfg is complete.
func newWorker(rdb redis.UniversalClient, s stores, links Upstream, cfg Config) *Worker {
	log, limited := cfg.Telemetry.Log, cfg.Telemetry.Limited
	w := &Worker{cfg: cfg, rdb: rdb, life: lifecycle.New(limited)}
	w.member = &member{fleet: s.fleet, written: s.written, handled: w.handled, flush: s.flush, life: w.life, log: log, limited: limited}
	b := &blueprint{rdb: rdb, stores: s, links: links, cfg: cfg, queue: asynqx.NewClient(rdb)}
	w.open, w.upkeep = b.session, b.upkeep
	if cfg.Rest == nil {
		w.session.Store(b.session())
	}
	return w
}

// blueprint is what the sessions of a worker are made of.
type blueprint struct {
	rdb    redis.UniversalClient
	stores stores
	links  Upstream
	cfg    Config
	queue  *asynq.Client
}

// session returns a new session.
func (b *blueprint) session() *session {
	cfg, queue, account := b.cfg, b.queue, b.cfg.Account.Name
	log, limited := cfg.Telemetry.Log, cfg.Telemetry.Limited
	life := lifecycle.New(limited)
	policy := policy{base: cfg.Retry.BackoffBase, cap: cfg.Retry.BackoffCap, maxCharged: cfg.Retry.MaxAttempts, hold: cfg.Retry.HoldUncertain, random: uniform}
	wiring := &wiring{
		stores: b.stores.lanes, upstream: upstream{b.links}, cfg: cfg, policy: policy, life: life, turns: newTurns(),
		gate: &gate{signals: b.stores.lanes.signals, life: life, limited: limited}, enqueue: b.enqueue,
	}
	s := &session{
		cfg: cfg, life: life,
		servers: &servers{rdb: b.rdb, account: account, log: logs{log, limited}, config: asynqx.ServerConfig{
			Blocking: cmp.Or(cfg.Blocking, b.rdb), Drain: cfg.longestCall() + drainMargin, Pause: policy.pause, Log: limited,
		}},
		lanes: map[request.Lane]*pipeline{request.Interactive: wiring.pipeline(), request.Bulk: wiring.pipeline()},
	}
	slots := cfg.Calls.Concurrency
	bulk := &bulkLane{
		pipeline: s.lanes[request.Bulk], places: make(chan struct{}, turnsPerSlot*slots), life: life, limited: limited, held: map[string]int{},
		enqueue: func(ctx context.Context, turn request.Ref, delay time.Duration) error {
			return linktask.EnqueueIn(ctx, queue, account, request.Bulk, turn, delay)
		},
	}
	s.servers.add(request.Interactive, s.lanes[request.Interactive], slots)
	s.handlers = append(s.handlers, bulk)
	s.servers.add(request.Bulk, bulk, slots)
	s.servers.add(request.Bundles, asynq.HandlerFunc(bulk.processBundle), bundlesAtOnce)

	enqueueBundle := func(ctx context.Context, turns []request.Ref) error {
		return linktask.EnqueueBundle(ctx, queue, account, turns)
	}
	feed := feeder.New(feeder.Config{
		Source: b.stores.feed, Enqueue: b.enqueue, EnqueueBundle: enqueueBundle, MinQueued: 2 * slots, RateRead: s.setRate, Log: log, Limited: limited,
	})
	repair := b.repair()
	repair.Leads = feed.Leads
	actions := action.NewRunner(action.RunnerConfig{Redis: b.rdb, Account: account, Log: log, Limited: limited})
	s.background = []func(context.Context){feed.Run, recovery.New(repair).Run, s.servers.watch, actions.Run}
	if cfg.Beside != nil {
		s.background = append(s.background, cfg.Beside)
	}
	if cfg.Callbacks.Poster != nil {
		s.addCallbacks(queue, b.stores, wiring)
	}
	return s
}

// upkeep examines the account now and then while the worker rests. Several workers may do so
// at a time.
func (b *blueprint) upkeep(ctx context.Context) {
	repair := b.repair()
	repair.Leads = func() bool { return true }
	repair.Pause = upkeepPause*3/4 + uniform(upkeepPause/2) // not all accounts of a process at the same time
	recovery.New(repair).Run(ctx)
}

// repair returns the configuration of the recovery, without who leads.
func (b *blueprint) repair() recovery.Config {
	repair := b.stores.recovery
	repair.Redis, repair.Account, repair.Enqueue = b.rdb, b.cfg.Account.Name, b.enqueue
	repair.EnqueueDelivery = func(ctx context.Context, d delivery.Task) error {
		_, err := dispatch.Enqueue(ctx, b.queue, b.cfg.Account.Name, d)
		return err
	}
	repair.Log, repair.Limited, repair.Meter = b.cfg.Telemetry.Log, b.cfg.Telemetry.Limited, b.cfg.Telemetry.Meter
	return repair
}

func (b *blueprint) enqueue(ctx context.Context, lane request.Lane, turn request.Ref) error {
	return linktask.Enqueue(ctx, b.queue, b.cfg.Account.Name, lane, turn)
}

// addCallbacks lets a session deliver callbacks.
func (s *session) addCallbacks(queue *asynq.Client, from stores, wiring *wiring) {
	t := s.cfg.Telemetry
	dispatcher := dispatch.NewDispatcher(dispatch.DispatcherConfig{
		Redis: s.servers.config.Blocking, Account: s.cfg.Account.Name, Opener: from.opener, Queue: queue, Limited: t.Limited,
	})
	lane := dispatch.NewLane(dispatch.LaneConfig{
		Deliveries: from.deliveries, Poster: poster{s.cfg.Callbacks.Poster}, Pauses: s.cfg.Callbacks.Pauses, Lifecycle: s.life,
		Quarantine: wiring.quarantine(), Telemetry: dispatch.Telemetry{
			Log: t.Log, Limited: t.Limited, Attempted: s.cfg.Callbacks.Attempted, Tracer: tracing.New(t.TracerProvider),
		},
	})
	s.handlers = append(s.handlers, lane)
	s.servers.add(request.Callbacks, lane, dispatch.Concurrency)
	s.background = append(s.background, func(ctx context.Context) {
		if err := dispatcher.Run(ctx); err != nil {
			s.life.Fail(err)
		}
	})
}

// longestCall is the longest that a handler waits for an answer.
func (c Config) longestCall() time.Duration {
	if c.Callbacks.Poster == nil {
		return c.Calls.Timeout
	}
	return max(c.Calls.Timeout, c.Callbacks.Poster.Timeout())
}

// wiring is what the pipelines of a session share.
type wiring struct {
	stores   laneStores
	upstream upstream
	cfg      Config
	policy   policy
	life     *lifecycle.Lifecycle
	turns    *turns
	gate     *gate
	enqueue  func(ctx context.Context, lane request.Lane, turn request.Ref) error
}

// pipeline returns the pipeline of a lane.
func (w *wiring) pipeline() *pipeline {
	log, limited, observe := w.cfg.Telemetry.Log, w.cfg.Telemetry.Limited, newAttemptObserver(w.cfg.Telemetry)
	limit := newLimit(w.cfg.Calls.Concurrency, w.cfg.Calls.Auto)
	retry := &retrier{life: w.life, policy: w.policy, log: log}
	quarantine := &quarantiner{tasks: w.quarantine(), requests: w.stores.undecodable, retry: retry, log: log}
	record := &resultRecorder{results: w.stores.results, life: w.life, policy: w.policy, observe: observe, activity: w.stores.activity, log: log, limited: limited}
	defaults := request.Defaults{ExpiryMinutes: w.cfg.Defaults.ExpiryMinutes, WorkflowID: w.cfg.Defaults.WorkflowID}
	return &pipeline{
		turns: w.turns,
		admit: &admitter{
			asker: &asker{
				admissions: w.stores.admissions, results: w.stores.results, turns: w.turns, defaults: defaults, life: w.life, limited: limited,
			},
			gate: w.gate, upstream: w.upstream, line: newLine(), limit: limit,
			release: &releaser{releases: w.stores.releases, enqueue: w.enqueue, life: w.life, retry: retry},
			retry:   retry,
		},
		call:   &caller{upstream: w.upstream, limit: limit, observe: observe, log: log},
		record: record,
		settle: &settler{
			ends: w.stores.ends, upstream: w.upstream, record: record, quarantine: quarantine, retry: retry, log: log, limited: limited,
		},
		quarantine: quarantine,
		observe:    observe,
		log:        log,
	}
}

func (w *wiring) quarantine() asynqx.Quarantine {
	return asynqx.Quarantine{Store: w.stores.quarantine, Pause: w.policy.pause, Log: w.cfg.Telemetry.Log, Limited: w.cfg.Telemetry.Limited}
}

// uniform returns a duration between 0 and d.
func uniform(d time.Duration) time.Duration { return rand.N(d + 1) }
