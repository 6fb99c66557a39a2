package ledger_test

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
)

// What a transition tells the gate is kept with it.
func TestTheGateKeepsWhatItIsTold(t *testing.T) {
	b := newBench(t)
	gate := b.keys.Tag() + ":gate"
	for _, id := range []string{"A-1", "A-2", "A-3"} {
		b.importRow(id)
	}
	refs := b.feed()
	kept := func(field, want string) {
		t.Helper()
		if got := b.rdb.HGet(t.Context(), gate, field).Val(); got != want {
			t.Errorf("the gate's %s is %q, want %q", field, got, want)
		}
	}
	b.tryMark(b.ledger, refs[0])
	granted := false
	for field := range b.rdb.HGetAll(t.Context(), gate).Val() {
		granted = granted || strings.HasPrefix(field, "used:")
	}
	if !granted {
		t.Error("the gate does not know of the grant")
	}
	_, err := b.ledger.Created(t.Context(), b.attempt("A-1"), link)
	b.must(err)
	kept("last", "s")

	b.tryMark(b.ledger, refs[1])
	b.fault("A-2", fault.ServerError, attempt.Retry)
	kept("row", "A-2")
	_, err = b.ledger.Trouble(t.Context(), refs[2], &fault.Fault{Kind: fault.NotSent}, false)
	b.must(err)
	kept("row", "A-2\nA-3")

	b.tryMark(b.ledger, refs[2])
	b.must(b.rdb.HSet(t.Context(), gate, "prober", b.attempt("A-3").Holder, "probe", "A-3").Err())
	_, err = b.ledger.Poison(t.Context(), refs[2], "", "an invented message")
	b.must(err)
	kept("prober", "")
}
