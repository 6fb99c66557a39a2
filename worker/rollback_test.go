package worker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// Redis loses the record of a link that was made a moment ago. The process that made it
// lives, and finds the request in calling: the second link is a possible duplicate.
func TestWorker_CountsAPossibleDuplicateWhenRedisLostALink(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t)
	h := newHarnessOn(t, own, hang("A-*"))
	h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.Eventually("a call is under way", func() bool { return h.sim.State().InFlight == 1 })
	h.Must(own.Snapshot())
	h.sim.Release()
	h.created("A-1")
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.Must(own.LoseWrites())
	h.created("A-1")
	h.calls("A-1", 2)
	h.expect("A-1", request.Created, 2, 1)
}

// A grant whose reply was lost is given back unused, and the turn asks again.
func TestAdmit_UsesNoGrantWithoutAReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newScript(attempt.Decision{Verdict: attempt.Granted}, granted)
		d.takes = 10 * time.Millisecond
		if err := <-begin(t.Context(), clocked(d, d.upstream()).pipeline(), "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "10ms back A-1", "10ms mark A-1", "20ms call", "20ms created A-1")
		if first, second := d.asks[0].Nonce, d.asks[1].Nonce; first == "" || first == second {
			t.Errorf("the nonces are %q and %q", first, second)
		}
	})
}
