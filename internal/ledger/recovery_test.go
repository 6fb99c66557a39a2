package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestOverdue_NamesATurnAgainLater(t *testing.T) {
	h := newHarness(t)
	h.ImportRow("A-1")
	ref := h.Feed()[0]
	if refs, more, err := h.Stores.Requests.Overdue(t.Context(), request.Bulk, time.Minute); err != nil || len(refs) != 0 || more {
		t.Fatalf("the overdue turns are %v, more: %v, %v", refs, more, err)
	}
	for range 2 {
		refs, more, err := h.Stores.Requests.Overdue(t.Context(), request.Bulk, -time.Second)
		if err != nil || len(refs) != 1 || refs[0] != ref || more {
			t.Fatalf("the overdue turns are %v, more: %v, %v", refs, more, err)
		}
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Bulk), redis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli()), Member: "A-1"}).Err())
	for _, want := range []int{1, 0} { // the second time, it has just been named
		if refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Bulk, time.Minute); err != nil || len(refs) != want {
			t.Errorf("the overdue turns are %v, want %d, %v", refs, want, err)
		}
	}
}

// Requests that are in the set of queued requests, but not queued, are removed from it. A
// request of a newer version stays.
func TestOverdue_RemovesRequestsThatAreNotQueued(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "newer"})
	h.Must(err)
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("newer"), 0, "9").Err())
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("broken"), "1q", 0).Err())
	set := h.Keys.Queued(request.Interactive)
	h.Must(h.Redis.ZAdd(t.Context(), set, redis.Z{Member: "nobody"}, redis.Z{Member: "broken"}).Err())
	if refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, -time.Second); err != nil || len(refs) != 0 {
		t.Errorf("the overdue turns are %v, %v", refs, err)
	}
	if left := h.Redis.ZRange(t.Context(), set, 0, -1).Val(); !slices.Equal(left, []string{"newer"}) {
		t.Errorf("%v are left in the set", left)
	}
}

func TestLostCalls_FindsCallsPageByPage(t *testing.T) {
	h := newHarness(t)
	const many = 1200
	h.Import("spring", ledgertest.Rows(1, many))
	for range 2 {
		h.FeedUpTo(h.Stores, 5000)
	}
	observer := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}})
	h.Must(observer.Fleet.Join(t.Context()))
	for n := 1; n <= many; n++ { // as admission does
		id := fmt.Sprint("R-", n)
		r, _ := h.Get(id)
		r.State, r.Holder = request.Calling, 999_998
		if n%2 == 0 {
			r.State = request.Created // and its call is still in the set
		}
		raw, err := r.Encode()
		h.Must(err)
		h.Must(h.Redis.Set(t.Context(), h.Keys.Record(id), raw, 0).Err())
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Score: float64(n), Member: "999998 " + id}).Err())
	}
	all := func() (lost int) {
		page := ""
		for range many {
			turns, next, err := observer.Requests.LostCalls(t.Context(), page)
			h.Must(err)
			lost += len(turns)
			if page = next; page == "" {
				return lost
			}
		}
		t.Fatal("the pages do not end")
		return 0
	}
	lost := 0
	for deadline := time.Now().Add(time.Minute); lost == 0 && time.Now().Before(deadline); {
		lost = all()
	}
	if left := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); lost != many/2 || left != many/2 {
		t.Errorf("%d calls are lost and %d are in flight, want %d of each", lost, left, many/2)
	}
}

// A call without a readable record is removed, as it would count as unanswered for ever.
// The call of a record of a newer version is kept.
func TestLostCalls_RemovesCallsWithoutAReadableRecord(t *testing.T) {
	h := newHarness(t)
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("broken"), "1c", 0).Err())
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("newer"), "9", 0).Err())
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Member: "7 broken"}, redis.Z{Member: "7 newer"}, redis.Z{Member: "7 nobody"}).Err())
	if lost, next, err := h.Stores.Requests.LostCalls(t.Context(), ""); err != nil || len(lost) != 0 || next != "" {
		t.Errorf("the calls %v are lost, next %q, %v", lost, next, err)
	}
	if left := h.Redis.ZRange(t.Context(), h.Keys.Calls(), 0, -1).Val(); !slices.Equal(left, []string{"7 newer"}) {
		t.Errorf("the calls in flight are %v", left)
	}
}

