package worker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestPipeline_MakesALinkOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	p := h.joined(h.book(), h.faceki)
	for range 3 { // asynq runs a task again if its acknowledgement was lost
		if err := p.process(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	r := h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
	if links := h.sim.Application("A-1").Links; r.Outcome.URL != links[0].URL || r.Outcome.LinkID != links[0].LinkID {
		t.Errorf("recorded %+v, made %+v", r.Outcome, links[0])
	}
}

func TestPipeline_SettlesFaultsByScope(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault      simulator.Fault
		state      request.State
		reason     fault.Reason
		duplicates int
		delay      time.Duration // at least, if it runs again
	}{
		{simulator.Fault{Name: "code_5002"}, request.Failed, fault.InvalidRequest, 0, 0},
		{simulator.Fault{Name: "http_500"}, request.Queued, fault.UpstreamError, 1, 0},
		{simulator.Fault{Name: "http_503"}, request.Queued, fault.UpstreamUnavailable, 0, 0},
		{simulator.Fault{Name: "reset_after"}, request.Queued, fault.Connection, 1, 0},
		{simulator.Fault{Name: "truncated"}, request.Queued, fault.UnreadableAnswer, 1, 0},
		{simulator.Fault{Name: "code_5003"}, request.Queued, fault.NoCredit, 0, 0},
		{simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(40 * time.Second)}, request.Queued, fault.Throttled, 0, 40 * time.Second},
		{simulator.Fault{Name: "no_url"}, request.Held, fault.UnusableAnswer, 1, 0},
		{simulator.Fault{Name: "foreign_url"}, request.Held, fault.UnusableAnswer, 1, 0},
	} {
		t.Run(tt.fault.Name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: tt.fault}}})
			ref := h.accept("A-1")
			err := h.joined(h.book(), h.faceki).process(t.Context(), ref)
			delay, again := isLater(err)
			if again != (tt.state == request.Queued) || delay < tt.delay || err != nil && !again {
				t.Errorf("the task ends with %v, to run after %s", err, delay)
			}
			r := h.expect("A-1", tt.state, 1, tt.duplicates)
			if r.Outcome.Reason != string(tt.reason) {
				t.Errorf("the reason is %q, want %q", r.Outcome.Reason, tt.reason)
			}
			h.calls("A-1", 1)
		})
	}
}

// A call that was not sent in time after its grant is admitted again at once.
func TestPipeline_CountsNoAttemptForAnInterruptedCall(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	tries := 0
	p := h.joined(h.book(), stub{create: func(_ context.Context, a Attempt) (Link, *Fault) {
		if a.Number != 1 {
			t.Errorf("attempt %d", a.Number)
		}
		if tries++; tries < 3 {
			return Link{}, &Fault{Kind: Interrupted}
		}
		return Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}, nil
	}})
	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 1, 0)
	if tries != 3 {
		t.Errorf("tried %d times", tries)
	}
}

func TestPipeline_RenewsARefusedTokenAtOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	p := h.joined(h.book(), h.faceki)
	h.Must(p.process(t.Context(), h.accept("A-1")))
	h.sim.Revoke()
	h.ahead.Store(int64(time.Minute)) // otherwise it would be renewed too soon after the first
	h.Must(p.process(t.Context(), h.accept("A-2")))
	h.expect("A-2", request.Created, 2, 0)
	if got := h.sim.State().TokenRequests; got != 2 {
		t.Errorf("%d tokens were asked for, want 2", got)
	}

	// It is revoked soon after: the next one is requested when that is allowed, and the call
	// is repeated, while the gate stays open.
	h.sim.Revoke()
	taken := make(chan error)
	go func() { taken <- p.process(t.Context(), h.accept("A-3")) }()
	h.Eventually("it was refused", func() bool { return h.sim.State().Faults["unauthorized"] == 2 })
	h.Eventually("it waits", func() bool { r := h.record("A-3"); return r.State == request.Queued && r.Attempts == 1 })
	if got := h.sim.State().TokenRequests; got != 2 {
		t.Errorf("%d tokens were asked for, want 2", got)
	}
	h.ahead.Store(int64(2 * time.Minute))
	h.Must(<-taken)
	h.expect("A-3", request.Created, 2, 0)
	if s := h.status(); h.sim.State().TokenRequests != 3 || len(s.History) != 0 {
		t.Errorf("%d tokens were asked for; the gate is %+v", h.sim.State().TokenRequests, s)
	}

	// If a new token is refused too, the credentials are refused.
	h.Must(h.sim.SetScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_401"}}}}))
	h.ahead.Store(int64(4 * time.Minute))
	if _, again := isLater(p.process(t.Context(), h.accept("A-4"))); !again {
		t.Error("it does not run again")
	}
	h.expect("A-4", request.Queued, 2, 0)
	if s := h.status(); h.sim.State().TokenRequests != 4 || s.Gate.Reason != "refused" || !strings.Contains(s.Gate.Message, "HTTP 401") {
		t.Errorf("%d tokens were asked for; the gate is %+v", h.sim.State().TokenRequests, s.Gate)
	}
}

