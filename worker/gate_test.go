package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

// These are of the whole: FaceKi gets worse, and well again.

func (b *bench) status() admission.Status {
	b.t.Helper()
	s, err := admission.Read(b.t.Context(), b.rdb, b.keys)
	b.must(err)
	return s
}

func (b *bench) closes(reason string) {
	b.t.Helper()
	b.eventually("the gate is closed: "+reason, func() bool {
		gate := b.status().Gate
		return gate.State == "closed" && gate.Reason == reason
	})
}

// tally counts the requests prefix-0 to prefix-(n-1) by their states.
func (b *bench) tally(prefix string, n int) map[request.State]int {
	b.t.Helper()
	counts := map[request.State]int{}
	for i := range n {
		counts[b.record(fmt.Sprintf("%s-%d", prefix, i)).State]++
	}
	return counts
}

func (b *bench) allCreated(prefix string, n int) {
	b.t.Helper()
	b.eventually("all have their links", func() bool { return b.sim.State().Links >= n && b.tally(prefix, n)[request.Created] == n })
}

// outage begins with a token and a link in hand, and ends when the gate is closed.
func (b *bench) outage(processes, rows int) (calls int) {
	b.t.Helper()
	b.rate(50)
	b.accept("A-1")
	b.created("A-1")
	b.must(b.sim.SetScript(simulator.Script{Outage: &simulator.Fault{Name: "http_503"}}))
	b.batch("row", rows)
	b.closes("outage")
	if message := b.status().Gate.Message; !strings.Contains(message, "HTTP 503") {
		b.t.Errorf("the gate's message is %q", message)
	}
	b.eventually("no call is out", func() bool { return b.sim.State().InFlight == 0 && b.status().Calls == 0 })
	calls = b.sim.State().LinkCalls - 1
	if calls < 5 || calls > 5+processes*b.cfg.Slots {
		b.t.Errorf("the gate closed after %d calls", calls)
	}
	return calls
}

func TestAnOutageEndsByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.cfg.Slots = 3
	p := b.start(b.book(), b.faceki)
	const rows = 40
	b.outage(1, rows)
	before := b.sim.State()
	b.must(b.sim.SetScript(simulator.Script{}))
	b.accept("A-2") // meets it closed
	b.created("A-2")
	b.allCreated("row", rows)
	b.must(p.stop())
	after := b.sim.State()
	if after.Links != rows+2 || after.SeveralLinks != 0 || after.TokenRequests != before.TokenRequests {
		t.Errorf("FaceKi saw %+v", after.Counts)
	}
	if calls := after.LinkCalls - before.LinkCalls; calls != rows+1 {
		t.Errorf("%d calls for the %d links that were left", calls, rows+1)
	}
	if n := b.record("A-2").Attempts; n != 1 {
		t.Errorf("a signup behind the closed gate took %d attempts", n)
	}
}

func TestAnOutageCostsProbesOnly(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.cfg.Slots = 3
	k := b.book()
	one, two := b.start(k, b.faceki), b.start(b.book(), b.faceki)
	const rows = 30
	calls := b.outage(2, rows)
	for probe := range 2 {
		b.must(b.account().Resume(t.Context())) // a person lets it be probed now
		b.eventually("it is probed", func() bool { return b.sim.State().LinkCalls-1 > calls+probe })
		waits := k.waits.Load()
		b.eventually("they wait on", func() bool { return k.waits.Load() > waits })
		b.closes("outage")
		if got := b.sim.State().LinkCalls - 1; got != calls+probe+1 {
			t.Errorf("%d calls after %d probes and %d calls before", got, probe+1, calls)
		}
	}
	if s := b.sim.State(); s.Links != 1 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	if got := b.tally("row", rows); got[request.Queued] != rows {
		t.Errorf("%v", got)
	}
	b.quickly(one)
	b.quickly(two)
}

func TestCredentialsThatAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	k := b.bookOf("wrong")
	wrong := b.start(k, b.shop("forgotten"))
	const rows = 20
	b.batch("row", rows)
	b.accept("A-1")
	b.eventually("they are refused", func() bool { return len(b.status().Refused) == 1 })
	b.eventually("the rows wait", func() bool { return k.waits.Load() > 2 })
	if s := b.sim.State(); s.LinkCalls != 0 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	if s := b.status(); s.Gate.Reason != "refused" || s.Refused[0].Credential != "wrong" {
		t.Errorf("the gate is %+v, refused are %v", s.Gate, s.Refused)
	}
	for i := range rows {
		if r := b.record(fmt.Sprintf("row-%d", i)); r.Attempts != 0 || r.State == request.Failed {
			t.Errorf("%s is %s after %d attempts", r.ApplicationID, r.State, r.Attempts)
		}
	}
	right := b.start(b.book(), b.faceki) // beside it, as in a rollout
	b.quickly(wrong)
	b.allCreated("row", rows)
	b.created("A-1")
	b.expect("A-1", request.Created, 1, 0)
	for i := range rows {
		b.expect(fmt.Sprintf("row-%d", i), request.Created, 1, 0)
	}
	b.must(right.stop())
	if s := b.status(); s.Gate.State != "open" {
		t.Errorf("the gate is %+v", s.Gate)
	}
}

func TestNoCreditFailsNoRequest(t *testing.T) {
	t.Parallel()
	credit := 7
	b := newBench(t, simulator.Script{Credit: &credit})
	b.rate(100)
	p := b.start(b.book(), b.faceki)
	const rows = 25
	b.batch("row", rows)
	b.closes("no_credit")
	b.eventually("no call is out", func() bool { return b.status().Calls == 0 })
	if got := b.tally("row", rows); got[request.Created] != credit || got[request.Failed] != 0 || b.sim.State().LinkCalls > credit+b.cfg.Slots+10 {
		t.Errorf("%v after %d calls", got, b.sim.State().LinkCalls)
	}
	b.sim.TopUp(rows)
	b.must(b.account().Resume(t.Context())) // a person need not wait for the next probe
	b.allCreated("row", rows)
	b.must(p.stop())
}

func TestAPauseIsAPause(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.must(b.account().Pause(t.Context()))
	k := b.book()
	p := b.start(k, b.faceki)
	const rows = 10
	b.batch("row", rows)
	b.accept("A-1")
	b.eventually("both lanes wait", func() bool { return k.waits.Load() > 3 })
	if s := b.sim.State(); s.LinkCalls != 0 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	b.must(b.account().Resume(t.Context()))
	begun := time.Now()
	b.created("A-1")
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("a signup went on %s after the pause", took)
	}
	b.allCreated("row", rows)

	b.must(b.account().Pause(t.Context()))
	b.accept("A-2")
	waits := k.waits.Load()
	b.eventually("it waits", func() bool { return k.waits.Load() > waits })
	b.quickly(p)
	b.expect("A-2", request.Queued, 0, 0)
	b.calls("A-2", 0)
}
