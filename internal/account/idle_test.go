package account_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

const group = "kyclink:callbacks"

// Whatever a worker may have to do ends the rest of an account, and its end lets it rest again.
func TestRest_FollowsTheWorkOfTheAccount(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) float64 { return float64(time.Now().Add(d).UnixMilli()) }
	one := func(key func(*ledgertest.Harness) string, score float64) func(*ledgertest.Harness) {
		return func(h *ledgertest.Harness) {
			h.Must(h.Redis.ZAdd(h.Context(), key(h), redis.Z{Score: score, Member: "1"}).Err())
		}
	}
	for name, tt := range map[string]struct {
		begin func(*ledgertest.Harness)
		end   func(*ledgertest.Harness) // nil: it stays idle
	}{
		"an interactive request": {func(h *ledgertest.Harness) {
			_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: "A-1"})
			h.Must(err)
		}, func(h *ledgertest.Harness) { h.Do("A-1", "admit", "created") }},
		"a row of a batch": {func(h *ledgertest.Harness) { h.ImportRow("A-1") }, func(h *ledgertest.Harness) { h.FinishAll() }},
		"a call in flight": {one(func(h *ledgertest.Harness) string { return h.Keys.Calls() }, at(0)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Calls()).Err())
		}},
		"a running action": {one(func(h *ledgertest.Harness) string { return h.Keys.RunningActions() }, at(0)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.RunningActions()).Err())
		}},
		"a pending callback": {one(func(h *ledgertest.Harness) string { return h.Keys.Pending() }, at(time.Hour)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Pending()).Err())
		}},
		"an entry of the intake stream": {func(h *ledgertest.Harness) {
			h.Must(h.Redis.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Requests(), Values: []string{"application_id", "A-1"}}).Err())
		}, func(h *ledgertest.Harness) { h.Must(h.Redis.XTrimMaxLen(h.Context(), h.Keys.Requests(), 0).Err()) }},
		"a deadline that has passed": {one(func(h *ledgertest.Harness) string { return h.Keys.Deadlines() }, at(-time.Minute)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Deadlines()).Err())
		}},
		"a deadline of a batch that has passed": {one(func(h *ledgertest.Harness) string { return h.Keys.Tag() + ":batch-deadlines" }, at(-time.Minute)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Tag()+":batch-deadlines").Err())
		}},
		"a batch that is cancelled": {one(func(h *ledgertest.Harness) string { return h.Keys.Cancelling() }, at(0)), func(h *ledgertest.Harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Cancelling()).Err())
		}},
		"a record of a later version": {func(h *ledgertest.Harness) {
			h.Must(h.Redis.SAdd(h.Context(), h.Keys.Newer(), "A-1").Err())
		}, func(h *ledgertest.Harness) { h.Must(h.Redis.Del(h.Context(), h.Keys.Newer()).Err()) }},
		"an event that is not read": {func(h *ledgertest.Harness) {
			h.Must(h.Redis.XGroupCreateMkStream(h.Context(), h.Keys.Results(), group, "0").Err())
			h.Must(h.Redis.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Results(), Values: []string{"type", "link.cancelled"}}).Err())
		}, func(h *ledgertest.Harness) {
			h.Must(h.Redis.XGroupSetID(h.Context(), h.Keys.Results(), group, "$").Err())
		}},
		"an event before the dispatcher has a group": {func(h *ledgertest.Harness) {
			h.Must(h.Redis.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Results(), Values: []string{"type", "link.cancelled"}}).Err())
		}, func(h *ledgertest.Harness) {
			h.Must(h.Redis.XGroupCreate(h.Context(), h.Keys.Results(), group, "$").Err())
		}},
		"an event that is not acknowledged": {func(h *ledgertest.Harness) {
			h.Must(h.Redis.XGroupCreateMkStream(h.Context(), h.Keys.Results(), group, "0").Err())
			h.Must(h.Redis.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Results(), ID: "1-1", Values: []string{"type", "link.cancelled"}}).Err())
			h.Must(h.Redis.XReadGroup(h.Context(), &redis.XReadGroupArgs{Group: group, Consumer: "c", Streams: []string{h.Keys.Results(), ">"}}).Err())
		}, func(h *ledgertest.Harness) { h.Must(h.Redis.XAck(h.Context(), h.Keys.Results(), group, "1-1").Err()) }},
		"a held request":    {one(func(h *ledgertest.Harness) string { return h.Keys.OperatorList(request.Held) }, at(0)), nil},
		"a future deadline": {one(func(h *ledgertest.Harness) string { return h.Keys.Deadlines() }, at(time.Hour)), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := ledgertest.New(t)
			watch := account.NewWatch(h.Redis, zap.NewNop())
			ctx, stop := context.WithCancel(context.Background())
			over := make(chan struct{})
			go func() {
				defer close(over)
				watch.Run(ctx)
			}()
			t.Cleanup(func() { stop(); <-over })
			rest := watch.Rest(h.Keys.Account, group)
			idle := func(want bool) {
				t.Helper()
				if got, err := rest.Idle(t.Context()); err != nil || got != want {
					t.Errorf("idle is %v (%v), want %v", got, err, want)
				}
			}
			idle(true)
			tt.begin(h)
			if idle(tt.end == nil); tt.end == nil {
				return
			}
			awaits(t, rest)
			tt.end(h)
			if name == "a row of a batch" || name == "an interactive request" { // the event of its end is read
				h.Must(h.Redis.XGroupCreate(t.Context(), h.Keys.Results(), group, "$").Err())
			}
			idle(true)
		})
	}
}

