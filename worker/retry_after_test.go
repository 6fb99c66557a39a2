package worker

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// FaceKi asks a signup to wait for hours, and recovers earlier: the gate opens after ten
// minutes at the latest, and the signup must not wait longer.
func TestPolicy_LimitsRetryAfterToTheGates(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"http_429", "http_503"} {
		h := newHarness(t, simulator.Script{Rules: []simulator.Rule{
			{Match: "A-1", Fault: simulator.Fault{Name: fault, RetryAfter: simulator.Duration(3 * time.Hour)}}}})
		p := h.joined(h.book(), h.faceki)
		ref := h.accept("A-1")
		delay, again := isLater(p.process(t.Context(), ref))
		if !again || delay > time.Minute {
			t.Errorf("%s: it is retried (%v) after %v", fault, again, delay)
		}
		if wait := time.Until(h.status().Gate.NextProbe); fault == "http_429" && (wait < 9*time.Minute || wait > 10*time.Minute) {
			t.Errorf("the next probe is in %v", wait)
		}
	}
}
