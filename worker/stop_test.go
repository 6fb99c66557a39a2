package worker

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

func TestTwoWorkersMakeOneLinkEach(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	const rows = 150
	b.batch("row", rows)
	one, two := b.start(b.book(), b.faceki), b.start(b.book(), b.faceki)
	for i := range 20 {
		b.accept(fmt.Sprintf("signup-%d", i))
	}
	b.eventually("all have their links", func() bool { return b.sim.State().Links >= rows+20 })
	b.must(one.stop())
	b.must(two.stop())
	if s := b.sim.State(); s.Links != rows+20 || s.SeveralLinks != 0 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	for i := range rows {
		b.expect(fmt.Sprintf("row-%d", i), request.Created, 1, 0)
	}
	if n := b.rdb.ZCard(t.Context(), b.keys.Workers()).Val(); n != 0 {
		t.Errorf("%d workers are on the list after all have left", n)
	}
}

func TestSoftStop(t *testing.T) {
	t.Parallel()
	b := newBench(t, hang("A-*"))
	p := b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.eventually("a call is under way", func() bool { return b.sim.State().InFlight == 1 })
	p.cancel()
	<-p.pipe.stopping.Done()
	b.accept("B-1")
	b.sim.Release()
	b.must(p.wait())
	b.expect("A-1", request.Created, 1, 0)
	b.expect("B-1", request.Queued, 0, 0)
	b.must(b.start(b.book(), b.faceki).stopAfter(func() { b.created("B-1") }))
	b.calls("B-1", 1)
}

// stopAfter stops the worker when do has returned.
func (p *process) stopAfter(do func()) error {
	do()
	return p.stop()
}

func TestStoppedWhileItWaitsForAToken(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{TokenFault: &simulator.Fault{Name: "hang"}})
	p := b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.eventually("a token is asked for", func() bool { return b.sim.State().TokenRequests == 1 })
	b.quickly(p)
	b.expect("A-1", request.Queued, 0, 0)
	b.calls("A-1", 0)
}

// quickly stops a worker that has nothing to see through.
func (b *bench) quickly(p *process) {
	b.t.Helper()
	begun := time.Now()
	b.must(p.stop())
	took := time.Since(begun)
	b.t.Logf("stopped within %s", took)
	if took > 2*time.Second {
		b.t.Errorf("stopping took %s", took)
	}
}

func TestAnIdleWorkerStopsAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	p := b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.created("A-1")
	b.quickly(p)
}

func TestStoppedBeforeItStarts(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.must(New(b.rdb, b.book(), b.faceki, b.cfg).Run(ctx))
}

func TestARetryComesByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_503"}, Times: 1}}})
	p := b.start(b.book(), b.faceki)
	b.accept("A-1")
	b.created("A-1")
	b.expect("A-1", request.Created, 2, 0)
	b.must(p.stop())
}

func TestBulkNeverHoldsAnInteractiveSlot(t *testing.T) {
	t.Parallel()
	b := newBench(t, hang("row-*"))
	b.cfg.Slots = 2
	b.batch("row", 10)
	p := b.start(b.book(), b.faceki)
	b.eventually("bulk fills its slots", func() bool { return b.sim.State().InFlight == 2 })
	b.accept("A-1")
	b.created("A-1")
	if n := b.sim.State().InFlight; n != 2 {
		t.Errorf("%d bulk calls are under way", n)
	}
	b.sim.Release()
	b.must(p.stop())
}
