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

// Redis loses the record of a link that was paid for a moment ago. The process that made
// it lives, and finds its own fresh mark: the second link is a possible duplicate.
func TestALinkThatRedisLostIsAPossibleDuplicate(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t)
	b := benchOn(t, own, hang("A-*"))
	b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.eventually("a call is under way", func() bool { return b.sim.State().InFlight == 1 })
	b.must(own.Snapshot())
	b.sim.Release()
	b.created("A-1")
	b.must(b.sim.SetScript(simulator.Script{}))
	b.must(own.LoseWrites())
	for deadline := time.Now().Add(time.Minute); b.record("A-1").State != request.Created; {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute it is %+v", b.record("A-1"))
		}
		time.Sleep(10 * time.Millisecond) //nolint:forbidigo // between two looks
	}
	b.calls("A-1", 2)
	b.expect("A-1", request.Created, 2, 1)
}

// A mark was made and its reply was lost: it is given back, unused, and requested again.
func TestAGrantWithoutAReplyIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(attempt.Answer{Admission: attempt.Granted}, granted)
		d.takes = 10 * time.Millisecond
		if err := <-begin(t.Context(), newLane(clocked(d, d.upstream()).pipe), "A-1"); err != nil {
			t.Error(err)
		}
		d.expect(t, "0s ready", "0s mark A-1", "10ms back A-1", "10ms mark A-1", "20ms call", "20ms created A-1")
		if first, second := d.asks[0].Nonce, d.asks[1].Nonce; first == "" || first == second {
			t.Errorf("the nonces are %q and %q", first, second)
		}
	})
}
