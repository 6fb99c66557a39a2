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

// These tests run whole workers while FaceKi fails and recovers.

func (h *harness) status() admission.Status {
	h.Helper()
	s, err := admission.Read(h.Context(), h.Redis, h.Keys)
	h.Must(err)
	return s
}

func (h *harness) closes(reason string) {
	h.Helper()
	h.Eventually("the gate is closed: "+reason, func() bool {
		gate := h.status().Gate
		return gate.State == "closed" && gate.Reason == reason
	})
}

// count counts the requests prefix-0 to prefix-(n-1) by their states.
func (h *harness) count(prefix string, n int) map[request.State]int {
	h.Helper()
	counts := map[request.State]int{}
	for i := range n {
		counts[h.record(fmt.Sprintf("%s-%d", prefix, i)).State]++
	}
	return counts
}

func (h *harness) allCreated(prefix string, n int) {
	h.Helper()
	h.Eventually("all have their links", func() bool { return h.sim.State().Links >= n && h.count(prefix, n)[request.Created] == n })
}

// outage begins when a token and a link were obtained, and returns when the gate is closed.
func (h *harness) outage(processes, rows int) (calls int) {
	h.Helper()
	h.rate(50)
	h.accept("A-1")
	h.created("A-1")
	h.Must(h.sim.SetScript(simulator.Script{Outage: &simulator.Fault{Name: "http_503"}}))
	h.batch("row", rows)
	h.closes("outage")
	if message := h.status().Gate.Message; !strings.Contains(message, "HTTP 503") {
		h.Errorf("the gate's message is %q", message)
	}
	h.Eventually("no call is out", func() bool { return h.sim.State().InFlight == 0 && h.status().Calls == 0 })
	calls = h.sim.State().LinkCalls - 1
	if calls < 5 || calls > 5+processes*h.cfg.Calls.Concurrency {
		h.Errorf("the gate closed after %d calls", calls)
	}
	return calls
}

func TestGate_OpensByItselfAfterAnOutage(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.cfg.Calls.Concurrency = 3
	p := h.start(h.book(), h.faceki)
	const rows = 40
	h.outage(1, rows)
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.accept("A-2") // after the gate has closed
	h.created("A-2")
	h.allCreated("row", rows)
	h.Must(p.stop())
	after := h.sim.State()
	if after.Links != rows+2 || after.SeveralLinks != 0 || after.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", after.Counts)
	}
	if calls := after.LinkCalls - after.Faults["http_503"]; calls != rows+2 {
		t.Errorf("%d calls that were not refused for %d links", calls, rows+2)
	}
	if n := h.record("A-2").Attempts; n != 1 {
		t.Errorf("a signup behind the closed gate took %d attempts", n)
	}
}

func TestGate_AllowsOnlyProbesDuringAnOutage(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.cfg.Calls.Concurrency = 3
	k := h.book()
	one, two := h.start(k, h.faceki), h.start(h.book(), h.faceki)
	const rows = 30
	calls := h.outage(2, rows)
	begun := time.Now()
	for probe := range 2 {
		h.Must(h.account().Resume(t.Context())) // an operator has it probed now
		h.Eventually("it is probed", func() bool { return h.sim.State().LinkCalls-1 > calls+probe })
		waits := k.waits.Load()
		h.Eventually("they wait on", func() bool { return k.waits.Load() > waits })
		h.closes("outage")
		// Every 5 s, a probe is due without an operator.
		if got, least := h.sim.State().LinkCalls-1, calls+probe+1; got < least || got > least+int(time.Since(begun)/(5*time.Second)) {
			t.Errorf("%d calls after %d probes and %d calls before", got, probe+1, calls)
		}
	}
	if s := h.sim.State(); s.Links != 1 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	if got := h.count("row", rows); got[request.Queued] != rows {
		t.Errorf("%v", got)
	}
	h.quickly(one)
	h.quickly(two)
}

