package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// watchful is a process that holds others for dead after a few seconds.
func (b *bench) watchful() *book {
	return &book{Ledger: ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, DeadAfter: 3 * time.Second})}
}

// Redis' clock is set while workers call: they live, and none of their calls is taken for
// dead; what a process left that died before the clock went back is recovered.
func TestLiveWorkersSurviveStepsOfRedisClock(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{5 * time.Second, 20 * time.Second, 24 * time.Hour, -5 * time.Second, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			own, clock := redistest.StartWithClock(t)
			b := benchOn(t, own, hang("A-*"))
			b.cfg.CallTimeout = time.Minute
			b.faceki = b.shop("hush")
			dead := b.watchful()
			b.must(dead.Join(t.Context()))
			died := b.accept("dead")
			b.dequeue(request.Interactive)
			b.marked(dead, died)
			lives := func() { b.must(dead.Beat(t.Context(), []string{died.String()})) }
			lives()

			const calls = 8
			for range 2 {
				w := New(b.rdb, b.watchful(), b.faceki, b.cfg)
				w.sweep.pause = 20 * time.Millisecond
				b.run(w)
			}
			for i := range calls {
				b.accept(fmt.Sprint("A-", i))
			}
			b.eventually("all are being called", func() bool { return b.sim.State().InFlight == calls })
			for range 16 { // the workers may judge others afterwards
				<-time.After(250 * time.Millisecond)
				lives()
			}
			b.expect("dead", request.Calling, 1, 0)
			b.must(clock.Set(step))
			b.eventuallyWithin(2*time.Minute, "what died is recovered", func() bool { return b.record("dead").State == request.Created })
			b.expect("dead", request.Created, 2, 1)
			for range 16 { // and again
				<-time.After(250 * time.Millisecond)
				for i := range calls {
					r := b.expect(fmt.Sprint("A-", i), request.Calling, 1, 0)
					if state := b.taskState(request.Interactive, r.Ref()); state != "active" {
						t.Fatalf("the task of %s is %q while its handler lives", r.ApplicationID, state)
					}
				}
			}
			b.must(b.sim.SetScript(simulator.Script{}))
			b.sim.Release()
			for i := range calls {
				b.created(fmt.Sprint("A-", i))
				b.calls(fmt.Sprint("A-", i), 1)
			}
		})
	}
}
