package worker

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
)

// Leftovers is what the sweep needs of the ledger: bounded sets, page by page.
type Leftovers interface {
	// Overdue names queued turns that nobody has taken up for a while; more says
	// that there are others.
	Overdue(ctx context.Context, lane request.Lane, since time.Duration) (refs []request.Ref, more bool, err error)
	// StalledDeliveries names pending deliveries that are due for so long; more says that
	// there are others.
	StalledDeliveries(ctx context.Context, since time.Duration) (stalled []delivery.Task, more bool, err error)
	// Lost names the turns whose call died with its process.
	Lost(ctx context.Context, page string) (lost []request.Turn, next string, err error)
	// ExpireLate ends requests whose not_after passed while they waited.
	ExpireLate(ctx context.Context, page string) (ended int, next string, err error)
	// Readable lets requests be fed that an older version could not read.
	Readable(ctx context.Context) (int, error)
	// Cancelling are the batches whose cancelling is not over, with how far it is;
	// CallOff goes on with one, and tells how many requests ended.
	Cancelling(ctx context.Context) (far map[int]string, err error)
	CallOff(ctx context.Context, batch int, told func(ended int)) error
	// Retire erases what ended too long ago, a part of its way at that interval.
	Retire(ctx context.Context, interval time.Duration) (erased int, err error)
	// DropEmpty deletes batches of which nothing is left, a part of its way.
	DropEmpty(ctx context.Context) (dropped int, err error)
	// TrimResults keeps the results stream within its age and its cap.
	TrimResults(ctx context.Context) (results.Trim, error)
	// Handlers tells which turns have a handler, and whether its process lives.
	Handlers(ctx context.Context) (alive map[string]bool, err error)
	// Mended counts what was mended, by kind.
	Mended(ctx context.Context, counts map[string]int) error
	// PutAside keeps what cannot be understood for a person.
	PutAside(ctx context.Context, p quarantine.Entry) error
}

const (
	sweepPause   = 3 * time.Second
	sweepTimeout = time.Minute
	sweepPages   = 40              // of a kind in one pass, so that none keeps the others waiting
	unclaimedFor = 5 * time.Second // several heartbeats, which tell what has a handler
	knownFor     = 5 * time.Second // what has a handler
	mendAtOnce   = 32
	callOffTakes = 2 * time.Second // of a pass, for the same reason
)

// The kinds of what the sweep mends, as its log and the account's counts name
// them.
const (
	orphaned  = "orphaned"   // a task whose handler died: given back
	archived  = "archived"   // a task that asynq archived: given back
	poisoned  = "poisoned"   // a task that nobody can read: put aside
	missing   = "missing"    // a turn or a callback without a task: enqueued
	late      = "late"       // a task that was due and still put off: run
	expired   = "expired"    // a request past its not_after: ended
	retired   = "retired"    // a request that ended too long ago to be kept: erased
	deleted   = "deleted"    // a batch of which nothing is left: deleted
	readable  = "readable"   // a request that an older version could not read: fed
	calledOff = "called_off" // a request of a batch that was cancelled: ended
)

// sweep mends what processes that died left behind, and ends what has waited too
// long. The leader does it; two at a time would do no harm.
//
// A task is orphaned when no process that lives has a handler for it. It then
// goes back to its queue, and its next handler asks the ledger what may be done:
// where the turn stands for nothing any more that ends the task, where its
// attempt died it is judged there. The sweep itself changes no request but those
// past their not_after, and those of a batch whose cancelling nobody sees through.
type sweep struct {
	left       Leftovers
	queues     []queue // of the lanes
	callbacks  queue
	leads      func() bool
	overdue    time.Duration // after which a queued turn is looked after
	pause      time.Duration
	stalledFor time.Duration        // after which a pending delivery is looked after
	knownFor   time.Duration        // what has a handler
	unclaimed  time.Duration        // after which an active task is nobody's
	seen       map[string]time.Time // active tasks that no process has a handler for, since when
	far        map[int]string       // batches that are being cancelled, and how far that was
	stream     stream               // what was said of it
	log        *zap.Logger          // of what was mended
	limited    *zap.Logger
	meter      Meter
}

