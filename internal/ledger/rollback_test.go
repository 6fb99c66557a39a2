package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

// rolledBack returns a request whose link Redis has lost, and the call of that link: the
// record is as it was when the call was granted, as long ago as age.
func rolledBack(t *testing.T, age time.Duration) (*harness, attempt.Attempt) {
	t.Helper()
	h, a := started(t)
	key := h.Keys.Record("A-1")
	raw, err := h.Redis.Get(t.Context(), key).Result()
	h.Must(err)
	_, err = h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	h.Must(err)
	changed := fmt.Sprintf("%013d", a.ChangedAt.Add(-age).UnixMilli())
	h.Must(h.Redis.Set(t.Context(), key, raw[:54]+changed+raw[67:], 0).Err())
	return h, a
}

// A call whose end Redis lost is lost as soon as its worker, which is alive, has no handler
// for it.
func TestLostCalls_FindsACallWhoseEndRedisLost(t *testing.T) {
	h, a := rolledBack(t, time.Minute)
	lost := func() int {
		t.Helper()
		turns, _, err := h.Stores.Requests.LostCalls(t.Context(), "")
		h.Must(err)
		return len(turns)
	}
	// Created removed the call from the set; a Redis that lost that write still has it.
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Tag()+":calls", redis.Z{
		Score: float64(a.ChangedAt.UnixMilli()), Member: fmt.Sprintf("%d A-1", a.Holder),
	}).Err())
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), []string{a.Ref().String()}))
	other := h.AnotherWorker()
	if n := lost(); n != 0 {
		t.Errorf("a call that has a handler is lost")
	}
	if answer := h.TryAdmit(other, a.Ref()); answer.Verdict != attempt.Busy {
		t.Errorf("the admission of a call that has a handler is %s, want busy", answer.Verdict)
	}
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), nil))
	if n := lost(); n != 1 {
		t.Errorf("%d calls are lost, want 1", n)
	}
	answer := h.TryAdmit(other, a.Ref())
	if r := answer.Attempt; answer.Verdict != attempt.Call || r.Attempts != 2 || r.PossibleDuplicates != 1 {
		t.Errorf("the admission is %s, attempts %d, possible duplicates %d; want call, 2, 1", answer.Verdict, r.Attempts, r.PossibleDuplicates)
	}
}

// A call is recorded before a heartbeat of its worker can name its handler.
func TestAdmit_WaitsForAFreshCall(t *testing.T) {
	h, a := rolledBack(t, 10*time.Second)
	h.Must(h.Stores.Fleet.Heartbeat(t.Context(), nil))
	if answer := h.TryAdmit(h.AnotherWorker(), a.Ref()); answer.Verdict != attempt.Busy {
		t.Errorf("the admission of a call that was granted 10 s before a heartbeat is %s, want busy", answer.Verdict)
	}
}
