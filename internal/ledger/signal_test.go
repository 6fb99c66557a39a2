package ledger_test

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
)

// Each transition stores its signal in the gate.
func TestTransition_ReportsItsSignalToTheGate(t *testing.T) {
	h := newHarness(t)
	gate := h.Keys.Tag() + ":gate"
	for _, id := range []string{"A-1", "A-2", "A-3"} {
		h.ImportRow(id)
	}
	refs := h.Feed()
	stored := func(field, want string) {
		t.Helper()
		if got := h.Redis.HGet(t.Context(), gate, field).Val(); got != want {
			t.Errorf("the gate's %s is %q, want %q", field, got, want)
		}
	}
	h.TryAdmit(h.Stores, refs[0])
	granted := false
	for field := range h.Redis.HGetAll(t.Context(), gate).Val() {
		granted = granted || strings.HasPrefix(field, "used:")
	}
	if !granted {
		t.Error("the gate does not have the grant")
	}
	_, err := h.Stores.Requests.Created(t.Context(), h.Attempt("A-1"), ledgertest.Link())
	h.Must(err)
	stored("last", "s")

	h.TryAdmit(h.Stores, refs[1])
	h.Fault("A-2", fault.ServerError, attempt.Retry)
	stored("row", "A-2")
	_, err = h.Stores.Requests.ReportSignal(t.Context(), refs[2], &fault.Fault{Kind: fault.NotSent}, false)
	h.Must(err)
	stored("row", "A-2\nA-3")

	h.TryAdmit(h.Stores, refs[2])
	h.Must(h.Redis.HSet(t.Context(), gate, "prober", h.Attempt("A-3").Holder, "probe", "A-3").Err())
	_, err = h.Stores.Requests.Quarantine(t.Context(), refs[2], "", "an invented message")
	h.Must(err)
	stored("prober", "")
}

// A process that was chosen to probe may try again in 5 s if it could not connect. Without
// a token the pause grows, because FaceKi bills requests for tokens.
func TestReportSignal_LetsOnlyPausesWithoutATokenGrow(t *testing.T) {
	h := newHarness(t)
	h.ImportRow("A-1")
	ref := h.Feed()[0]
	h.TryAdmit(h.Stores, ref)
	holder := h.Attempt("A-1").Holder
	gate := h.Keys.Tag() + ":gate"
	for _, tt := range []struct {
		kind fault.Kind
		want string
	}{{fault.NotSent, "5000"}, {fault.ConnectTimeout, "5000"}, {fault.TokenUnavailable, "10000"}, {fault.NotSent, "10000"}} {
		h.Must(h.Redis.HSet(t.Context(), gate, "state", "closed", "reason", "outage", "prober", holder, "probe", "A-1").Err())
		h.Must(h.Redis.HSetNX(t.Context(), gate, "pause", "5000").Err())
		closed, err := h.Stores.Requests.ReportSignal(t.Context(), ref, &fault.Fault{Kind: tt.kind}, true)
		if h.Must(err); !closed {
			t.Fatal("the gate is open")
		}
		if got := h.Redis.HGet(t.Context(), gate, "pause").Val(); got != tt.want {
			t.Errorf("after %v the pause is %s ms, want %s", &fault.Fault{Kind: tt.kind}, got, tt.want)
		}
	}
}
