package worker

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
)

// watchfulAfter is a shorter time than a fleet's, and longer than a busy machine stalls.
const watchfulAfter = 6 * time.Second

// watchful is a process that judges others dead after watchfulAfter.
func (h *harness) watchful() *book {
	return newBook(storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: watchfulAfter}}))
}

// Redis' clock is set while workers call: no live call is judged dead, and the request of a
// process that died before the clock went back is recovered.
func TestWorker_SurvivesStepsOfRedisClock(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{8 * time.Second, 20 * time.Second, 24 * time.Hour, -8 * time.Second, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			t.Parallel()
			own, clock := redistest.StartWithClock(t)
			h := newHarnessOn(t, own, hang("A-*"))
			dead := h.watchful()
			h.Must(dead.Join(t.Context()))
			died := h.accept("dead")
			h.dequeue(request.Interactive)
			h.marked(dead, died)
			lives := func() { h.Must(dead.Fleet.Heartbeat(t.Context(), []string{died.String()})) }
			lives()

			const calls = 8
			for range 2 {
				h.run(h.newWorker(h.watchful(), h.faceki, h.cfg, func(s *stores) { s.recovery.Pause = 20 * time.Millisecond }))
			}
			for i := range calls {
				h.accept(fmt.Sprint("A-", i))
			}
			h.Eventually("all are being called", func() bool { return h.sim.State().InFlight == calls })
			for judging := time.Now().Add(watchfulAfter + time.Second); time.Now().Before(judging); { // then the workers may judge others
				<-time.After(250 * time.Millisecond)
				lives()
			}
			h.expect("dead", request.Calling, 1, 0)
			h.Must(clock.Set(step))
			h.Eventually("what died is recovered", func() bool { return h.record("dead").State == request.Created })
			h.expect("dead", request.Created, 2, 1)
			for judging := time.Now().Add(watchfulAfter + time.Second); time.Now().Before(judging); { // and again
				<-time.After(250 * time.Millisecond)
				for i := range calls {
					r := h.expect(fmt.Sprint("A-", i), request.Calling, 1, 0)
					if state := h.taskState(request.Interactive, r.Ref()); state != "active" {
						t.Fatalf("the task of %s is %q while its handler lives", r.ApplicationID, state)
					}
				}
			}
			h.Must(h.sim.SetScript(simulator.Script{}))
			h.sim.Release()
			for i := range calls {
				h.created(fmt.Sprint("A-", i))
				h.calls(fmt.Sprint("A-", i), 1)
			}
		})
	}
}