func newSweep(rdb redis.UniversalClient, left Leftovers, client *asynq.Client, cfg Config, leads func() bool) *sweep {
	s := &sweep{left: left, leads: leads, overdue: overdueAfter, stalledFor: stalledFor, pause: sweepPause,
		knownFor: knownFor, unclaimed: unclaimedFor, stream: stream{log: cfg.Telemetry.Log, now: time.Now}, log: cfg.Telemetry.Log, limited: cfg.Telemetry.Limited, meter: cfg.Telemetry.Meter}
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		s.queues = append(s.queues, queue{rdb, inspector, client, cfg.Account.Name, lane})
	}
	s.callbacks = queue{rdb, inspector, client, cfg.Account.Name, request.Callbacks}
	return s
}

// run sweeps until ctx is done.
func (s *sweep) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.pause):
		}
		if !s.leads() {
			s.seen, s.far = nil, nil
			continue
		}
		once, cancel := context.WithTimeout(ctx, sweepTimeout)
		mended, err := s.pass(once)
		cancel()
		if len(mended) > 0 {
			s.log.Info("the sweep mended", zap.Any("mended", mended))
		}
		if err != nil && ctx.Err() == nil {
			s.limited.Warn("the sweep could not look at everything; trying again", zap.Error(err))
		}
	}
}

// pass looks at everything once, and gives what it mended, by kind. What cannot
// be looked at keeps nothing else from it.
func (s *sweep) pass(ctx context.Context) (map[string]int, error) {
	mended := map[string]int{}
	var all []error
	for _, q := range s.every() {
		all = append(all, s.archive(ctx, q, mended))
	}
	all = append(all, s.allOrphans(ctx, mended), s.lost(ctx, mended))
	for _, q := range s.queues {
		all = append(all, s.overdueOf(ctx, q, mended))
	}
	all = append(all, s.stalled(ctx, mended), s.expire(ctx, mended), s.callOff(ctx, mended))
	n, err := s.left.Readable(ctx)
	mended[readable] += n
	all = append(all, err, s.trim(ctx))
	n, err = s.left.Retire(ctx, s.pause)
	mended[retired] += n
	all = append(all, err)
	n, err = s.left.DropEmpty(ctx)
	mended[deleted] += n
	for kind, n := range mended {
		if n == 0 {
			delete(mended, kind)
			continue
		}
		s.meter.Recovered(kind, n)
	}
	if all = append(all, err); len(mended) > 0 {
		all = append(all, s.left.Mended(ctx, mended))
	}
	return mended, errors.Join(all...)
}

// every is the queues of the lanes, and that of callbacks.
func (s *sweep) every() []queue { return append(slices.Clone(s.queues), s.callbacks) }

// allOrphans gives tasks back whose handler died, in the time for which it is
// known what has one: a process that was stopped for a while must not go by what
// it knew before.
func (s *sweep) allOrphans(ctx context.Context, mended map[string]int) error {
	ctx, cancel := context.WithTimeout(ctx, s.knownFor)
	defer cancel()
	alive, err := s.left.Handlers(ctx)
	if err != nil {
		s.seen = nil
		return err
	}
	still := map[string]time.Time{}
	var all []error
	for _, q := range s.every() {
		all = append(all, s.orphans(ctx, q, alive, still, mended))
	}
	s.seen = still
	return errors.Join(all...)
}

