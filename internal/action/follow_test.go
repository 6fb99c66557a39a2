package action

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
)

// follow follows an action until it has ended.
func (h *harness) follow(r *Runner, id string) Action {
	h.Helper()
	a, err := r.Follow(h.Context(), id, func(Action) {})
	h.Must(err)
	return a
}

func TestFollow_CarriesAnActionOut(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 120, request.Failed, "timeout")
	a := h.start(everything)
	h.expectCounts(h.follow(NewRunner(h.config()), a.ID), Done, 120, 120, 0)
	h.expectRuns(0, 120, request.Waiting, 2)
	h.expectCounts(h.follow(NewRunner(h.config()), a.ID), Done, 120, 120, 0) // it has ended before
	_, err := NewRunner(h.config()).Follow(t.Context(), "none", func(Action) {})
	if err == nil || !strings.Contains(err.Error(), "action none does not exist") {
		t.Errorf("an action that does not exist: got %v", err)
	}
}

// Two runners and a follower share one action: each entry is changed once, and all of them
// report the same counts.
func TestFollow_SharesAnActionWithRunners(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 300, request.Failed, "timeout")
	a := h.start(everything)
	h.run()
	h.run()
	h.expectCounts(h.follow(NewRunner(h.config()), a.ID), Done, 300, 300, 0)
	h.expectRuns(0, 300, request.Waiting, 2)
	h.ExpectCounters()
}

// A follower that is interrupted returns exact counts, and another runner continues at once,
// whatever the lease.
func TestFollow_LeavesTheActionWhenInterrupted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 100, request.Failed, "timeout")
	slow := everything
	slow.Rate = "20/h"
	a := h.start(slow)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	left, err := NewRunner(h.config()).Follow(ctx, a.ID, func(now Action) {
		if now.Counts.Done > 0 {
			interrupt()
		}
	})
	if !errors.Is(err, context.Canceled) || left.State != Running || left.Counts.Done != 1 {
		t.Fatalf("the follower returns %+v, %v; want a running action that has done 1, and that it was cancelled", left, err)
	}
	if now := h.get(a.ID); now.Counts != left.Counts {
		t.Errorf("the follower returns %+v, and the action has %+v", left.Counts, now.Counts)
	}
	h.expectRuns(0, 1, request.Waiting, 2)
	h.expectRuns(1, 99, request.Failed, 1)
	h.run()
	h.Eventually("another runner continues", func() bool { return h.get(a.ID).Counts.Done == 2 })
}

func TestFollow_EndsWhenTheActionIsAborted(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 20, request.Failed, "timeout")
	slow := everything
	slow.Rate = "1/h"
	a := h.start(slow)
	var aborted atomic.Bool
	got, err := NewRunner(h.config()).Follow(t.Context(), a.ID, func(now Action) {
		if now.Counts.Done == 1 && !aborted.Swap(true) {
			_, err := h.store.Abort(t.Context(), a.ID)
			h.Must(err)
		}
	})
	h.Must(err)
	h.expectCounts(got, Aborted, 20, 1, 0)
}

func TestRunning_FindsTheSameAction(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 3, request.Failed, "timeout")
	find := func(r Request) string {
		t.Helper()
		a, ok, err := h.store.Running(t.Context(), r)
		h.Must(err)
		if ok != (a.ID != "") {
			t.Errorf("got %+v, %v", a, ok)
		}
		return a.ID
	}
	spring := Request{Kind: RetryFailed, Filter: Filter{Batch: "spring"}}
	if id := find(spring); id != "" {
		t.Errorf("found %s before it was started", id)
	}
	a := h.start(spring)
	h.start(Request{Kind: RetryFailed, IDs: []string{"A-0000"}})
	if id := find(spring); id != a.ID {
		t.Errorf("found %q, want %s", id, a.ID)
	}
	for _, other := range []Request{
		{Kind: DropFailed, Filter: spring.Filter}, {Kind: RetryFailed, Filter: Filter{Batch: "spring", Reason: "timeout"}}, everything,
	} {
		if id := find(other); id != "" {
			t.Errorf("found %s for %+v", id, other)
		}
	}
	_, err := h.store.Abort(t.Context(), a.ID)
	h.Must(err)
	if id := find(spring); id != "" {
		t.Errorf("found %s after it was aborted", id)
	}
}

