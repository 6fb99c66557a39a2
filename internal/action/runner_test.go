package action

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var everything = Request{Kind: RetryFailed, Filter: Filter{All: true}, Rate: "1000/s"}

// dying returns a runner that is cut off from Redis after some commands that were carried
// out, like a process that is killed.
func (h *harness) dying(after int) *Runner {
	rdb := redis.NewClient(h.Redis.Options())
	h.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(&cut{left: int64(after)})
	cfg := h.config()
	cfg.Redis, cfg.Lease, cfg.Pause = rdb, 100*time.Millisecond, time.Hour // it does not continue by itself
	return NewRunner(cfg)
}

// A runner dies anywhere in an action. Another one continues it: everything that matches is
// changed once, nothing else is, and the counts are exact.
func TestRunner_ContinuesWhereAnotherDied(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{RetryFailed, DropFailed, RetryHeld, DropHeld} {
		for range 4 {
			after := 3 + rand.IntN(160)
			t.Run(fmt.Sprint(kind, " after ", after, " commands"), func(t *testing.T) {
				t.Parallel()
				h := newHarness(t)
				state, reason := kind.state(), "timeout"
				if state == request.Held {
					reason = "unknown_outcome"
				}
				h.restore("spring", 0, 130, state, reason)
				h.restore("autumn", 130, 20, state, reason)
				a := h.start(Request{Kind: kind, Filter: Filter{Batch: "spring"}, Rate: "1000/s"})
				dead := h.dying(after)
				ids, err := h.Redis.ZRange(t.Context(), h.Keys.RunningActions(), 0, -1).Result()
				if h.Must(err); len(ids) != 1 {
					t.Fatalf("the actions %v are running", ids)
				}
				dead.continueAction(t.Context(), a.ID)
				cfg := h.config()
				cfg.Lease = 100 * time.Millisecond
				h.runWith(NewRunner(cfg))
				h.expectCounts(h.wait(a.ID), Done, 130, 130, 0)
				want, run := map[Kind]request.State{RetryFailed: request.Waiting, DropFailed: request.Failed, RetryHeld: request.Waiting, DropHeld: request.Cancelled}[kind], 1
				if kind == RetryFailed {
					run = 2
				}
				h.expectRuns(0, 130, want, run)
				h.expectRuns(130, 20, state, 1)
				h.ExpectCounters()
				fields, err := h.Redis.HGetAll(t.Context(), h.Keys.Action(a.ID)).Result()
				h.Must(err)
				for _, name := range []string{"cursor", "page", "ids"} {
					if fields[name] != "" {
						t.Errorf("it keeps %s: %s, which names requests", name, fields[name])
					}
				}
				if ttl := h.Redis.PTTL(t.Context(), h.Keys.Action(a.ID)).Val(); ttl <= 6*24*time.Hour || ttl > 7*24*time.Hour {
					t.Errorf("it expires in %v, want seven days", ttl)
				}
			})
		}
	}
}

// Retried deliveries stay in the list until their attempts begin: the cursor keeps another
// runner from counting them as changed.
func TestRunner_ContinuesWithDeliveriesAfterTheCursor(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 12 {
		h.giveUp(fmt.Sprintf("A-%02d", i), "shop.example")
	}
	for _, r := range []Request{
		{Kind: RetryDeliveries, Filter: Filter{All: true}, Rate: "5/s"},
		{Kind: DropDeliveries, IDs: []string{"A-11", "A-03", "A-00", "A-07", "A-01", "A-02"}, Rate: "5/s"},
	} {
		a := h.start(r)
		stop := h.run()
		h.Eventually("a page is done", func() bool { return h.get(a.ID).Counts.Done > 0 })
		stop()
		stop = h.run()
		h.expectCounts(h.wait(a.ID), Done, a.Counts.Matched, a.Counts.Matched, 0)
		stop()
	}
}

// cut lets some commands through. The next one is carried out, but its reply is lost, and
// everything after it fails.
type cut struct {
	left int64
	sent atomic.Int64
}

var errCut = errors.New("cut off from Redis")

func (c *cut) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *cut) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		sent := c.sent.Add(1)
		if sent > c.left+1 {
			cmd.SetErr(errCut)
			return errCut
		}
		err := next(ctx, cmd)
		if sent > c.left {
			cmd.SetErr(errCut)
			return errCut
		}
		return err
	}
}

func (c *cut) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if c.sent.Add(1) > c.left {
			return errCut
		}
		return next(ctx, cmds)
	}
}

// An action has one runner at a time, until that one gives it up or its lease expires.
func TestTake_LeavesAnActionToItsRunner(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 3, request.Failed, "timeout")
	id := h.start(everything).ID
	leases := map[string]lease{}
	for name, length := range map[string]time.Duration{"one": time.Minute, "two": time.Minute, "brief": time.Millisecond} {
		leases[name] = lease{rdb: h.Redis, keys: h.Keys, id: id, runner: name, length: length}
	}
	expect := func(name string, want bool) {
		t.Helper()
		_, ok, err := leases[name].take(t.Context())
		if h.Must(err); ok != want {
			t.Errorf("%s takes the action: %v, want %v", name, ok, want)
		}
	}
	expect("one", true)
	expect("two", false)
	expect("one", true)
	_, err := leases["one"].save(t.Context(), progress{release: true})
	h.Must(err)
	expect("two", true)
	expect("one", false)
	if state, err := leases["one"].save(t.Context(), progress{counted: Counts{Done: 3}}); err != nil || state != "lost" || h.get(id).Counts.Done != 0 {
		t.Errorf("a runner without the lease stores what it has counted: %s, %v, %+v", state, err, h.get(id))
	}
	_, err = leases["two"].save(t.Context(), progress{release: true})
	h.Must(err)
	expect("brief", true)
	h.Eventually("its lease expires", func() bool {
		_, ok, err := leases["one"].take(t.Context())
		h.Must(err)
		return ok
	})
}

