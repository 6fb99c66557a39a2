package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/ledger"
)

// rolledBack is a request whose link Redis has lost: its record is as it was
// when the call was marked, so long ago.
func rolledBack(t *testing.T, age time.Duration) (*bench, attempt.Attempt) {
	t.Helper()
	b, a := started(t)
	key := b.keys.Record("A-1")
	raw, err := b.rdb.Get(t.Context(), key).Result()
	b.must(err)
	_, err = b.ledger.Created(t.Context(), a, link)
	b.must(err)
	changed := fmt.Sprintf("%013d", a.ChangedAt.Add(-age).UnixMilli())
	b.must(b.rdb.Set(t.Context(), key, raw[:54]+changed+raw[67:], 0).Err())
	return b, a
}

// another is another process.
func (b *bench) another() *ledger.Ledger {
	b.t.Helper()
	l := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true})
	b.must(l.Join(b.t.Context()))
	return l
}

// The process lives, and has no handler for a call that Redis forgot the end of:
// nobody must wait for it.
func TestACallThatRedisForgotIsTakenUp(t *testing.T) {
	b, a := rolledBack(t, time.Minute)
	lost := func() int {
		t.Helper()
		turns, _, err := b.ledger.Lost(t.Context(), "")
		b.must(err)
		return len(turns)
	}
	// Created took it off the set of calls; a Redis that lost that has it still.
	b.must(b.rdb.ZAdd(t.Context(), b.keys.Tag()+":calls", redis.Z{
		Score: float64(a.ChangedAt.UnixMilli()), Member: fmt.Sprintf("%d A-1", a.Holder),
	}).Err())
	b.must(b.ledger.Beat(t.Context(), []string{a.Ref().String()}))
	other := b.another()
	if n := lost(); n != 0 {
		t.Errorf("a call that has a handler is lost")
	}
	if answer := b.tryMark(other, a.Ref()); answer.Admission != attempt.Busy {
		t.Errorf("a call that has a handler is %s", answer.Admission)
	}
	b.must(b.ledger.Beat(t.Context(), nil))
	if n := lost(); n != 1 {
		t.Errorf("%d calls are lost, want 1", n)
	}
	answer := b.tryMark(other, a.Ref())
	if r := answer.Attempt; answer.Admission != attempt.Call || r.Attempts != 2 || r.PossibleDuplicates != 1 {
		t.Errorf("%s, attempts %d, possible duplicates %d; want a call, 2, 1", answer.Admission, r.Attempts, r.PossibleDuplicates)
	}
}

// A call is marked before the heartbeat of its process can tell of its handler.
func TestAFreshCallIsNotTakenUp(t *testing.T) {
	b, a := rolledBack(t, 10*time.Second)
	b.must(b.ledger.Beat(t.Context(), nil))
	if answer := b.tryMark(b.another(), a.Ref()); answer.Admission != attempt.Busy {
		t.Errorf("a call that was marked 10 s before a heartbeat is %s", answer.Admission)
	}
}
