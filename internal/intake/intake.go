// Package intake takes signups in from a Redis stream, so that whatever can XADD
// can ask for links: {kyclink:<account>}:requests, read by the workers as one
// consumer group.
//
// It is at least once into an acceptance that is idempotent: an entry is
// acknowledged, and deleted, when its request was accepted or it is among the
// rejects, in one step each; whoever dies before that leaves it to others. An entry
// whose lane has no room is kept until there is some. Nothing new is read while an
// interactive one is kept; bulk ones are set aside for the sake of those behind
// them, up to a limit. A backlog of any size belongs into a batch.
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

// Config says whose stream it is. Zero values mean the defaults given.
type Config struct {
	Account string
	// ClaimAfter is how long an entry must have been in the hands of a process that
	// says nothing of it for others to take it: 15 s. Two that have it do no harm.
	ClaimAfter time.Duration
	Log        *zap.Logger
	Limited    *zap.Logger // one line a kind of trouble, now and then
	// Settled is told how many entries were accepted, and how many rejected; nil:
	// nobody is.
	Settled func(accepted, rejected int)
}

const (
	group = "kyclink"
	// consumer is one name for all workers: who is alive is told from how long an
	// entry was not spoken of, and a name for each would be left behind by each.
	consumer = "worker"

	readBlock  = time.Second
	perRead    = 500
	perAccept  = 100
	keptMost   = 1000 // entries that wait for room in one process
	fullPause  = 200 * time.Millisecond
	leastAway  = 100 * time.Millisecond // pauses while Redis is away
	mostAway   = 5 * time.Second
	stepWithin = 10 * time.Second // a step that was begun is seen through
	// maxRejects is how many rejects are kept, the latest, and maxRejectBytes how much
	// of Redis' memory they take: a producer that is wrong must not fill it.
	maxRejects     = 100_000
	maxRejectBytes = 64 << 20
)

// Intake reads the stream in one process.
type Intake struct {
	rdb      redis.UniversalClient
	producer Producer
	cfg      Config
	keys     keyspace.Keys

	kept    map[tasks.Lane][]entry // read and not settled, the oldest first
	ids     map[string]bool        // of these
	singles int                    // so many are accepted one by one, to find out whose fault it is that a step failed
	claimed time.Time
	full    bool
}

// New makes an intake that uses, and does not close, rdb. It takes one connection
// of rdb's pool for itself while it runs, and several now and then.
func New(rdb redis.UniversalClient, producer Producer, cfg Config) *Intake {
	if cfg.ClaimAfter == 0 {
		cfg.ClaimAfter = 15 * time.Second
	}
	return &Intake{
		rdb: rdb, producer: producer, cfg: cfg, keys: keyspace.Keys{Account: cfg.Account},
		kept: map[tasks.Lane][]entry{}, ids: map[string]bool{},
	}
}

// Run takes requests in until ctx is done. It waits for a Redis that is away.
func (i *Intake) Run(ctx context.Context) {
	for pause := leastAway; ctx.Err() == nil; {
		err := i.round(ctx)
		if err == nil {
			pause = leastAway
			continue
		}
		if ctx.Err() != nil {
			break
		}
		i.cfg.Limited.Warn("the intake stream could not be taken a step further; it is tried again", zap.Error(err))
		sleep(ctx, pause)
		pause = min(2*pause, mostAway)
	}
	i.giveBack(context.WithoutCancel(ctx))
}

// round claims, takes what is kept a step further, and reads what is new.
func (i *Intake) round(ctx context.Context) error {
	if time.Since(i.claimed) >= i.cfg.ClaimAfter/3 {
		if err := i.claim(ctx); err != nil {
			return err
		}
		i.claimed = time.Now()
	}
	if err := i.acceptKept(ctx); err != nil {
		return err
	}
	room, block := keptMost-len(i.ids), readBlock
	if len(i.ids) > 0 {
		block = fullPause
	}
	if room <= 0 || len(i.kept[tasks.Interactive]) > 0 {
		sleep(ctx, fullPause)
		return nil
	}
	entries, err := i.read(ctx, min(room, perRead), block)
	if err != nil {
		return err
	}
	return i.take(ctx, entries)
}

// take keeps what is a request, and rejects what is none.
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
		i.kept[req.Lane] = append(i.kept[req.Lane], entry{r, req})
	}
	if err := i.settle(ctx, settled); err != nil {
		return err // what was not kept is claimed
	}
	return i.acceptKept(ctx)
}

// acceptKept accepts what is kept, as far as there is room.
func (i *Intake) acceptKept(ctx context.Context) error {
	full := false
	for _, lane := range []tasks.Lane{tasks.Interactive, tasks.Bulk} {
		for len(i.kept[lane]) > 0 && ctx.Err() == nil {
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
			i.cfg.Limited.Warn("the intake waits: a lane has all the requests waiting that it may have (KYCLINK_MAX_BACKLOG)")
		}
	}
	return nil
}

// acceptSome accepts the oldest of a lane, many at a time. left says that there was
// no room for some.
func (i *Intake) acceptSome(ctx context.Context, lane tasks.Lane) (left bool, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stepWithin)
	defer cancel()
	kept := i.kept[lane]
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
		return false, err // all of them are asked for again
	}
	for _, s := range settled {
		delete(i.ids, s.id)
	}
	i.kept[lane] = append(waiting, kept[len(some):]...)
	return len(waiting) > 0, nil
}

// failed finds out whose fault it is that some could not be accepted. It may be
// one's alone, which can neither be accepted nor refused, as a newer version wrote
// what is known of it: it is left to whoever claims it, and keeps none of the others.
func (i *Intake) failed(ctx context.Context, lane tasks.Lane, some int, err error) error {
	if i.rdb.Ping(ctx).Err() != nil {
		return err
	}
	if some > 1 {
		i.singles = some
		return nil
	}
	i.singles = 0
	left := i.kept[lane][0]
	i.kept[lane] = i.kept[lane][1:]
	delete(i.ids, left.id)
	return fmt.Errorf("entry %s is left for later: %w", left.id, err)
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