func TestGate_ClosesForRefusedCredentialsOnly(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	k := h.bookOf("wrong")
	wrong := h.start(k, h.shop("forgotten"))
	const rows = 20
	h.batch("row", rows)
	h.accept("A-1")
	h.Eventually("they are refused", func() bool { return len(h.status().Refused) == 1 })
	h.Eventually("the rows wait", func() bool { return k.waits.Load() > 2 })
	if s := h.sim.State(); s.LinkCalls != 0 || s.TokenRequests != 1 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	if s := h.status(); s.Gate.Reason != "refused" || s.Refused[0].Credential != "wrong" {
		t.Errorf("the gate is %+v, refused are %v", s.Gate, s.Refused)
	}
	for i := range rows {
		if r := h.record(fmt.Sprintf("row-%d", i)); r.Attempts != 0 || r.State == request.Failed {
			t.Errorf("%s is %s after %d attempts", r.ApplicationID, r.State, r.Attempts)
		}
	}
	right := h.start(h.book(), h.faceki) // beside it, as in a rollout
	h.quickly(wrong)
	h.allCreated("row", rows)
	h.created("A-1")
	h.expect("A-1", request.Created, 1, 0)
	for i := range rows {
		h.expect(fmt.Sprintf("row-%d", i), request.Created, 1, 0)
	}
	h.Must(right.stop())
	if s := h.status(); s.Gate.State != "open" {
		t.Errorf("the gate is %+v", s.Gate)
	}
}

func TestGate_KeepsRequestsWithoutCredit(t *testing.T) {
	t.Parallel()
	credit := 7
	h := newHarness(t, simulator.Script{Credit: &credit})
	h.rate(100)
	p := h.start(h.book(), h.faceki)
	const rows = 25
	h.batch("row", rows)
	h.closes("no_credit")
	h.Eventually("no call is out", func() bool { return h.status().Calls == 0 })
	if got := h.count("row", rows); got[request.Created] != credit || got[request.Failed] != 0 || h.sim.State().LinkCalls > credit+h.cfg.Calls.Concurrency+10 {
		t.Errorf("%v after %d calls", got, h.sim.State().LinkCalls)
	}
	h.sim.TopUp(rows)
	h.Must(h.account().Resume(t.Context())) // an operator need not wait for the next probe
	h.allCreated("row", rows)
	h.Must(p.stop())
}

func TestGate_SendsNothingWhilePaused(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.Must(h.account().Pause(t.Context(), "ann", ""))
	k := h.book()
	p := h.start(k, h.faceki)
	const rows = 10
	h.batch("row", rows)
	h.accept("A-1")
	h.Eventually("both lanes wait", func() bool { return k.waits.Load() > 3 })
	if s := h.sim.State(); s.LinkCalls != 0 {
		t.Errorf("FaceKi saw %+v", s.Counts)
	}
	h.Must(h.account().Resume(t.Context()))
	h.created("A-1")
	h.allCreated("row", rows)

	h.Must(h.account().Pause(t.Context(), "ann", ""))
	h.accept("A-2")
	waits := k.waits.Load()
	h.Eventually("it waits", func() bool { return k.waits.Load() > waits })
	h.quickly(p)
	h.expect("A-2", request.Queued, 0, 0)
	h.calls("A-2", 0)
}

// One worker at a low rate has as many calls in flight as the gate must see hang: it closes
// before they time out.
func TestGate_ClosesWhenTheFewCallsOfOneWorkerHang(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("*"))
	h.rate(2)
	h.cfg.Calls.Auto, h.cfg.Calls.Timeout = true, 5*time.Minute
	h.faceki = h.shop("hush")
	p := h.start(h.book(), h.faceki)
	for i := range 10 {
		h.accept(fmt.Sprint("A-", i))
	}
	h.closes("outage")
	if s := h.status(); s.Gate.Message != "" {
		t.Errorf("the gate closed after a call had ended: %s", s.Gate.Message)
	}
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.sim.Release()
	h.allCreated("A", 10)
	h.Must(p.stop())
}

// A single call that is not answered does not close the gate, but it is no sign of work.
func TestStatus_SaysHowLongFaceKiIsSilent(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("*"))
	h.cfg.Calls.Concurrency, h.cfg.Calls.Timeout = 1, 5*time.Minute
	h.faceki = h.shop("hush")
	p := h.start(h.book(), h.faceki)
	h.accept("A-1")
	h.Eventually("a call is under way", func() bool { return h.status().Calls == 1 })
	h.Eventually("FaceKi is silent", func() bool { return h.status().Silence >= 5*time.Second })
	if s := h.status(); s.Gate.State != "open" {
		t.Errorf("the gate is %s", s.Gate.State)
	}
	h.Must(h.sim.SetScript(simulator.Script{}))
	h.sim.Release()
	h.created("A-1")
	if s := h.status(); s.Silence != 0 {
		t.Errorf("FaceKi is silent for %s after an answer", s.Silence)
	}
	h.Must(p.stop())
}
