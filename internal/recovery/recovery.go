// Package recovery finds and repairs what dead workers and lost tasks have left behind. It
// also ends requests that have waited too long, and removes data past its retention.
//
// A task is orphaned when no live process has a handler for it. It returns to its queue,
// and its next handler asks the ledger what may be done: if the turn is stale, the task
// ends; if its attempt died, the request is called again or held. The recovery itself
// changes only requests past their not_after, and those of a batch whose cancellation
// stopped halfway.
package recovery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	defaultPause = 3 * time.Second
	passTimeout  = time.Minute
	mostPages    = 40 // of one kind in a pass, so that it does not delay the others
)

// The kinds of repairs, as the log, the metrics and the account's counters name them.
const (
	Orphaned    = "orphaned"   // a task whose handler died: requeued
	Archived    = "archived"   // a task that asynq archived: requeued
	Quarantined = "poisoned"   // a task that cannot be decoded: quarantined
	Missing     = "missing"    // a turn or a delivery without a task: enqueued
	Late        = "late"       // a task that was due and not run: run
	Expired     = "expired"    // a request past its not_after: ended
	Retired     = "retired"    // a request past its retention: erased
	Deleted     = "deleted"    // a batch without rows: deleted
	Readable    = "readable"   // a request that an older version could not decode: fed
	Cancelled   = "called_off" // a request of a cancelled batch: ended
)

// Counts counts repairs by kind.
type Counts map[string]int

// Counters adds to the account's counters of repairs.
type Counters interface {
	CountRepairs(ctx context.Context, counts map[string]int) error
}

// Meter records repairs.
type Meter interface {
	Recovered(kind string, n int)
}

// Config configures a [Recovery]. A duration of 0 means the default, which its comment gives.
type Config struct {
	Redis   redis.UniversalClient
	Account string
	// Enqueue enqueues the task of a turn, EnqueueDelivery that of a delivery.
	Enqueue         func(ctx context.Context, lane request.Lane, turn request.Ref) error
	EnqueueDelivery func(ctx context.Context, d delivery.Task) error
	// Leads says whether this process is the one that recovers.
	Leads func() bool

	Handlers   Handlers
	Quarantine Quarantine
	Turns      Turns
	Deliveries Deliveries
	Requests   Requests
	Batches    Batches
	Upkeep     Upkeep
	Results    Results
	Counters   Counters

	Pause        time.Duration // between two passes; 3 s
	OverdueAfter time.Duration // after which a queued turn is examined; 30 s
	StalledAfter time.Duration // after which a pending delivery is examined; 10 min
	KnownFor     time.Duration // how long the list of handlers is valid; 5 s
	// Unclaimed is how long no heartbeat has named the handler of an active task before it
	// counts as orphaned; 5 s.
	Unclaimed time.Duration

	Log, Limited *zap.Logger
	Meter        Meter
}

// Recovery repairs. The leader does almost all of it; two at a time do no harm.
type Recovery struct {
	leads    func() bool
	pause    time.Duration
	steps    []step
	follow   step   // of a process that does not lead
	forget   func() // what a process that does not lead must not remember
	counters Counters
	meter    Meter
	log      logs
}

// logs are the loggers: one for repairs, one for errors, which may repeat.
type logs struct{ repaired, limited *zap.Logger }

// step examines one kind of things and counts what it repaired.
type step func(ctx context.Context, counts Counts) error

