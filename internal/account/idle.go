package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	// lookPause is how often a [Watch] looks for work, which delays the first request after
	// a rest.
	lookPause = 20 * time.Millisecond
	// eachPause is how often it looks at each account by itself: at intake streams, and in a
	// cluster, where one command reads the keys of one account only.
	eachPause = 100 * time.Millisecond
	// examinePause is how often it examines an account by the script, which finds what
	// becomes work by the passage of time, and unread events.
	examinePause = 3 * time.Second
	lookTimeout  = 3 * time.Second
	// mostLooked is the number of accounts whose keys one command reads.
	mostLooked = 250
)

var idleScript = scripts.Script("idle.lua")

// Watch finds accounts that get work, for workers that rest. The accounts share its
// goroutine, its connection and its commands, so that many idle ones cost little.
type Watch struct {
	rdb     redis.UniversalClient
	limited *zap.Logger
	began   chan struct{} // has an element after an account began to wait

	mu      sync.Mutex
	waiting []*waiter
}

// waiter is an account that waits for work.
type waiter struct {
	rest     *Rest
	keys     []string  // that exist only if it has work
	examined time.Time // by the script
	work     chan struct{}
}

// NewWatch returns a watch that uses, and does not close, rdb.
func NewWatch(rdb redis.UniversalClient, limited *zap.Logger) *Watch {
	return &Watch{rdb: rdb, limited: limited, began: make(chan struct{}, 1)}
}

// Rest tells a worker whether its account has work. It is safe for concurrent use.
type Rest struct {
	watch *Watch
	keys  keyspace.Keys
	group string // of the dispatcher; "" if callbacks are off
}

// Rest returns the rest of an account. group is the consumer group for which its workers read
// events, "" if they deliver no callbacks.
func (w *Watch) Rest(account, group string) *Rest {
	return &Rest{w, keyspace.Keys{Account: account}, group}
}

// Idle reports whether the account has no work: no request waits to be fed or called, is in
// the intake stream or past its not_after, no callback is to be sent, and no action runs.
func (r *Rest) Idle(ctx context.Context) (bool, error) {
	once, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	idle, err := idleScript.Run(once, r.watch.rdb, []string{r.keys.Tag()}, lua.Args{"group": r.group}).Bool()
	if err != nil {
		return false, fmt.Errorf("read whether the account has work: %w", err)
	}
	return idle, nil
}

// Await returns when the account has work, or ctx is done. It needs a [Watch] that runs.
func (r *Rest) Await(ctx context.Context) {
	one := &waiter{rest: r, keys: r.signs(), examined: time.Now().Add(-rand.N(examinePause)), work: make(chan struct{})}
	r.watch.add(one)
	defer r.watch.remove(one)
	select {
	case <-one.work:
	case <-ctx.Done():
	}
}

// signs are the keys that exist only if the account has work.
func (r *Rest) signs() []string {
	k := r.keys
	signs := []string{k.Queued(request.Interactive), k.Queued(request.Bulk), k.Running(), k.Calls(), k.Cancelling(), k.RunningActions()}
	if r.group != "" {
		signs = append(signs, k.Pending())
	}
	return signs
}

func (w *Watch) add(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, one)
	select {
	case w.began <- struct{}{}:
	default:
	}
}

func (w *Watch) remove(one *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(other *waiter) bool { return other == one })
}

// all returns the accounts that wait and have no work yet.
func (w *Watch) all() []*waiter {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.waiting), func(one *waiter) bool {
		select {
		case <-one.work:
			return true
		default:
			return false
		}
	})
}

// Run looks for work until ctx is done. While Redis is unreachable it goes on trying: the
// accounts rest meanwhile.
func (w *Watch) Run(ctx context.Context) {
	var each time.Time // when each account was looked at
	for {
		waiting := w.all()
		if len(waiting) == 0 {
			select {
			case <-ctx.Done():
				return
			case <-w.began:
				continue
			}
		}
		pause := lookPause
		if failed := w.look(ctx, waiting, &each); len(failed) > 0 && ctx.Err() == nil {
			w.limited.Warn("looking for work of idle accounts failed; retrying", zap.Error(failed))
			if len(failed) >= len(waiting) { // presumably Redis is unreachable
				pause = time.Second
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// look wakes those of the accounts that have work. It returns an error for each account that it
// could not look at; the others must not notice.
func (w *Watch) look(ctx context.Context, waiting []*waiter, each *time.Time) (failed Failures) {
	once, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	some, err := w.someHasWork(once, waiting)
	if err != nil {
		for _, one := range waiting {
			failed = append(failed, one.failed(err))
		}
		return failed
	}
	if some || time.Since(*each) >= eachPause {
		*each = time.Now()
		failed = w.each(once, waiting)
	}
	if len(failed) == len(waiting) {
		return failed
	}
	for _, one := range waiting {
		if time.Since(one.examined) < examinePause {
			continue
		}
		one.examined = time.Now()
		idle, err := one.rest.Idle(once)
		switch {
		case err != nil:
			failed = append(failed, one.failed(err))
		case !idle:
			one.wake()
		}
	}
	return failed
}

// someHasWork reports whether an account has work, by one command for many of them. In a
// cluster, and if Redis refuses the command because of one of the accounts, it does not know.
// It returns an error if Redis does not answer.
func (w *Watch) someHasWork(ctx context.Context, waiting []*waiter) (bool, error) {
	if _, cluster := w.rdb.(*redis.ClusterClient); cluster {
		return false, nil
	}
	for some := range slices.Chunk(waiting, mostLooked) {
		var keys []string
		for _, one := range some {
			keys = append(keys, one.keys...)
		}
		n, err := w.rdb.Exists(ctx, keys...).Result()
		if _, answered := errors.AsType[redis.Error](err); err != nil && !answered {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
	}
	return false, nil
}

// each wakes the accounts that have work, or entries in their intake streams. It returns an
// error for each account that it could not look at.
func (w *Watch) each(ctx context.Context, waiting []*waiter) (failed Failures) {
	signs, entries := make([]*redis.IntCmd, len(waiting)), make([]*redis.IntCmd, len(waiting))
	_, _ = w.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // each command has its error
		for i, one := range waiting {
			signs[i] = pipe.Exists(ctx, one.keys...)
			entries[i] = pipe.XLen(ctx, one.rest.keys.Requests())
		}
		return nil
	})
	for i, one := range waiting {
		if signs[i].Val()+entries[i].Val() > 0 {
			one.wake()
		}
		if err := cmp.Or(signs[i].Err(), entries[i].Err()); err != nil {
			failed = append(failed, one.failed(err))
		}
	}
	return failed
}

func (one *waiter) failed(err error) Failure { return Failure{one.rest.keys.Account, err} }

// wake ends the wait of an account. Only the goroutine of the watch calls it.
func (one *waiter) wake() {
	select {
	case <-one.work:
	default:
		close(one.work)
	}
}