func TestPipeline_CountsNoAttemptWithoutAToken(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{TokenFault: &simulator.Fault{Name: "http_503", RetryAfter: simulator.Duration(50 * time.Second)}})
	ref := h.accept("A-1")
	if delay, again := isLater(h.joined(h.book(), h.faceki).process(t.Context(), ref)); !again || delay < 50*time.Second {
		t.Errorf("runs again after %s, FaceKi asked for 50 s", delay)
	}
	h.expect("A-1", request.Queued, 0, 0)
}

func TestPipeline_CallsOnceWithTwoHandlers(t *testing.T) {
	t.Parallel()
	h := newHarness(t, hang("*"))
	ref := h.accept("A-1")
	p := h.joined(h.book(), h.faceki)
	first := make(chan error, 1)
	go func() { first <- p.process(t.Context(), ref) }()
	h.Eventually("a call is under way", func() bool { return h.sim.State().InFlight == 1 })
	if delay, again := isLater(p.process(t.Context(), ref)); !again || delay != busyDelay {
		t.Errorf("the second handler is to look again after %s", delay)
	}
	// Another process finds it busy as well.
	if delay, again := isLater(h.joined(h.book(), h.faceki).process(t.Context(), ref)); !again || delay != busyDelay {
		t.Errorf("the other process is to look again after %s", delay)
	}
	h.sim.Release()
	h.Must(<-first)
	h.Must(p.process(t.Context(), ref))
	h.expect("A-1", request.Created, 1, 0)
	h.calls("A-1", 1)
}

// orphan returns a request whose process died during its call, and a pipeline of another
// process.
func (h *harness) orphan(id string) (request.Ref, *pipeline) {
	h.Helper()
	ref := h.accept(id)
	dead := h.book()
	h.Must(dead.Join(h.Context()))
	_, err := dead.Admit(h.Context(), attempt.Query{Ref: ref})
	h.Must(err)
	h.Must(dead.Fleet.Leave(h.Context()))
	return ref, h.joined(h.judge(), h.faceki)
}

// judge is a process that judges others dead almost at once.
func (h *harness) judge() *book {
	return newBook(storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}}))
}

func TestPipeline_CountsAPossibleDuplicateAfterADeadProcess(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref, p := h.orphan("A-1")
	h.Eventually("it is taken", func() bool { return p.process(t.Context(), ref) == nil })
	h.expect("A-1", request.Created, 2, 1)
	h.calls("A-1", 1)
}

func TestPipeline_CancelsAfterADeadProcess(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref, p := h.orphan("A-1")
	_, err := p.settle.ends.Cancel(t.Context(), h.record("A-1"))
	h.Must(err)
	h.Eventually("it is taken", func() bool { return p.process(t.Context(), ref) == nil })
	h.expect("A-1", request.Cancelled, 1, 1)
	h.calls("A-1", 0)
}

func TestPipeline_EndsExpiredAndStaleTurnsWithoutACall(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	p := h.joined(h.book(), h.faceki)
	soon := time.Now().Add(5 * time.Second) // until then the request is accepted
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", NotAfter: soon})
	h.Must(err)
	ref := h.record("A-1").Ref()
	h.Eventually("its time has passed", func() bool { return time.Now().After(soon.Add(10 * time.Millisecond)) })
	h.Must(p.process(t.Context(), ref))
	if r := h.expect("A-1", request.Failed, 0, 0); r.Outcome.Reason != string(fault.NotAfter) {
		t.Errorf("the reason is %q", r.Outcome.Reason)
	}
	h.Must(p.process(t.Context(), request.Ref{ApplicationID: "nobody", Generation: 1, Run: 1}))
	h.calls("A-1", 0)
}

func TestWorker_EndsWhenTheAccountIsOfTheOtherKind(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	p := h.start(h.book(), h.faceki)
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "upstream", "real").Err())
	h.accept("A-1")
	var wrong *fleet.UpstreamError
	if err := p.wait(); !errors.As(err, &wrong) {
		t.Errorf("the worker ends with %v", err)
	}
	if err := h.start(h.book(), h.faceki).wait(); !errors.As(err, &wrong) {
		t.Errorf("another worker starts, and ends with %v", err)
	}
	h.expect("A-1", request.Queued, 0, 0)
}
