package ledger_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// What was stored before Redis' clock went back by an hour holds nothing up for as long.
func TestWhatIsStoredWhenRedisClockGoesBack(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	back := func(t *testing.T, do func(b *bench)) *bench {
		t.Helper()
		b := newBenchAt(t, own)
		b.must(clock.Set(0))
		do(b)
		b.must(clock.Set(-time.Hour))
		return b
	}
	t.Run("a leader's lease", func(t *testing.T) {
		b := back(t, func(b *bench) { b.feed() }) // it leads, and dies
		if fed := b.feedUpTo(b.another(), 10); !fed.Leads {
			t.Error("nobody else leads")
		}
	})
	t.Run("a pause after a fault", func(t *testing.T) {
		var ref request.Ref
		b := back(t, func(b *bench) {
			b.importRow("A-1")
			a := b.mark(b.ledger, b.feed()[0], attempt.Call)
			ref = a.Ref()
			_, err := b.ledger.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Minute})
			b.must(err)
			b.mark(b.ledger, ref, attempt.Early)
		})
		b.mark(b.ledger, ref, attempt.Call)
	})
	t.Run("a turn whose task is missing", func(t *testing.T) {
		b := back(t, func(b *bench) {
			_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
			b.must(err)
		})
		for deadline := time.Now().Add(2 * time.Minute); ; {
			refs, _, err := b.ledger.Overdue(t.Context(), request.Interactive, time.Millisecond)
			b.must(err)
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
		b := back(t, func(b *bench) {
			b.importRow("A-1")
			ref = b.mark(b.ledger, b.feed()[0], attempt.Call).Ref()
		})
		b.must(b.ledger.Beat(t.Context(), nil)) // it lives, and has no handler for it
		b.mark(b.another(), ref, attempt.Call)
	})
	t.Run("a delivery whose task is missing", func(t *testing.T) {
		b := back(t, func(b *bench) {
			b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.keys.Account, Callbacks: tasks.Callbacks{Hosts: []string{"*"}}})
			b.ended("A-1").open(false)
		})
		for deadline := time.Now().Add(2 * time.Minute); ; {
			stalled, _, err := b.ledger.StalledDeliveries(t.Context(), time.Millisecond)
			b.must(err)
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
		b := back(t, func(b *bench) {
			b.importRow("A-1")
			ref = b.mark(b.ledger, b.feed()[0], attempt.Call).Ref()
			b.must(b.ledger.Beat(t.Context(), []string{ref.String()}))
		})
		judge := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, DeadAfter: time.Second})
		b.must(judge.Join(t.Context()))
		for deadline := time.Now().Add(2 * time.Minute); ; {
			b.must(judge.Beat(t.Context(), nil))
			turns, _, err := judge.Lost(t.Context(), "")
			b.must(err)
			if len(turns) == 1 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("it lives for ever")
			}
		}
		if _, _, workers, err := b.ledger.Account(t.Context()); err != nil || workers != 1 {
			t.Errorf("%d workers live, %v; want the judge", workers, err)
		}
	})
}

// What was looked at while Redis' clock was a day ahead is looked at again when it is not.
func TestWhatIsStoredWhileRedisClockIsAhead(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	b := newBenchAt(t, own)
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.keys.Account, Callbacks: tasks.Callbacks{Hosts: []string{"*"}}})
	b.must(clock.Set(0))
	b.ended("A-1").open(false)
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-2"})
	b.must(err)
	look := func() (requests, deliveries int) {
		refs, _, err := b.ledger.Overdue(t.Context(), request.Interactive, time.Minute)
		b.must(err)
		stalled, _, err := b.ledger.StalledDeliveries(t.Context(), time.Minute)
		b.must(err)
		return len(refs), len(stalled)
	}
	b.must(clock.Set(24 * time.Hour))
	if requests, deliveries := look(); requests != 1 || deliveries != 1 {
		t.Fatalf("%d requests and %d deliveries are due a day later", requests, deliveries)
	}
	b.must(clock.Set(0))
	look() // they are due from now on
	b.must(clock.Set(2 * time.Minute))
	if requests, deliveries := look(); requests != 1 || deliveries != 1 {
		t.Errorf("%d requests and %d deliveries are due; want one of each", requests, deliveries)
	}
}

// A judge that has heard of a process a moment before Redis' clock goes forward takes it
// for dead in none of the ways, although it has not noticed the step by a heartbeat yet.
func TestNobodyIsJudgedByAClockThatWentForward(t *testing.T) {
	t.Parallel()
	own, clock := redistest.StartWithClock(t)
	b := newBenchAt(t, own)
	const dead = 200 * time.Millisecond
	b.importRow("A-1")
	ref := b.mark(b.ledger, b.feed()[0], attempt.Call).Ref()
	judge := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, DeadAfter: dead})
	b.must(judge.Join(t.Context()))
	for begun := time.Now(); time.Since(begun) < 2*dead; {
		b.must(judge.Beat(t.Context(), nil))
	}
	b.must(b.ledger.Beat(t.Context(), []string{ref.String()}))
	b.must(judge.Beat(t.Context(), nil))
	b.must(clock.Set(5 * time.Second))
	turns, _, err := judge.Lost(t.Context(), "")
	if b.must(err); len(turns) > 0 {
		t.Errorf("%v is lost", turns)
	}
	b.mark(judge, ref, attempt.Busy)
	alive, err := judge.Handlers(t.Context())
	if b.must(err); len(alive) > 0 && !alive[ref.String()] {
		t.Error("its handler is dead")
	}
}
