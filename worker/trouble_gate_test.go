package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// If the process that is chosen to probe gets no token, the gate stays closed for as long
// as FaceKi asked.
func TestGate_StaysClosedWhileTheTokenIsThrottled(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	k := h.book()
	h.Must(k.Join(t.Context()))
	for i := range 5 {
		closed, err := k.ReportSignal(t.Context(), request.Ref{ApplicationID: fmt.Sprintf("B-%d", i)}, &fault.Fault{Kind: fault.NotSent}, false)
		if h.Must(err); closed != (i == 4) {
			t.Errorf("after %d troubles the gate is closed: %v", i+1, closed)
		}
	}
	h.closes("outage")
	h.Must(h.account().Resume(t.Context()))
	ref := h.accept("A-1")
	answer, err := k.Admit(t.Context(), attempt.Query{Ref: ref})
	h.Must(err)
	if answer.Verdict != attempt.Connect {
		t.Fatalf("%+v", answer)
	}
	_, err = k.ReportSignal(t.Context(), ref, &fault.Fault{Kind: fault.TooMany, RetryAfter: time.Minute}, true)
	h.Must(err)
	if wait := time.Until(h.status().Gate.NextProbe); wait < 50*time.Second {
		t.Errorf("the next probe is in %s, FaceKi asked for a minute", wait)
	}
}
