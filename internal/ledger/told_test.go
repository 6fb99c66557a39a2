package ledger_test

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
)

// What a transition tells the gate is kept with it.
func TestTheGateKeepsWhatItIsTold(t *testing.T) {
	h := newHarness(t)
	gate := h.Keys.Tag() + ":gate"
	for _, id := range []string{"A-1", "A-2", "A-3"} {
		h.importRow(id)
	}
	refs := h.feed()
	kept := func(field, want string) {
		t.Helper()
		if got := h.Redis.HGet(t.Context(), gate, field).Val(); got != want {
			t.Errorf("the gate's %s is %q, want %q", field, got, want)
		}
	}
	h.tryMark(h.ledger, refs[0])
	granted := false
	for field := range h.Redis.HGetAll(t.Context(), gate).Val() {
		granted = granted || strings.HasPrefix(field, "used:")
	}
	if !granted {
		t.Error("the gate does not know of the grant")
	}
	_, err := h.ledger.Requests.Created(t.Context(), h.attempt("A-1"), link)
	h.Must(err)
	kept("last", "s")

	h.tryMark(h.ledger, refs[1])
	h.fault("A-2", fault.ServerError, attempt.Retry)
	kept("row", "A-2")
	_, err = h.ledger.Requests.Report(t.Context(), refs[2], &fault.Fault{Kind: fault.NotSent}, false)
	h.Must(err)
	kept("row", "A-2\nA-3")

	h.tryMark(h.ledger, refs[2])
	h.Must(h.Redis.HSet(t.Context(), gate, "prober", h.attempt("A-3").Holder, "probe", "A-3").Err())
	_, err = h.ledger.Requests.Quarantine(t.Context(), refs[2], "", "an invented message")
	h.Must(err)
	kept("prober", "")
}