// An action whose runner died is aborted: another runner counts what the dead one had changed,
// and changes nothing.
func TestAbort_CountsWhatADeadRunnerHasChanged(t *testing.T) {
	t.Parallel()
	for _, commands := range []int{8, 30, 61, 75, 100} {
		t.Run(fmt.Sprint("after ", commands, " commands"), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.restore("spring", 0, 130, request.Failed, "timeout")
			a := h.start(everything)
			h.dying(commands).continueAction(t.Context(), a.ID)
			before, err := h.store.Abort(t.Context(), a.ID)
			if h.Must(err); before != Running {
				t.Fatalf("it was %q", before)
			}
			left := h.plan(everything).Count
			if left == 0 || left == 130 {
				t.Fatalf("the dead runner has left %d of 130", left)
			}
			h.run()
			h.expectSettled(a.ID, 130-left)
			// The runner changes what another action selects, and nothing else.
			h.expectCounts(h.wait(h.start(Request{Kind: RetryFailed, IDs: []string{"A-0129"}}).ID), Done, 1, 1, 0)
			if now := h.plan(everything).Count; now != left-1 {
				t.Errorf("%d requests are failed, want %d", now, left-1)
			}
			h.expectSettled(a.ID, 130-left)
		})
	}
}

// Retried deliveries stay in the list until their attempts begin; they are counted by their
// tasks.
func TestAbort_CountsTheDeliveriesThatADeadRunnerHasEnqueued(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 12 {
		h.giveUp(fmt.Sprintf("A-%02d", i), "shop.example")
	}
	a := h.start(Request{Kind: RetryDeliveries, Filter: Filter{All: true}})
	h.dying(21).continueAction(t.Context(), a.ID)
	_, err := h.store.Abort(t.Context(), a.ID)
	h.Must(err)
	queue := "asynq:{" + h.Keys.Queue(request.Callbacks) + "}:pending"
	queued, err := h.Redis.LLen(t.Context(), queue).Result()
	if h.Must(err); queued == 0 || queued == 12 {
		t.Fatalf("the dead runner has enqueued %d of 12", queued)
	}
	h.run()
	h.expectSettled(a.ID, int(queued))
	if now := h.Redis.LLen(t.Context(), queue).Val(); now != queued {
		t.Errorf("%d deliveries are queued, want %d", now, queued)
	}
}

// expectSettled waits until no runner has work with an aborted action, and checks what is
// left of it.
func (h *harness) expectSettled(id string, done int) {
	h.Helper()
	h.Eventually("no runner is needed", func() bool {
		return errors.Is(h.Redis.ZScore(h.Context(), h.Keys.RunningActions(), id).Err(), redis.Nil)
	})
	if a := h.get(id); a.State != Aborted || a.Counts.Done != done || a.Counts.Skipped.Total() != 0 {
		h.Errorf("the action is %s with %+v, want %s with %d done", a.State, a.Counts, Aborted, done)
	}
	fields, err := h.Redis.HGetAll(h.Context(), h.Keys.Action(id)).Result()
	h.Must(err)
	for _, name := range []string{"cursor", "page", "ids"} {
		if fields[name] != "" {
			h.Errorf("it keeps %s: %s, which names requests", name, fields[name])
		}
	}
}

func TestFollow_EndsAtOnceIfNothingMatches(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	a := h.start(everything)
	if got := h.follow(NewRunner(h.config()), a.ID); got.State != Done || got.Counts.Matched != 0 {
		t.Errorf("got %+v, want an action that has done nothing", got)
	}
}
