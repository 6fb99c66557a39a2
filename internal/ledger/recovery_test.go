package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
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
		t.Fatalf("%v, %v, %v", refs, more, err)
	}
	for range 2 {
		refs, more, err := h.Stores.Requests.Overdue(t.Context(), request.Bulk, -time.Second)
		if err != nil || len(refs) != 1 || refs[0] != ref || more {
			t.Fatalf("%v, %v, %v", refs, more, err)
		}
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Bulk), redis.Z{Score: float64(time.Now().Add(-time.Hour).UnixMilli()), Member: "A-1"}).Err())
	for _, want := range []int{1, 0} { // and not again at once
		if refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Bulk, time.Minute); err != nil || len(refs) != want {
			t.Errorf("named %v, want %d, %v", refs, want, err)
		}
	}
}

// What left the state without leaving the set leaves it now; what a newer version
// wrote stays.
func TestOverdue_RemovesRequestsThatAreNotQueued(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "newer"})
	h.Must(err)
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("newer"), 0, "2").Err())
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("broken"), "1q", 0).Err())
	set := h.Keys.Queued(request.Interactive)
	h.Must(h.Redis.ZAdd(t.Context(), set, redis.Z{Member: "nobody"}, redis.Z{Member: "broken"}).Err())
	if refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, -time.Second); err != nil || len(refs) != 0 {
		t.Errorf("%v, %v", refs, err)
	}
	if left := h.Redis.ZRange(t.Context(), set, 0, -1).Val(); !slices.Equal(left, []string{"newer"}) {
		t.Errorf("%v are left in the set", left)
	}
}

func TestLost_FindsCallsPageByPage(t *testing.T) {
	h := newHarness(t)
	const many = 1200
	h.Import("spring", ledgertest.Rows(1, many))
	for range 2 {
		h.FeedUpTo(h.Stores, 5000)
	}
	judge := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}})
	h.Must(judge.Fleet.Join(t.Context()))
	for n := 1; n <= many; n++ { // as mark does
		id := fmt.Sprint("R-", n)
		r, _ := h.Get(id)
		r.State, r.Holder = request.Calling, 999_998
		if n%2 == 0 {
			r.State = request.Created // and its call was not taken off the set
		}
		raw, err := r.Encode()
		h.Must(err)
		h.Must(h.Redis.Set(t.Context(), h.Keys.Record(id), raw, 0).Err())
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Score: float64(n), Member: "999998 " + id}).Err())
	}
	all := func() (lost int) {
		page := ""
		for range many {
			turns, next, err := judge.Requests.LostCalls(t.Context(), page)
			h.Must(err)
			lost += len(turns)
			if page = next; page == "" {
				return lost
			}
		}
		t.Fatal("its pages have no end")
		return 0
	}
	lost := 0
	for deadline := time.Now().Add(time.Minute); lost == 0 && time.Now().Before(deadline); {
		lost = all()
	}
	if left := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); lost != many/2 || left != many/2 {
		t.Errorf("%d calls are lost and %d are out, want %d of each", lost, left, many/2)
	}
}

// A call whose record nobody can read is nobody's, and would count as one that
// has no answer for ever; one of a newer version is.
func TestLost_RemovesCallsWithoutAReadableRecord(t *testing.T) {
	h := newHarness(t)
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("broken"), "1c", 0).Err())
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("newer"), "2", 0).Err())
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Member: "7 broken"}, redis.Z{Member: "7 newer"}, redis.Z{Member: "7 nobody"}).Err())
	if lost, next, err := h.Stores.Requests.LostCalls(t.Context(), ""); err != nil || len(lost) != 0 || next != "" {
		t.Errorf("%v, %q, %v", lost, next, err)
	}
	if left := h.Redis.ZRange(t.Context(), h.Keys.Calls(), 0, -1).Val(); !slices.Equal(left, []string{"7 newer"}) {
		t.Errorf("%v are out", left)
	}
}

func TestExpireLate_PassesRequestsThatAreBeingCalled(t *testing.T) {
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
	sweep := func() (ended int) {
		page := ""
		for range many {
			n, next, err := h.Stores.Requests.ExpireDue(t.Context(), page)
			h.Must(err)
			ended += n
			if page = next; page == "" {
				return ended
			}
		}
		t.Fatal("its pages have no end")
		return 0
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Deadlines(), redis.Z{Score: 1, Member: "nobody"}).Err())
	if n := sweep(); n != many-len(called) {
		t.Errorf("%d have ended, want %d", n, many-len(called))
	}
	if left := h.Redis.ZCard(t.Context(), h.Keys.Deadlines()).Val(); int(left) != len(called) {
		t.Errorf("%d deadlines are left, want %d", left, len(called))
	}
	h.Fault(called[0].ApplicationID, fault.Unavailable, attempt.Retry)
	h.ExpectState(called[0].ApplicationID, "failed")
	if n := sweep(); n != 0 {
		t.Errorf("%d more have ended", n)
	}
	if fed := h.Feed(); len(fed) != 0 {
		t.Errorf("fed %d that have ended", len(fed))
	}
	h.ExpectCounters()
}

// Between the look and the end, a person may have let it go on without a
// not_after.
func TestExpireLate_LeavesARequestThatIsRetriedMeanwhile(t *testing.T) {
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
	sweeper := h.InterruptedAfter("eval", func() {
		seen = true
		_, ok, err := h.Stores.Requests.Retry(t.Context(), r)
		if err != nil || !ok {
			t.Errorf("it does not go on: %v", err)
		}
	})
	if n, _, err := sweeper.Requests.ExpireDue(t.Context(), ""); err != nil || n != 0 || !seen {
		t.Errorf("%d have ended, %v", n, err)
	}
	h.ExpectState("A-1", "queued")
	h.ExpectCounters()
}
