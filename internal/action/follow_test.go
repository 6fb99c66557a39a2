package action

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

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

// An action whose runner died is aborted: no other runner continues it.
func TestAbort_EndsTheActionOfADeadRunner(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 130, request.Failed, "timeout")
	a := h.start(everything)
	h.dying(30).continueAction(t.Context(), a.ID)
	_, err := h.store.Abort(t.Context(), a.ID)
	h.Must(err)
	left := h.plan(everything).Count
	if left == 0 || left == 130 {
		t.Fatalf("the dead runner has left %d of 130", left)
	}
	h.run()
	h.expectCounts(h.follow(NewRunner(h.config()), h.start(Request{Kind: RetryFailed, IDs: []string{"A-0129"}}).ID), Done, 1, 1, 0)
	if now := h.plan(everything).Count; now != left-1 {
		t.Errorf("%d requests are failed, want %d", now, left-1)
	}
	if now := h.get(a.ID); now.State != Aborted || now.Counts.Done > 130-left {
		t.Errorf("the aborted action is %+v; %d requests were retried", now, 130-left)
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
