package action

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/admission"
)

const (
	pageSize     = 50
	atOnce       = 4 // entries that are changed at a time, so that the lanes are not delayed
	defaultPause = time.Second
	defaultLease = 10 * time.Second
	stepTimeout  = 5 * time.Second
)

// RunnerConfig configures a [Runner].
type RunnerConfig struct {
	Redis   redis.UniversalClient
	Account string
	// Pause is how often a runner looks for actions, and whether its own were aborted while
	// it waits; 0 means 1 s. Lease is how long after its last sign of life an action passes to
	// another runner; 0 means 10 s.
	Pause, Lease time.Duration
	Log, Limited *zap.Logger
}

// Runner carries out the running actions of an account, each in a goroutine. Each worker of
// the fleet has one; an action has one runner at a time.
type Runner struct {
	store *Store
	cfg   RunnerConfig
	name  string // of this runner, which no other has
	mu    sync.Mutex
	taken map[string]bool
}

// NewRunner returns a runner that uses, and does not close, the client in cfg.
func NewRunner(cfg RunnerConfig) *Runner {
	if cfg.Pause == 0 {
		cfg.Pause = defaultPause
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	return &Runner{store: NewStore(cfg.Redis, cfg.Account), cfg: cfg, name: uuid.NewString(), taken: map[string]bool{}}
}

// Run runs actions until ctx is done. It completes the pages that it has begun, and leaves
// the rest to other runners.
func (r *Runner) Run(ctx context.Context) {
	var actions sync.WaitGroup
	defer actions.Wait()
	for {
		once, cancel := context.WithTimeout(ctx, stepTimeout)
		ids, err := r.cfg.Redis.ZRange(once, r.store.keys.RunningActions(), 0, -1).Result()
		cancel()
		if err != nil && ctx.Err() == nil {
			r.cfg.Limited.Warn("reading the running actions failed; retrying", zap.Error(err))
		}
		for _, id := range ids {
			if r.claim(id) {
				actions.Go(func() {
					defer r.unclaim(id)
					r.continueAction(ctx, id)
				})
			}
		}
		if !sleep(ctx, r.cfg.Pause) {
			return
		}
	}
}

// claim returns false if a goroutine of this runner has the action.
func (r *Runner) claim(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[id] {
		return false
	}
	r.taken[id] = true
	return true
}

func (r *Runner) unclaim(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.taken, id)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// continueAction takes an action, if no other runner has it, and carries it out. It reports
// whether the action has ended by that. After an error, [Runner.Run] takes it again.
func (r *Runner) continueAction(ctx context.Context, id string) (ended bool) {
	l := lease{rdb: r.cfg.Redis, keys: r.store.keys, id: id, runner: r.name, length: r.cfg.Lease}
	a, ok, err := l.take(ctx)
	if err == nil && ok {
		run := &run{store: r.store, lease: l, action: a, pause: min(r.cfg.Pause, r.cfg.Lease/4), log: r.cfg.Limited.With(zap.String("action", id))}
		if a.State == Running {
			err = run.all(ctx)
		} else {
			err = run.count(ctx)
		}
		if ended = run.ended != ""; ended {
			r.cfg.Log.Info("action ended", zap.String("action", id), zap.String("kind", string(a.Kind)), zap.String("state", string(run.ended)))
		}
	}
	if _, unreadable := errors.AsType[*unreadableError](err); unreadable {
		r.cfg.Limited.Warn("an action was left to a newer version", zap.Error(err))
	} else if err != nil && ctx.Err() == nil {
		r.cfg.Limited.Warn("an action was interrupted; retrying", zap.String("action", id), zap.Error(err))
	}
	return ended
}

// run is an action that this runner has taken.
type run struct {
	store  *Store
	lease  lease
	action stored
	limit  *rate.Limiter
	pause  time.Duration
	log    *zap.Logger
	ended  State // "" if it is not this runner that has ended it
}

// errLost ends a run whose action was aborted, or taken by another runner.
var errLost = errors.New("the action is no longer this runner's")

// all changes the entries that are left.
func (r *run) all(ctx context.Context) error {
	pace, err := admission.ParseRate(r.action.Rate)
	if err != nil {
		return r.end(ctx, progress{end: Aborted, message: err.Error()})
	}
	// A page is at most what the rate permits in a second, so that the lease does not expire.
	size := int(max(1, min(pageSize, math.Floor(perSecond(pace)))))
	r.limit = rate.NewLimiter(rate.Limit(perSecond(pace)), size)
	if err = r.finishPage(ctx); err == nil {
		err = r.walk(ctx, size)
	}
	switch {
	case errors.Is(err, errLost):
		return nil
	case ctx.Err() != nil: // another runner may continue at once
		_, err = r.save(ctx, progress{cursor: r.action.cursor, page: r.action.page, release: true})
		return err
	}
	return err
}

// finishPage changes the entries of a page that a runner had begun before it died.
func (r *run) finishPage(ctx context.Context) error {
	if len(r.action.page) == 0 {
		return nil
	}
	left, counted, err := r.begun(ctx)
	if err != nil {
		return err
	}
	if _, err := change(ctx, left); err != nil {
		return err
	}
	counted.Done += len(left)
	return r.saved(ctx, progress{cursor: r.action.cursor, counted: counted})
}

// count counts the entries of a page that a runner had begun before it died, of an action
// that was aborted since. It changes none.
func (r *run) count(ctx context.Context) error {
	left, counted, err := r.begun(ctx)
	if err != nil {
		return err
	}
	if r.action.Kind == RetryDeliveries { // these are in the list until an attempt begins
		events := make([]string, len(left))
		for i, e := range left {
			events[i] = e.ID
		}
		enqueued, err := r.store.operator.EnqueuedDeliveries(ctx, events)
		if err != nil {
			return err
		}
		counted.Done += enqueued
	}
	_, err = r.save(ctx, progress{counted: counted})
	return err
}

// begun returns the entries of the page that are as they were when it was begun, and counts
// the others: an entry that is no longer so was changed by the runner that began it.
func (r *run) begun(ctx context.Context) (left []entry, counted Counts, err error) {
	page := r.action.page
	open := make(map[planned]bool, len(page))
	ids := make([]string, 0, len(page))
	for _, p := range page {
		if p.Unreadable {
			counted.Skipped.Unreadable++
			continue
		}
		open[p], ids = true, append(ids, p.ID)
	}
	if len(ids) == 0 {
		return nil, counted, nil
	}
	pages, err := r.store.list(ctx, Request{Kind: r.action.Kind, IDs: ids}, func(string) {})
	if err != nil {
		return nil, counted, err
	}
	for found, err := range pages {
		if err != nil {
			return nil, counted, err
		}
		left = append(left, slices.DeleteFunc(found, func(e entry) bool { return !open[e.planned] })...)
	}
	counted.Done = len(ids) - len(left)
	return left, counted, nil
}

// walk changes the entries after the cursor, a page of the given size at a time.
func (r *run) walk(ctx context.Context, size int) error {
	a := &r.action
	what := Request{Kind: a.Kind, Filter: a.Filter, IDs: a.ids}
	start := a.cursor
	if since := time.UnixMilli(start.At); start.ID != "" && len(a.ids) == 0 && since.After(what.Filter.Since) {
		what.Filter.Since = since
	}
	pages, err := r.store.entries(ctx, what, func(string) {})
	if invalid, ok := errors.AsType[*InvalidError](err); ok { // the batch was erased
		return r.end(ctx, progress{end: Aborted, message: invalid.Error()})
	}
	if err != nil {
		return err
	}
	for page, err := range pages {
		if err != nil {
			return err
		}
		page = slices.DeleteFunc(page, func(e entry) bool { return start.ID != "" && compare(e.place, start) <= 0 })
		for part := range slices.Chunk(page, size) {
			if err := r.part(ctx, part); err != nil {
				return err
			}
		}
	}
	gone := max(0, a.Counts.Matched-a.Counts.Done-a.Counts.Skipped.Total())
	return r.end(ctx, progress{end: Done, counted: Counts{Skipped: Skipped{Gone: gone}}})
}

// part stores which entries it changes, changes them, and stores how many it has changed.
func (r *run) part(ctx context.Context, part []entry) error {
	if err := r.wait(ctx, len(part)); err != nil {
		return err
	}
	page := make([]planned, len(part))
	for i, e := range part {
		page[i] = e.planned
	}
	if err := r.saved(ctx, progress{cursor: part[len(part)-1].place, page: page}); err != nil {
		return err
	}
	readable := make([]entry, 0, len(part))
	for _, e := range part {
		if e.unreadable == nil {
			readable = append(readable, e)
			continue
		}
		r.log.Warn("skipped an entry of an action that cannot be decoded", zap.String("id", e.ID), zap.Error(e.unreadable))
	}
	done, err := change(ctx, readable)
	if err != nil {
		return err
	}
	return r.saved(ctx, progress{cursor: r.action.cursor, counted: Counts{
		Done: done, Skipped: Skipped{Changed: len(readable) - done, Unreadable: len(part) - len(readable)},
	}})
}

// wait waits until the rate permits n more entries. It renews the lease meanwhile, and
// notices that the action was aborted.
func (r *run) wait(ctx context.Context, n int) error {
	until := time.Now().Add(r.limit.ReserveN(time.Now(), n).Delay())
	for {
		left := time.Until(until)
		if left <= 0 {
			return ctx.Err()
		}
		if !sleep(ctx, min(left, r.pause)) {
			return ctx.Err()
		}
		if _, ok, err := r.lease.take(ctx); err != nil || !ok {
			return errors.Join(err, lost(ok))
		}
	}
}

func lost(ok bool) error {
	if ok {
		return nil
	}
	return errLost
}

// change changes entries, several at a time, and returns how many had not changed since they
// were read. It completes them even if ctx ends.
func change(ctx context.Context, page []entry) (done int, err error) {
	var n atomic.Int64
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, e := range page {
		group.Go(func() error {
			once, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
			defer cancel()
			changed, err := e.change(once)
			if changed {
				n.Add(1)
			}
			return err
		})
	}
	err = group.Wait()
	return int(n.Load()), err
}

// saved stores progress, and fails with errLost if the action does not continue.
func (r *run) saved(ctx context.Context, p progress) error {
	state, err := r.save(ctx, p)
	if err == nil && state != Running {
		return errLost
	}
	return err
}

// end ends the action.
func (r *run) end(ctx context.Context, p progress) error {
	state, err := r.save(ctx, p)
	if err == nil && state == p.end {
		r.ended = state
	}
	return err
}

func (r *run) save(ctx context.Context, p progress) (state State, err error) {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	if state, err = r.lease.save(once, p); err == nil {
		a := &r.action
		a.cursor, a.page = p.cursor, p.page
		a.Counts.add(p.counted)
	}
	return state, err
}
