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

// What was stored before Redis' clock went back by an hour holds nothing up for as long.
func TestWhatIsStoredWhenRedisClockGoesBack(t *testing.T) {
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
		h := back(t, func(h *harness) { h.Feed() }) // it leads, and dies
		if fed := h.FeedUpTo(h.AnotherWorker(), 10); !fed.Leads {
			t.Error("nobody else leads")
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
				t.Fatal("nobody looks for it")
			}
		}
	})
	t.Run("a call that Redis forgot the end of", func(t *testing.T) {
		var ref request.Ref
		h := back(t, func(h *harness) {
			h.ImportRow("A-1")
			ref = h.Admit(h.Stores, h.Feed()[0], attempt.Call).Ref()
		})
		h.Must(h.Stores.Fleet.Heartbeat(t.Context(), nil)) // it lives, and has no handler for it
		h.Admit(h.AnotherWorker(), ref, attempt.Call)
	})
	t.Run("a delivery whose task is missing", func(t *testing.T) {
		h := back(t, func(h *harness) {
			h.openDelivery("A-1")
		})
		for deadline := time.Now().Add(2 * time.Minute); ; {
			stalled, _, err := h.Stores.Deliveries.StalledDeliveries(t.Context(), time.Millisecond)
			h.Must(err)
			if len(stalled) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("nobody looks for it")
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
		judge := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Second}})
		h.Must(judge.Fleet.Join(t.Context()))
		for deadline := time.Now().Add(2 * time.Minute); ; {
			h.Must(judge.Fleet.Heartbeat(t.Context(), nil))
			turns, _, err := judge.Requests.Lost(t.Context(), "")
			h.Must(err)
			if len(turns) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it lives for ever")
			}
		}
		if _, _, workers, err := h.Stores.Account.Basics(t.Context()); err != nil || workers != 1 {
			t.Errorf("%d workers live, %v; want the judge", workers, err)
		}
	})
}

// What was looked at while Redis' clock was a day ahead is looked at again when it is not.
func TestWhatIsStoredWhileRedisClockIsAhead(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	h := newHarnessOn(t, own)
	h.Must(clock.Set(0))
	h.openDelivery("A-1")
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-2"})
	h.Must(err)
	look := func() (requests, deliveries int) {
		refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, time.Minute)
		h.Must(err)
		stalled, _, err := h.Stores.Deliveries.StalledDeliveries(t.Context(), time.Minute)
		h.Must(err)
		return len(refs), len(stalled)
	}
	h.Must(clock.Set(24 * time.Hour))
	if requests, deliveries := look(); requests != 1 || deliveries != 1 {
		t.Fatalf("%d requests and %d deliveries are due a day later", requests, deliveries)
	}
	h.Must(clock.Set(0))
	look() // they are due from now on
	h.Must(clock.Set(2 * time.Minute))
	if requests, deliveries := look(); requests != 1 || deliveries != 1 {
		t.Errorf("%d requests and %d deliveries are due; want one of each", requests, deliveries)
	}
}

// A judge that has heard of a process a moment before Redis' clock goes forward takes it
// for dead in none of the ways, although it has not noticed the step by a heartbeat yet.
func TestNobodyIsJudgedByAClockThatWentForward(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	h := newHarnessOn(t, own)
	const dead = 200 * time.Millisecond
	h.ImportRow("A-1")
	ref := h.Admit(h.Stores, h.Feed()[0], attempt.Call).Ref()
	judge := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: dead}})
	h.Must(judge.Fleet.Join(t.Context()))
	for begun := time.Now(); time.Since(begun) < 2*dead; {
		h.Must(judge.Fleet.Heartbeat(t.Context(), nil))
	}
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
	h.Must(judge.Fleet.Heartbeat(t.Context(), nil))
	h.Must(clock.Set(5 * time.Second))
	turns, _, err := judge.Requests.Lost(t.Context(), "")
	if h.Must(err); len(turns) > 0 {
		t.Errorf("%v is lost", turns)
	}
	h.Admit(judge, ref, attempt.Busy)
	alive, err := judge.Fleet.Handlers(t.Context())
	if h.Must(err); len(alive) > 0 && !alive[ref.String()] {
		t.Error("its handler is dead")
	}
}
