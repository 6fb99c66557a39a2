// Package feeder moves waiting bulk requests into the asynq queue, a few seconds' work at a
// time. Everything else waits in the ledger, where it can be paused, cancelled and
// overtaken.
package feeder

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// Source moves waiting bulk requests to the queue.
type Source interface {
	// Feed moves requests if this process leads, and returns the turns whose tasks are to be
	// enqueued.
	Feed(ctx context.Context, want ledger.FeedTarget) (ledger.FeedResult, error)
}

const (
	mostPerCall  = 250 // requests of one script call, which must not block Redis for long
	ahead        = 5 * time.Second
	mostQueued   = 5000 // requests in the queue, however high the rate is
	defaultLease = 3 * time.Second
	leaderPause  = 100 * time.Millisecond
	otherPause   = time.Second
	concurrency  = 64 // tasks enqueued at a time
	timeout      = 10 * time.Second
)

// Config configures a [Feeder].
type Config struct {
	Source Source
	// Enqueue enqueues the task of a turn, and EnqueueBundle one task for several turns.
	Enqueue       func(ctx context.Context, lane request.Lane, turn request.Ref) error
	EnqueueBundle func(ctx context.Context, turns []request.Ref) error
	// MinQueued is the number of requests that the queue should hold, however low the rate is.
	MinQueued int
	// RateRead is called with the rate in force, per second, each time that it was read.
	RateRead func(perSecond float64)
	// Lease is how long a process leads after its last call of Feed; 0 means 3 s. With the
	// pause of the others it is shorter than the work in the queue lasts.
	Lease        time.Duration
	Log, Limited *zap.Logger
}

// Feeder keeps the bulk queue filled. One process of the fleet leads; the others read the
// rate.
type Feeder struct {
	cfg   Config
	leads atomic.Bool
}

// New returns a feeder.
func New(cfg Config) *Feeder {
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	return &Feeder{cfg: cfg}
}

// Leads says whether this process led when it last called Feed.
func (f *Feeder) Leads() bool { return f.leads.Load() }

// Run feeds until ctx is done.
func (f *Feeder) Run(ctx context.Context) {
	for {
		fed, leads, err := f.Feed(ctx)
		f.leads.Store(err == nil && leads)
		pause := leaderPause
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.cfg.Limited.Warn("feeding the bulk lane failed; retrying", zap.Error(err))
			pause = otherPause
		case !leads:
			pause = otherPause
		case fed >= mostPerCall:
			pause = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// Feed feeds once, and returns how many requests it fed and whether this process leads.
func (f *Feeder) Feed(ctx context.Context) (fed int, leads bool, err error) {
	once, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	result, err := f.cfg.Source.Feed(once, ledger.FeedTarget{
		MinQueued: f.cfg.MinQueued, MaxQueued: mostQueued, Ahead: ahead, MaxFed: mostPerCall, Lease: f.cfg.Lease,
	})
	if err != nil {
		return 0, false, err
	}
	if len(result.Refs) > 0 {
		failpoint.Hit("fed")
	}
	f.cfg.RateRead(result.PerSecond)
	for _, change := range result.GateChanges {
		f.logChange(change)
	}
	size := 1
	if result.Bundles {
		size = bundleSize(result.PerSecond)
	}
	return len(result.Refs), result.Leads, f.enqueue(once, result.Refs, size)
}

const (
	leastBundled   = 40 // the rate per second from which on requests are bundled
	smallestBundle = 8  // a smaller one is hardly worth its task
	bundlesOfRate  = 16 // a bundle stands for this part of a second of the rate
)

// bundleSize returns the number of turns for which one task is enqueued. It is small
// against the rate, so that all processes have work.
func bundleSize(perSecond float64) int {
	if perSecond < leastBundled {
		return 1
	}
	return int(min(max(perSecond/bundlesOfRate, smallestBundle), linktask.MaxBundle))
}

func (f *Feeder) enqueue(ctx context.Context, turns []request.Ref, size int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for bundle := range slices.Chunk(turns, size) {
		group.Go(func() (err error) {
			if len(bundle) == 1 {
				err = f.cfg.Enqueue(ctx, request.Bulk, bundle[0])
			} else {
				err = f.cfg.EnqueueBundle(ctx, bundle)
			}
			failpoint.Hit("dispatched")
			return err
		})
	}
	return group.Wait()
}

// logChange logs a change of the gate, such as "gate closed", once in the fleet.
func (f *Feeder) logChange(change string) {
	at, rest, _ := strings.Cut(change, " ")
	state, reason, _ := strings.Cut(rest, " ")
	ms, _ := strconv.ParseInt(at, 10, 64)
	level := zap.WarnLevel
	if state != "closed" {
		level = zap.InfoLevel
	}
	f.cfg.Log.Log(level, "gate "+state, zap.String("reason", reason), zap.Time("since", time.UnixMilli(ms).UTC()))
}
