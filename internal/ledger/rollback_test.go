package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/record"
)

// rolledBack is a request whose link Redis has lost: its record is as it was
// when the call was marked, so long ago.
func rolledBack(t *testing.T, age time.Duration) (*bench, record.Attempt) {
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

// A process finds a call of its own that it had an answer to: it may not take it
// for a mark whose reply was lost, as there is a link.
func TestACallThatRedisForgotIsDoubtful(t *testing.T) {
	b, a := rolledBack(t, time.Minute)
	answer, err := b.ledger.Mark(t.Context(), record.Ask{Ref: a.Ref(), Defaults: defaults, Earlier: record.Unsent, Since: time.Now()})
	b.must(err)
	if r := answer.Attempt; answer.Verdict != record.Call || r.Attempts != 2 || r.PossibleDuplicates != 1 {
		t.Errorf("%s, attempts %d, possible duplicates %d; want a call, 2, 1", answer.Verdict, r.Attempts, r.PossibleDuplicates)
	}

	// A mark that may be this ask's own, whose reply was lost, is none.
	b, a = started(t)
	answer, err = b.ledger.Mark(t.Context(), record.Ask{Ref: a.Ref(), Defaults: defaults, Earlier: record.Unsent, Since: time.Now()})
	b.must(err)
	if r := answer.Attempt; answer.Verdict != record.Call || r.Attempts != 1 || r.PossibleDuplicates != 0 {
		t.Errorf("%s, attempts %d, possible duplicates %d; want a call, 1, 0", answer.Verdict, r.Attempts, r.PossibleDuplicates)
	}
}
