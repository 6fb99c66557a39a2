package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/recovery"
	"github.com/kyclink/kyclink/internal/request"
)

// nth is a connection to Redis on which one command is lost, pipelined or not.
type nth struct{ left atomic.Int64 }

func (h *nth) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *nth) lost(cmds ...redis.Cmder) error {
	if h.left.Add(-1) != 0 {
		return nil
	}
	for _, cmd := range cmds {
		cmd.SetErr(errAway)
	}
	return errAway
}

func (h *nth) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := h.lost(cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (h *nth) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := h.lost(cmds...); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// After an error of Redis at any command of a pass, no task is quarantined, and the next
// pass repairs what this one could not.
func TestRecovery_QuarantinesNothingAfterAnErrorOfRedis(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	trouble := &nth{}
	shaky := redis.NewClient(&redis.Options{Addr: fixture.Redis().Addr, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = shaky.Close() })
	shaky.AddHook(trouble)
	s := h.recovery(notOverdue, unclaimedAtOnce, func(c *recovery.Config) { c.Redis = shaky })
	const most = 20
	for n := 1; ; n++ {
		ref := h.accept(fmt.Sprint("A-", n))
		h.dequeue(request.Interactive)
		trouble.left.Store(int64(n))
		_, err := s.Pass(t.Context())
		hit := trouble.left.Load() <= 0
		if hit != errors.Is(err, errAway) {
			t.Errorf("command %d was lost: %v, the pass says %v", n, hit, err)
		}
		trouble.left.Store(0)
		h.pass(s)
		if is := h.taskState(request.Interactive, ref); is != "pending" {
			t.Errorf("without command %d its task is %q after another pass", n, is)
		}
		if kept := h.quarantined(); len(kept) != 0 {
			t.Fatalf("without command %d, quarantined %+v", n, kept)
		}
		h.Must(h.queue.DeleteTask(h.Keys.Queue(request.Interactive), ref.String()))
		if !hit {
			if n < 5 {
				t.Errorf("a pass has %d commands only", n-1)
			}
			return
		}
		if n == most {
			t.Fatal("a pass has no end")
		}
	}
}

// asynq takes an id without a task for an empty queue, and leaves the id active.
func TestRecovery_RemovesAnIDWithoutATask(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	h.Must(h.Redis.Del(t.Context(), h.asynqKey(request.Interactive, "t:"+ref.String())).Err())
	h.dequeue(request.Interactive)
	h.pass(h.recovery(unclaimedAtOnce))
	if is := h.taskState(request.Interactive, ref); is != "pending" || len(h.quarantined()) != 0 {
		t.Errorf("its task is %q, %v was quarantined", is, h.quarantined())
	}
	h.start(h.book(), h.faceki)
	h.created("A-1")
	h.noTasks()
}

// slow is a ledger whose process is stopped after it was told which tasks have handlers.
type slow struct {
	*book
	stopped time.Duration
}

func (k slow) Handlers(ctx context.Context) (map[string]bool, error) {
	alive, err := k.Fleet.Handlers(ctx)
	<-time.After(k.stopped)
	return alive, err
}

func TestRecovery_RequeuesNothingAfterItsProcessWasStopped(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	h.dequeue(request.Interactive)
	k := h.judge()
	h.Must(k.Join(t.Context()))
	s := h.recoveryOf(k, notOverdue, unclaimedAtOnce, func(c *recovery.Config) {
		c.KnownFor = 20 * time.Millisecond
		c.Handlers = slow{k, 2 * c.KnownFor}
	})
	if counts, err := s.Pass(t.Context()); !errors.Is(err, context.DeadlineExceeded) || len(counts) != 0 {
		t.Errorf("repaired %v, %v", counts, err)
	}
	if is := h.taskState(request.Interactive, ref); is != "active" {
		t.Errorf("its task is %s", is)
	}
	h.repairs(h.recoveryOf(k, notOverdue, unclaimedAtOnce, func(c *recovery.Config) { c.KnownFor = time.Minute }))
	if is := h.taskState(request.Interactive, ref); is != "pending" {
		t.Errorf("its task is %s", is)
	}
}

// A task that is requeued while its handler lives, because a heartbeat was late, has two
// handlers: one of them calls, and the request ends once.
func TestRecovery_CallsOnceWhenALiveHandlersTaskIsRequeued(t *testing.T) {
	t.Parallel()
	unavailable := func() *Fault { return &Fault{Kind: Unavailable} }
	for name, tt := range map[string]struct {
		first     func() *Fault // answer
		paused    bool          // the handlers wait for the gate
		cancelled bool
		state     request.State
		calls     int64
	}{
		"calls, and gets its link":    {state: request.Created, calls: 1},
		"calls, and gets a fault":     {first: unavailable, state: request.Created, calls: 2},
		"calls, and was cancelled":    {first: unavailable, cancelled: true, state: request.Cancelled, calls: 1},
		"waits until it may call":     {paused: true, state: request.Created, calls: 1},
		"waits, and gets a fault":     {paused: true, first: unavailable, state: request.Created, calls: 2},
		"waits, and it was cancelled": {paused: true, cancelled: true, state: request.Cancelled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{})
			var calls, out atomic.Int64
			answer := make(chan struct{})
			upstream := stub{create: func(_ context.Context, a Attempt) (Link, *Fault) {
				if out.Add(1) > 1 {
					t.Error("two calls are out")
				}
				defer out.Add(-1)
				n := calls.Add(1)
				<-answer
				if n == 1 && tt.first != nil {
					return Link{}, tt.first()
				}
				return Link{LinkID: fmt.Sprint(n), URL: "https://simulator.invalid/" + a.ApplicationID}, nil
			}}
			if tt.paused {
				h.Must(h.account().Pause(t.Context(), "ann", ""))
			}
			ref := h.accept("A-1")
			handles := func(k *book) *process {
				p := h.start(k, upstream)
				h.Eventually("it has a handler", func() bool { return len(p.handled()) == 1 })
				return p
			}
			handles(h.book())
			if !tt.paused {
				h.Eventually("a call is out", func() bool { return out.Load() == 1 })
			}
			q := asynqx.NewQueue(h.Redis, h.Keys.Account, request.Interactive)
			// The same process may take it again itself.
			second := h.book()
			var busy atomic.Int64
			second.afterMark = func() error { busy.Add(1); return nil }
			h.start(second, upstream)
			h.Eventually("another has had it as well", func() bool {
				_, err := q.Requeue(t.Context(), ref.String())
				h.Must(err)
				_ = q.Run(t.Context(), ref.String()) // it may be anywhere
				return busy.Load() > 0
			})
			if tt.cancelled {
				_, err := h.book().Cancel(t.Context(), h.record("A-1"))
				h.Must(err)
			}
			close(answer)
			if tt.paused {
				h.Must(h.account().Resume(t.Context()))
			}
			h.Eventually("it has ended", func() bool { return h.record("A-1").State == tt.state })
			h.noTasks()
			h.expect("A-1", tt.state, int(tt.calls), 0)
			if calls.Load() != tt.calls {
				t.Errorf("%d calls, want %d", calls.Load(), tt.calls)
			}
			if n := h.Redis.XLen(t.Context(), h.Keys.Results()).Val(); n != 1 {
				t.Errorf("%d events", n)
			}
			if n := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); n != 0 {
				t.Errorf("%d calls are out", n)
			}
		})
	}
}
