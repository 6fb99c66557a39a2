package fleet_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Times that were stored before Redis' clock went back by an hour delay nothing by an
// hour.
func TestClockStep_BackDelaysNothing(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	back := func(t *testing.T, do func(h *harness)) *harness {
		t.Helper()
		h := newHarnessOn(t, own)
		h.Must(clock.Set(0))
		do(h)
		h.Must(clock.Set(-time.Hour))
		return h
	}
	t.Run("a leader's lease", func(t *testing.T) {
		h := back(t, func(h *harness) { h.Feed() }) // it leads, and stops
		if fed := h.FeedUpTo(h.AnotherWorker(), 10); !fed.Leads {
			t.Error("no other worker takes the lead")
		}
	})
	t.Run("a pause after a fault", func(t *testing.T) {
		var ref request.Ref
		h := back(t, func(h *harness) {
			h.ImportRow("A-1")
			a := h.Admit(h.Stores, h.Feed()[0], attempt.Call)
			ref = a.Ref()
			_, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Minute})
			h.Must(err)
			h.Admit(h.Stores, ref, attempt.Early)
		})
		h.Admit(h.Stores, ref, attempt.Call)
	})
	t.Run("a turn whose task is missing", func(t *testing.T) {
		h := back(t, func(h *harness) {
			_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
			h.Must(err)
		})
		for deadline := time.Now().Add(2 * time.Minute); ; {
			refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, time.Millisecond)
			h.Must(err)
			if len(refs) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("its missing task is not found")
			}
		}
	})
	t.Run("a call whose end Redis lost", func(t *testing.T) {
		var ref request.Ref
		h := back(t, func(h *harness) {
			h.ImportRow("A-1")
			ref = h.Admit(h.Stores, h.Feed()[0], attempt.Call).Ref()
		})
		h.Must(h.Stores.Fleet.Heartbeat(t.Context(), nil)) // it is alive, and has no handler for the call
		h.Admit(h.AnotherWorker(), ref, attempt.Call)
	})
	t.Run("a delivery whose task is missing", func(t *testing.T) {
		h := back(t, func(h *harness) {
			h.openDelivery("A-1")
		})
		for deadline := time.Now().Add(2 * time.Minute); ; {
			stalled, _, err := h.Stores.Deliveries.Stalled(t.Context(), time.Millisecond)
			h.Must(err)
			if len(stalled) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("its missing task is not found")
			}
		}
	})
	t.Run("a process that died", func(t *testing.T) {
		var ref request.Ref
		h := back(t, func(h *harness) {
			h.ImportRow("A-1")
			ref = h.Admit(h.Stores, h.Feed()[0], attempt.Call).Ref()
			h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
		})
		observer := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Second}})
		h.Must(observer.Fleet.Join(t.Context()))
		for deadline := time.Now().Add(2 * time.Minute); ; {
			h.Must(observer.Fleet.Heartbeat(t.Context(), nil))
			turns, _, err := observer.Requests.LostCalls(t.Context(), "")
			h.Must(err)
			if len(turns) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the worker stays alive")
			}
		}
		if _, _, workers, err := h.Stores.Account.Summary(t.Context()); err != nil || workers != 1 {
			t.Errorf("%d workers are alive, %v; want the observer only", workers, err)
		}
	})
}

// Requests and deliveries that were checked while Redis' clock was a day ahead are checked
// again when it is right again.
func TestClockStep_AheadDelaysNothingOnceCorrected(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	h := newHarnessOn(t, own)
	h.Must(clock.Set(0))
	h.openDelivery("A-1")
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-2"})
	h.Must(err)
	due := func() (requests, deliveries int) {
		refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, time.Minute)
		h.Must(err)
		stalled, _, err := h.Stores.Deliveries.Stalled(t.Context(), time.Minute)
		h.Must(err)
		return len(refs), len(stalled)
	}
	h.Must(clock.Set(24 * time.Hour))
	if requests, deliveries := due(); requests != 1 || deliveries != 1 {
		t.Fatalf("%d requests and %d deliveries are due a day later", requests, deliveries)
	}
	h.Must(clock.Set(0))
	due() // both will be due two minutes from now
	h.Must(clock.Set(2 * time.Minute))
	if requests, deliveries := due(); requests != 1 || deliveries != 1 {
		t.Errorf("%d requests and %d deliveries are due two minutes later, want one of each", requests, deliveries)
	}
}

// A worker whose heartbeat came just before Redis' clock went forward is not dead to
// another worker, which has not noticed the step by a heartbeat of its own yet.
func TestClockStep_ForwardMakesNoWorkerDead(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	h := newHarnessOn(t, own)
	const dead = 200 * time.Millisecond
	h.ImportRow("A-1")
	ref := h.Admit(h.Stores, h.Feed()[0], attempt.Call).Ref()
	observer := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: dead}})
	h.Must(observer.Fleet.Join(t.Context()))
	for begun := time.Now(); time.Since(begun) < 2*dead; {
		h.Must(observer.Fleet.Heartbeat(t.Context(), nil))
	}
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
	h.Must(observer.Fleet.Heartbeat(t.Context(), nil))
	h.Must(clock.Set(5 * time.Second))
	turns, _, err := observer.Requests.LostCalls(t.Context(), "")
	if h.Must(err); len(turns) > 0 {
		t.Errorf("the calls %v are lost", turns)
	}
	h.Admit(observer, ref, attempt.Busy)
	alive, err := observer.Fleet.Handlers(t.Context())
	if h.Must(err); len(alive) > 0 && !alive[ref.String()] {
		t.Error("the handler of the call is dead")
	}
}