// New returns a recovery.
func New(cfg Config) *Recovery {
	setDefault(&cfg.Pause, defaultPause)
	setDefault(&cfg.OverdueAfter, OverdueAfter)
	setDefault(&cfg.StalledAfter, defaultStalledAfter)
	setDefault(&cfg.KnownFor, defaultKnownFor)
	setDefault(&cfg.Unclaimed, defaultUnclaimed)
	queue := func(lane request.Lane) asynqx.Queue { return asynqx.NewQueue(cfg.Redis, cfg.Account, lane) }
	lanes := []asynqx.Queue{queue(request.Interactive), queue(request.Bulk)}
	bundles, callbacks := queue(request.Bundles), queue(request.Callbacks)
	all := append(slices.Clone(lanes), bundles, callbacks)

	requeuer := &requeuer{quarantine: cfg.Quarantine, log: cfg.Log}
	turns := &turns{turns: cfg.Turns, queues: lanes, bundles: bundles, enqueue: cfg.Enqueue, overdue: cfg.OverdueAfter}
	r := &Recovery{
		leads: cfg.Leads, pause: cfg.Pause, counters: cfg.Counters, meter: cfg.Meter, log: logs{cfg.Log, cfg.Limited},
	}
	orphans := &orphans{handlers: cfg.Handlers, requeuer: requeuer, queues: all, knownFor: cfg.KnownFor, unclaimed: cfg.Unclaimed}
	batches := &batches{batches: cfg.Batches}
	r.forget = func() {
		orphans.forget()
		batches.forget()
	}
	for _, q := range all {
		r.steps = append(r.steps, func(ctx context.Context, counts Counts) error { return requeuer.archived(ctx, q, counts) })
	}
	r.steps = append(r.steps, orphans.requeue, turns.lost)
	for _, q := range lanes {
		r.steps = append(r.steps, func(ctx context.Context, counts Counts) error { return turns.overdueOf(ctx, q, counts) })
	}
	requests, upkeep := &requests{requests: cfg.Requests}, &upkeep{upkeep: cfg.Upkeep, pause: cfg.Pause}
	stream := &stream{results: cfg.Results, warnings: warnings{logger: cfg.Log, now: time.Now}}
	r.follow = requests.feedReadable // the leader may be of an older version
	r.steps = append(r.steps,
		(&deliveries{deliveries: cfg.Deliveries, queue: callbacks, enqueue: cfg.EnqueueDelivery, stalledAfter: cfg.StalledAfter}).enqueueStalled,
		requests.expire, batches.finishCancelling, requests.feedReadable,
		stream.trim, upkeep.retire, upkeep.index, upkeep.dropEmpty,
	)
	return r
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Run recovers until ctx is done. At first it records no repair of each kind, so that the first
// one shows as an increase of the metric.
func (r *Recovery) Run(ctx context.Context) {
	for _, kind := range []string{Orphaned, Archived, Quarantined, Missing, Late, Expired, Retired, Deleted, Readable, Cancelled} {
		r.meter.Recovered(kind, 0)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(r.pause):
		}
		steps := r.steps
		if !r.leads() {
			r.forget()
			steps = []step{r.follow}
		}
		once, cancel := context.WithTimeout(ctx, passTimeout)
		counts, err := r.examine(once, steps)
		cancel()
		if n := counts[Orphaned]; n > 0 {
			r.log.repaired.Info("recovered requests of dead worker", zap.Int("count", n))
		}
		if len(counts) > 0 {
			r.log.repaired.Info("recovery pass finished", zap.Any("recovered", counts))
		}
		if err != nil && ctx.Err() == nil {
			r.log.limited.Warn("recovery pass failed in part; retrying", zap.Error(err))
		}
	}
}

// Pass examines everything once and counts what it repaired. An error of one step does
// not stop the others.
func (r *Recovery) Pass(ctx context.Context) (Counts, error) { return r.examine(ctx, r.steps) }

func (r *Recovery) examine(ctx context.Context, steps []step) (Counts, error) {
	counts := Counts{}
	var all []error
	for _, step := range steps {
		all = append(all, step(ctx, counts))
	}
	for kind, n := range counts {
		if n == 0 {
			delete(counts, kind)
			continue
		}
		r.meter.Recovered(kind, n)
	}
	if len(counts) > 0 {
		all = append(all, r.counters.CountRepairs(ctx, counts))
	}
	return counts, errors.Join(all...)
}