// A stopped runner leaves its action to others at once, whatever its lease.
func TestRunner_LeavesItsActionWhenItStops(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 100, request.Failed, "timeout")
	slow := everything
	slow.Rate = "20/s"
	a := h.start(slow)
	stop := h.run()
	h.Eventually("a page is done", func() bool { return h.get(a.ID).Counts.Done > 0 })
	stop()
	if now := h.get(a.ID); now.State != Running || now.Counts.Done == 100 {
		t.Fatalf("it is %+v after the first runner", now)
	}
	h.run()
	h.expectCounts(h.wait(a.ID), Done, 100, 100, 0)
	h.expectRuns(0, 100, request.Waiting, 2)
}

func TestRunner_StopsAtOnceWhenAborted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 20, request.Failed, "timeout")
	slow := everything
	slow.Rate = "1/h"
	a := h.start(slow)
	h.run()
	h.Eventually("the first is retried", func() bool { return h.get(a.ID).Counts.Done == 1 })
	before, err := h.store.Abort(t.Context(), a.ID)
	if h.Must(err); before != Running {
		t.Errorf("it was %q", before)
	}
	h.expectCounts(h.get(a.ID), Aborted, 20, 1, 0)
	// The runner is free: it completes another action.
	h.expectCounts(h.wait(h.start(everything).ID), Done, 19, 19, 0)
	h.expectCounts(h.get(a.ID), Aborted, 20, 1, 0)
	if before, err = h.store.Abort(t.Context(), "none"); err != nil || before != "" {
		t.Errorf("an unknown action was %q, %v", before, err)
	}
}

// Requests that failed in the interactive lane are retried in the bulk lane: new signups do not
// wait for them.
func TestRunner_RetriesInTheBulkLane(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, id := range []string{"A-0000", "A-0001", "A-0002"} {
		_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: id})
		h.Must(err)
		h.Do(id, "admit", "fail")
	}
	h.run()
	h.expectCounts(h.wait(h.start(everything).ID), Done, 3, 3, 0)
	h.expectRuns(0, 3, request.Waiting, 2)
	if n := h.Redis.ZCard(t.Context(), h.Keys.Queued(request.Interactive)).Val(); n != 0 {
		t.Errorf("%d requests are queued in the interactive lane, want none", n)
	}
	if refs := h.FeedUpTo(h.Stores, 10).Refs; len(refs) != 3 {
		t.Errorf("the bulk lane is fed %v, want 3 requests", refs)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
}

// Requests that others change before their turn are skipped and counted; those that fail
// after the start are left alone.
func TestRunner_SkipsWhatOthersHaveChanged(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 30, request.Failed, "timeout")
	a := h.start(everything)
	for i := range 5 {
		_, _, err := h.store.operator.Retry(t.Context(), h.Record(fmt.Sprintf("A-%04d", i)))
		h.Must(err)
	}
	h.Do("late", "accept", "feed", "admit", "fail")
	h.run()
	h.expectCounts(h.wait(a.ID), Done, 30, 25, 5)
	if r := h.Record("late"); r.State != request.Failed || r.Run != 1 {
		t.Errorf("a request that failed after the start is %s in run %d", r.State, r.Run)
	}
}

func TestRunner_AbortsWhenItsBatchIsErased(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 3, request.Failed, "timeout")
	a := h.start(Request{Kind: RetryFailed, Filter: Filter{Batch: "spring"}})
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Batches(), "spring").Err())
	h.run()
	if a = h.wait(a.ID); a.State != Aborted || a.Message == "" {
		t.Errorf("it is %+v", a)
	}
}

func TestStart_LimitsWhatRunsAndIsKept(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var started []string
	for range MaxRunning {
		started = append(started, h.start(everything).ID)
	}
	plan := h.plan(everything)
	_, err := h.store.Start(t.Context(), plan, plan.Token, "the test")
	if _, busy := errors.AsType[*BusyError](err); !busy {
		t.Fatalf("got %v, want that too many run", err)
	}
	for _, id := range started[1:] {
		_, err := h.store.Abort(t.Context(), id)
		h.Must(err)
	}
	// There are a thousand others, which have expired.
	for i := range maxKept {
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Actions(), redis.Z{Score: float64(i), Member: fmt.Sprintf("0-%04d", i)}).Err())
	}
	newest := h.start(everything).ID
	page, more, err := h.store.List(t.Context(), "", 3)
	if h.Must(err); len(page) != 3 || !more || page[0].ID != newest {
		t.Errorf("got %d actions, more: %v; want 3 from %s on", len(page), more, newest)
	}
	rest, more, err := h.store.List(t.Context(), page[2].ID, maxKept)
	if h.Must(err); len(rest) != MaxRunning-2 || more || rest[len(rest)-1].ID != started[0] {
		t.Errorf("got %d more actions, more: %v; want %d to %s", len(rest), more, MaxRunning-2, started[0])
	}
	if left := h.Redis.ZCard(t.Context(), h.Keys.Actions()).Val(); left > maxKept {
		t.Errorf("%d actions are listed", left)
	}
}
