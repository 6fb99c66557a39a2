// Package intake accepts requests from a Redis stream, so that every program that can XADD
// can request links: {kyclink:<account>}:requests, which the workers read as one consumer
// group.
//
// Delivery is at least once, and acceptance is idempotent. An entry is acknowledged and
// deleted in the step after its request was accepted, or in the step that adds it to the
// rejects. If a process dies before that, another one claims the entry. An entry whose
// lane has no room waits in the process. While an interactive entry waits, no new entries
// are read; bulk entries wait, up to a limit, without stopping those behind them. A large
// backlog belongs in a batch.
package intake

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/tasks"
)

// Producer accepts requests.
type Producer interface {
	EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error)
}

// Config configures an [Intake]. Zero values mean the defaults that are given.
type Config struct {
	Account string
	// ClaimAfter is how long a process must not have touched an entry before others may
	// claim it: 15 s. Two processes with the same entry do no harm.
	ClaimAfter time.Duration
	Log        *zap.Logger
	Limited    *zap.Logger // at most one line per message and interval
	// Settled is called after entries were settled, with the numbers of accepted and rejected
	// ones. It may be nil.
	Settled func(accepted, rejected int)
}

const (
	group = "kyclink"
	// consumer is one name for all workers. A dead worker shows in the idle time of its
	// entries, and no names of dead workers remain.
	consumer = "worker"

	readBlock     = time.Second
	perRead       = 500
	perAccept     = 100
	maxWaiting    = 1000 // entries that wait in one process
	fullPause     = 200 * time.Millisecond
	minRetryPause = 100 * time.Millisecond // pauses while Redis is away
	maxRetryPause = 5 * time.Second
	stepTimeout   = 10 * time.Second // of a step that is completed during shutdown
	// maxRejects is how many rejects are kept, the latest ones, and maxRejectBytes their
	// memory: a faulty producer must not fill Redis.
	maxRejects     = 100_000
	maxRejectBytes = 64 << 20
)

// Intake reads the stream in one process.
type Intake struct {
	rdb      redis.UniversalClient
	producer Producer
	cfg      Config
	keys     keyspace.Keys

	waiting map[tasks.Lane][]entry // read but not settled, oldest first
	ids     map[string]bool        // of waiting
	singles int                    // how many are accepted one by one, to find the entry that made a step fail
	claimed time.Time
	full    bool
}

// New returns an intake that uses rdb and does not close it. While it runs, it occupies one
// or more connections of rdb's pool.
func New(rdb redis.UniversalClient, producer Producer, cfg Config) *Intake {
	if cfg.ClaimAfter == 0 {
		cfg.ClaimAfter = 15 * time.Second
	}
	return &Intake{
		rdb: rdb, producer: producer, cfg: cfg, keys: keyspace.Keys{Account: cfg.Account},
		waiting: map[tasks.Lane][]entry{}, ids: map[string]bool{},
	}
}

// Run accepts requests until ctx is done. While Redis is unreachable it retries.
func (i *Intake) Run(ctx context.Context) {
	for pause := minRetryPause; ctx.Err() == nil; {
		err := i.round(ctx)
		if err == nil {
			pause = minRetryPause
			continue
		}
		if ctx.Err() != nil {
			break
		}
		i.cfg.Limited.Warn("intake step failed, retrying", zap.Error(err))
		sleep(ctx, pause)
		pause = min(2*pause, maxRetryPause)
	}
	i.release(context.WithoutCancel(ctx))
}

// round claims entries of dead processes, accepts entries that wait, and reads new ones.
func (i *Intake) round(ctx context.Context) error {
	if time.Since(i.claimed) >= i.cfg.ClaimAfter/3 {
		if err := i.claim(ctx); err != nil {
			return err
		}
		i.claimed = time.Now()
	}
	if err := i.acceptWaiting(ctx); err != nil {
		return err
	}
	room, block := maxWaiting-len(i.ids), readBlock
	if len(i.ids) > 0 {
		block = fullPause
	}
	if room <= 0 || len(i.waiting[tasks.Interactive]) > 0 {
		sleep(ctx, fullPause)
		return nil
	}
	entries, err := i.read(ctx, min(room, perRead), block)
	if err != nil {
		return err
	}
	return i.take(ctx, entries)
}

// take keeps the entries that are requests, and rejects the others.
func (i *Intake) take(ctx context.Context, raw []rawEntry) error {
	var settled []outcome
	for _, r := range raw {
		if i.ids[r.id] {
			continue
		}
		req, err := r.parsed()
		if err != nil {
			settled = append(settled, rejected(r, err))
			continue
		}
		i.ids[r.id] = true
		i.waiting[req.Lane] = append(i.waiting[req.Lane], entry{r, req})
	}
	if err := i.settle(ctx, settled); err != nil {
		return err // the entries that were not kept are claimed later
	}
	return i.acceptWaiting(ctx)
}

// acceptWaiting accepts the waiting entries for which their lanes have room.
func (i *Intake) acceptWaiting(ctx context.Context) error {
	full := false
	for _, lane := range []tasks.Lane{tasks.Interactive, tasks.Bulk} {
		for len(i.waiting[lane]) > 0 && ctx.Err() == nil {
			left, err := i.acceptSome(ctx, lane)
			if err != nil {
				return err
			}
			if left {
				full = true
				break
			}
		}
	}
	if full != i.full {
		i.full = full
		if full {
			i.cfg.Limited.Warn("intake waits: a lane has reached KYCLINK_MAX_BACKLOG")
		}
	}
	return nil
}

// acceptSome accepts the oldest entries of a lane, up to perAccept. left reports that the
// lane had no room for some of them.
func (i *Intake) acceptSome(ctx context.Context, lane tasks.Lane) (left bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
	defer cancel()
	kept := i.waiting[lane]
	some := kept[:min(len(kept), perAccept)]
	if i.singles > 0 {
		some = some[:1]
	}
	reqs := make([]tasks.Request, len(some))
	for n, e := range some {
		reqs[n] = e.request
	}
	answers, err := i.producer.EnqueueEach(ctx, reqs)
	if err != nil {
		return false, i.failed(ctx, lane, len(some), err)
	}
	i.singles = max(0, i.singles-1)
	var settled []outcome
	var waiting []entry
	for n, a := range answers {
		switch {
		case isFull(a.Err):
			waiting = append(waiting, some[n])
		case a.Err != nil:
			settled = append(settled, rejected(some[n].rawEntry, a.Err))
		default:
			settled = append(settled, outcome{id: some[n].id})
		}
	}
	if err := i.settle(ctx, settled); err != nil {
		return false, err // all of them are accepted again
	}
	for _, s := range settled {
		delete(i.ids, s.id)
	}
	i.waiting[lane] = append(waiting, kept[len(some):]...)
	return len(waiting) > 0, nil
}

// failed handles a step that failed although Redis answers. A single entry may be the
// cause, if a newer version wrote the record of its request, which can be neither accepted
// nor rejected: that entry is left for another process, and does not stop the others.
func (i *Intake) failed(ctx context.Context, lane tasks.Lane, some int, err error) error {
	if i.rdb.Ping(ctx).Err() != nil {
		return err
	}
	if some > 1 {
		i.singles = some
		return nil
	}
	i.singles = 0
	left := i.waiting[lane][0]
	i.waiting[lane] = i.waiting[lane][1:]
	delete(i.ids, left.id)
	return fmt.Errorf("accept entry %s: %w; it is left for another process", left.id, err)
}

func isFull(err error) bool {
	_, full := errors.AsType[*tasks.BacklogError](err)
	return full
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