func TestExpireDue_PassesRequestsThatAreBeingCalled(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	at := time.Now().Add(8 * time.Second)
	const many = 230
	requests := ledgertest.Rows(1, many)
	for i := range requests {
		requests[i].NotAfter = at
	}
	h.Import("spring", requests)
	refs := h.FeedUpTo(h.Stores, 150).Refs
	called := refs[:120]
	for _, ref := range called {
		h.Admit(h.Stores, ref, attempt.Call)
	}
	h.untilPast("R-1")
	expire := func() (ended int) {
		page := ""
		for range many {
			n, next, err := h.Stores.Requests.ExpireDue(t.Context(), page)
			h.Must(err)
			ended += n
			if page = next; page == "" {
				return ended
			}
		}
		t.Fatal("the pages do not end")
		return 0
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Deadlines(), redis.Z{Score: 1, Member: "nobody"}).Err())
	if n := expire(); n != many-len(called) {
		t.Errorf("%d requests have ended, want %d", n, many-len(called))
	}
	if left := h.Redis.ZCard(t.Context(), h.Keys.Deadlines()).Val(); int(left) != len(called) {
		t.Errorf("%d deadlines are left, want %d", left, len(called))
	}
	h.Fault(called[0].ApplicationID, fault.Unavailable, attempt.Retry)
	h.ExpectState(called[0].ApplicationID, "failed")
	if n := expire(); n != 0 {
		t.Errorf("%d more requests have ended", n)
	}
	if fed := h.Feed(); len(fed) != 0 {
		t.Errorf("%d requests that have ended were fed", len(fed))
	}
	h.ExpectCounters()
}

// A request is not ended if a person has retried it, which removes its not_after, after it
// was read.
func TestExpireDue_LeavesARequestThatIsRetriedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", NotAfter: time.Now().Add(5 * time.Second)})
	h.Must(err)
	r, _ := h.Get("A-1")
	h.Admit(h.Stores, r.Ref(), attempt.Call)
	h.Fault("A-1", fault.Unusable, attempt.Hold)
	h.untilPast("A-1")
	r, _ = h.Get("A-1")
	seen := false
	interrupted := h.InterruptedAfter("eval", func() {
		seen = true
		_, ok, err := h.Stores.Requests.Retry(t.Context(), r)
		if err != nil || !ok {
			t.Errorf("the request was not retried: %v", err)
		}
	})
	if n, _, err := interrupted.Requests.ExpireDue(t.Context(), ""); err != nil || n != 0 || !seen {
		t.Errorf("%d requests have ended, %v", n, err)
	}
	h.ExpectState("A-1", "queued")
	h.ExpectCounters()
}

// Other requests wait for the end of a probe, and the probe's own request may wait behind
// them: its end must not wait for that request's next turn.
func TestLostCalls_EndTheProbeOfADeadProcess(t *testing.T) {
	h := newHarness(t)
	observer := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}})
	h.Must(observer.Fleet.Join(t.Context()))
	h.ImportRow("A-1")
	h.TryAdmit(h.Stores, h.Feed()[0])
	holder := h.Attempt("A-1").Holder
	gate, refusal := h.Keys.Tag()+":gate", h.Keys.Tag()+":refused:invented"
	h.Must(h.Redis.HSet(t.Context(), gate, "state", "closed", "reason", "outage", "refused", "invented", "prober", holder, "probe", "A-1", "sent", 1, "by", int64(1)<<52).Err())
	h.Must(h.Redis.HSet(t.Context(), refusal, "since", 1, "pause", 60_000, "next", 1, "prober", holder, "id", "A-1", "by", 1).Err())
	fixture.Eventually(t, "the call is lost", func() bool {
		lost, _, err := observer.Requests.LostCalls(t.Context(), "")
		h.Must(err)
		return len(lost) == 1
	})
	for _, key := range []string{gate, refusal} {
		if prober := h.Redis.HGet(t.Context(), key, "prober").Val(); prober != "" {
			t.Errorf("%s: %s probes still", key, prober)
		}
	}
}