// orphans gives a task back at once where its process is known and dead, and
// otherwise when nobody has claimed it for a while, pass after pass: still is what
// is to be looked at again. A handler that lives all the same finds out when it
// asks, and loses nothing.
func (s *sweep) orphans(ctx context.Context, q queue, alive map[string]bool, still map[string]time.Time, mended map[string]int) error {
	ids, err := q.active(ctx)
	if err != nil {
		return err
	}
	var all []error
	for _, id := range ids {
		lives, claimed := alive[id]
		if lives {
			continue
		}
		key := q.name() + " " + id
		since, again := s.seen[key]
		if !again {
			since = time.Now()
		}
		if !claimed && time.Since(since) < s.unclaimed {
			still[key] = since
			continue
		}
		if err := s.giveBack(ctx, q, id, orphaned, mended); err != nil {
			all = append(all, err)
			still[key] = since
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(all...)
}

func (s *sweep) archive(ctx context.Context, q queue, mended map[string]int) error {
	for range sweepPages {
		ids, err := q.archived(ctx)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			if err := s.giveBack(ctx, q, id, archived, mended); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveBack lets a task be handled again, which ends it where it stands for
// nothing. What asynq itself could not hand out is put aside; what has lost its
// message is nothing any more.
func (s *sweep) giveBack(ctx context.Context, q queue, id, kind string, mended map[string]int) error {
	task, err := q.look(ctx, id)
	if err != nil {
		return err
	}
	var ok bool
	switch {
	case task.raw == "":
		ok, err = q.remove(ctx, id, task)
	case !task.readable(id):
		kind = poisoned
		s.log.Warn("a task that asynq cannot read was put aside", zap.String("task", id), zap.String("queue", q.name()))
		if err = s.left.PutAside(ctx, quarantine.Entry{Queue: q.name(), Task: id, Why: "asynq cannot read the task", Raw: []byte(task.raw)}); err == nil {
			ok, err = q.remove(ctx, id, task)
		}
	default:
		ok, err = q.giveBack(ctx, id)
	}
	if ok {
		mended[kind]++
	}
	return err
}

// lost sees to it that what was being called by a process that died has a task.
func (s *sweep) lost(ctx context.Context, mended map[string]int) error {
	page := ""
	for range sweepPages {
		turns, next, err := s.left.Lost(ctx, page)
		if err != nil {
			return err
		}
		for _, q := range s.queues {
			var refs []request.Ref
			for _, turn := range turns {
				if turn.Lane == q.lane {
					refs = append(refs, turn.Ref)
				}
			}
			if err := s.mend(ctx, q, refs, mended); err != nil {
				return err
			}
		}
		if page = next; page == "" {
			break
		}
	}
	return nil
}

func (s *sweep) overdueOf(ctx context.Context, q queue, mended map[string]int) error {
	for range sweepPages {
		refs, more, err := s.left.Overdue(ctx, q.lane, s.overdue)
		if err != nil {
			return err
		}
		if err := s.mend(ctx, q, refs, mended); err != nil || !more {
			return err
		}
	}
	return nil
}

// mend sees to it that turns that are due have a task that is on its way. Tasks
// that a handler has are [sweep.orphans]'.
func (s *sweep) mend(ctx context.Context, q queue, refs []request.Ref, mended map[string]int) error {
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.String()
	}
	states, err := q.states(ctx, ids)
	if err != nil {
		return err
	}
	kinds := make([]string, len(states)) // of what was mended
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(mendAtOnce)
	for i, state := range states {
		kind, mend := missing, func() error { return q.dispatch(ctx, refs[i]) }
		switch state {
		case "pending", "active", "archived":
			continue
		case "scheduled", "retry":
			kind, mend = late, func() error { return q.run(ctx, ids[i]) }
		case "":
		default: // completed, or what a later asynq has
			mend = func() error { return q.renew(ctx, refs[i]) }
		}
		group.Go(func() error {
			err := mend()
			if err == nil {
				kinds[i] = kind
			}
			return err
		})
	}
	err = group.Wait()
	for _, kind := range kinds {
		mended[kind]++
	}
	delete(mended, "")
	return err
}

func (s *sweep) expire(ctx context.Context, mended map[string]int) error {
	page := ""
	for range sweepPages {
		ended, next, err := s.left.ExpireLate(ctx, page)
		mended[expired] += ended
		if page = next; err != nil || page == "" {
			return err
		}
	}
	return nil
}

// callOff goes on with batches that were cancelled, where that has not moved
// since the last pass: whoever was at it died, or was stopped.
func (s *sweep) callOff(ctx context.Context, mended map[string]int) error {
	far, err := s.left.Cancelling(ctx)
	if err != nil {
		return err
	}
	once, cancel := context.WithTimeout(ctx, callOffTakes)
	defer cancel()
	for batch, now := range far {
		if before, seen := s.far[batch]; !seen || before != now {
			continue
		}
		err := s.left.CallOff(once, batch, func(ended int) { mended[calledOff] += ended })
		if err != nil && once.Err() == nil {
			return err
		}
	}
	s.far, err = s.left.Cancelling(ctx) // as this pass leaves it
	return err
}
