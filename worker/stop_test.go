package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

func TestWorkers_MakeEachLinkOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	const rows = 150
	h.batch("row", rows)
	one, two := h.start(h.book(), h.faceki), h.start(h.book(), h.faceki)
	for i := range 20 {
		h.accept(fmt.Sprintf("signup-%d", i))
	}
	h.Eventually("all have their links", func() bool { return h.sim.State().Links >= rows+20 })
	h.Must(one.stop())
	h.Must(two.stop())
	if s := h.sim.State(); s.Links != rows+20 || s.SeveralLinks != 0 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	for i := range rows {
		h.expect(fmt.Sprintf("row-%d", i), request.Created, 1, 0)
	}
	if n := h.Redis.ZCard(t.Context(), h.Keys.Workers()).Val(); n != 0 {
		t.Errorf("%d workers are on the list after all have left", n)
	}
}

func TestWorker_DrainsInFlightCalls(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("A-*"))
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.Eventually("a call is under way", func() bool { return h.sim.State().InFlight == 1 })
	p.cancel()
	<-p.session.Load().life.Draining()
	h.accept("B-1")
	h.sim.Release()
	h.Must(p.wait())
	h.expect("A-1", request.Created, 1, 0)
	h.expect("B-1", request.Queued, 0, 0)
	h.Must(h.start(h.book(), h.faceki).stopAfter(func() { h.created("B-1") }))
	h.calls("B-1", 1)
}

// stopAfter stops the worker when do has returned.
func (p *process) stopAfter(do func()) error {
	do()
	return p.stop()
}

func TestWorker_StopsAtOnceWhileWaitingForAToken(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{TokenFault: &simulator.Fault{Name: "hang"}})
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.Eventually("a token is asked for", func() bool { return h.sim.State().TokenRequests == 1 })
	h.quickly(p)
	h.expect("A-1", request.Queued, 0, 0)
	h.calls("A-1", 0)
}

// quickly stops a worker without calls in flight. One that waited as for a call would take
// longer than [process.stop] does.
func (h *harness) quickly(p *process) {
	h.Helper()
	begun := time.Now()
	h.Must(p.stop())
	h.Logf("stopped within %s", time.Since(begun))
}

func TestWorker_StopsAtOnceWhenIdle(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.created("A-1")
	h.quickly(p)
}

func TestWorker_StopsBeforeItHasStarted(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h.Must(h.newWorker(h.book(), h.faceki, h.cfg).Run(ctx))
}

func TestWorker_RetriesAfterAFault(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_503"}, Times: 1}}})
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.created("A-1")
	h.expect("A-1", request.Created, 2, 0)
	h.Must(p.stop())
}

func TestWorker_KeepsInteractiveSlotsFreeOfBulk(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("row-*"))
	h.cfg.Calls.Concurrency = 2
	h.batch("row", 10)
	p := h.start(h.book(), h.faceki)
	h.Eventually("bulk fills its slots", func() bool { return h.sim.State().InFlight == 2 })
	h.accept("A-1")
	h.created("A-1")
	if n := h.sim.State().InFlight; n != 2 {
		t.Errorf("%d bulk calls are under way", n)
	}
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.sim.Release()
	h.Must(p.stop())
}