// awaits waits until Await returns because of work.
func awaits(t *testing.T, rest *account.Rest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rest.Await(ctx)
	if ctx.Err() != nil {
		t.Fatal("the work is not found within a minute")
	}
}

// The work of one account does not end the rest of another, and callbacks are no work for a
// worker that delivers none.
func TestRest_IsThatOfOneAccount(t *testing.T) {
	t.Parallel()
	busy, other := ledgertest.New(t), ledgertest.New(t)
	watch := account.NewWatch(busy.Redis, zap.NewNop())
	ctx, stop := context.WithCancel(context.Background())
	var over [2]chan struct{}
	for i, run := range []func(){func() { watch.Run(ctx) }, func() { watch.Rest(other.Keys.Account, "").Await(ctx) }} {
		over[i] = make(chan struct{})
		go func() {
			defer close(over[i])
			run()
		}()
	}
	busy.ImportRow("A-1")
	other.Must(other.Redis.ZAdd(t.Context(), other.Keys.Pending(), redis.Z{Score: 1, Member: "e"}).Err())
	for range 3 { // the other account is looked at as often
		awaits(t, watch.Rest(busy.Keys.Account, group))
	}
	select {
	case <-over[1]:
		t.Error("the other account does not rest")
	default:
	}
	if idle, err := watch.Rest(other.Keys.Account, "").Idle(t.Context()); err != nil || !idle {
		t.Errorf("the other account is idle: %v, %v", idle, err)
	}
	stop()
	<-over[0]
	<-over[1]
}

// In a cluster, the accounts are on different nodes, and no command reads the keys of two.
func TestRest_FindsWorkInACluster(t *testing.T) {
	t.Parallel()
	rdb := redistest.StartCluster(t).Client(t)
	watch := account.NewWatch(rdb, zap.NewNop())
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { watch.Run(ctx) })
	for _, name := range []string{"idle-1", "idle-2", "idle-3"} { // on other nodes than some of those with work
		running.Go(func() { watch.Rest(name, group).Await(ctx) })
	}
	t.Cleanup(func() { stop(); running.Wait() })
	for _, name := range []string{"bank", "post", "shop"} {
		rest, keys := watch.Rest(name, group), keyspace.Keys{Account: name}
		if idle, err := rest.Idle(t.Context()); err != nil || !idle {
			t.Errorf("%s is idle: %v, %v", name, idle, err)
		}
		if err := rdb.ZAdd(t.Context(), keys.Queued(request.Interactive), redis.Z{Score: 1, Member: "A-1"}).Err(); err != nil {
			t.Fatal(err)
		}
		awaits(t, rest)
	}
}

// An account whose keys Redis refuses to read does not delay the work of another.
func TestWatch_FindsWorkBesideAnAccountThatRedisRefuses(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*ledgertest.Harness){
		"a row of a batch": func(h *ledgertest.Harness) { h.ImportRow("A-1") },
		"a deadline that has passed": func(h *ledgertest.Harness) {
			h.Must(h.Redis.ZAdd(h.Context(), h.Keys.Deadlines(), redis.Z{Score: 1, Member: "1"}).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused, other := ledgertest.New(t), ledgertest.New(t)
			user := other.Keys.Account
			other.Must(other.Redis.Do(t.Context(), "ACL", "SETUSER", user, "on", ">pw", "~"+other.Keys.Tag()+"*", "+@all").Err())
			options := *other.Redis.Options()
			options.Username, options.Password = user, "pw"
			limited := redis.NewClient(&options)
			t.Cleanup(func() { _ = limited.Close() })

			watch := account.NewWatch(limited, zap.NewNop())
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { watch.Rest(refused.Keys.Account, group).Await(ctx) })
			running.Go(func() { watch.Run(ctx) })
			t.Cleanup(func() { stop(); running.Wait() })
			begin(other)
			awaits(t, watch.Rest(other.Keys.Account, group))
		})
	}
}
