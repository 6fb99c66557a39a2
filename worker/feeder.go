package worker

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// Source is what the feeder needs of the ledger.
type Source interface {
	// Feed makes waiting bulk requests queued while this process leads.
	Feed(ctx context.Context, want ledger.Feed) (ledger.Fed, error)
}

const (
	feedMost      = 1000 // requests of one script call: it must not hold Redis for long
	feedAhead     = 5 * time.Second
	feedLimit     = 5000 // fed requests, however high the rate is
	feedLease     = 5 * time.Second
	feedPause     = 100 * time.Millisecond // of the leader
	followPause   = time.Second            // of the others
	overdueAfter  = 30 * time.Second       // a turn is looked after by the sweep
	feedDispatch  = 64                     // tasks enqueued at a time
	feederTimeout = 10 * time.Second
)

// feeder keeps the bulk lane filled with a few seconds' work; everything else
// waits in the ledger, where it can be paused, cancelled and overtaken. One
// process of the fleet leads.
type feeder struct {
	source  Source
	queue   *asynq.Client
	account string
	atLeast int           // fed requests that the lane should hold, however low the rate is
	rate    func(float64) // is told of the rate in force, per second
	lease   time.Duration // of the leader
	leads   atomic.Bool   // this process, when it last asked
	log     *zap.Logger   // of changes of the gate
	limited *zap.Logger
}

// run feeds until ctx is done.
func (f *feeder) run(ctx context.Context) {
	for {
		fed, leads, err := f.feed(ctx)
		f.leads.Store(err == nil && leads)
		pause := feedPause
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			f.limited.Warn("feeding the bulk lane failed; trying again", zap.Error(err))
			pause = followPause
		case !leads:
			pause = followPause
		case fed >= feedMost:
			pause = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

func (f *feeder) feed(ctx context.Context) (int, bool, error) {
	once, cancel := context.WithTimeout(ctx, feederTimeout)
	defer cancel()
	fed, err := f.source.Feed(once, ledger.Feed{
		AtLeast: f.atLeast, AtMost: feedLimit, Ahead: feedAhead, Most: feedMost, Lease: f.lease,
	})
	if err != nil {
		return 0, false, err
	}
	if len(fed.Refs) > 0 {
		failpoint.Hit("fed")
	}
	f.rate(fed.PerSecond)
	for _, change := range fed.Changes {
		f.logChange(change)
	}
	return len(fed.Refs), fed.Leads, f.dispatch(once, request.Bulk, fed.Refs)
}

func (f *feeder) dispatch(ctx context.Context, lane request.Lane, refs []request.Ref) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(feedDispatch)
	for _, ref := range refs {
		group.Go(func() error {
			err := linktask.Enqueue(ctx, f.queue, f.account, lane, ref)
			failpoint.Hit("dispatched")
			return err
		})
	}
	return group.Wait()
}

// logChange says what befell the gate, once in the fleet.
func (f *feeder) logChange(change string) {
	at, rest, _ := strings.Cut(change, " ")
	state, reason, _ := strings.Cut(rest, " ")
	ms, _ := strconv.ParseInt(at, 10, 64)
	level := zap.WarnLevel
	if state != "closed" {
		level = zap.InfoLevel
	}
	f.log.Log(level, "the gate changed", zap.String("state", state), zap.String("reason", reason), zap.Time("since", time.UnixMilli(ms).UTC()))
}
