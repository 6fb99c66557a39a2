package worker

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

// A 4xx of a proxy or a firewall fails no request; the gate says what answered.
func TestPipeline_FailsNoRequestForAnAnswerThatIsNotFaceKis(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{
		`{"fault":"http_400","envelope":"html"}`:  `HTTP 400: an HTML page titled "Access denied"`,
		`{"fault":"http_422","envelope":"proxy"}`: "HTTP 422",
		`{"fault":"http_413","envelope":"empty"}`: "HTTP 413",
		`{"fault":"http_404","envelope":"login"}`: `HTTP 404: a login page titled "Sign in"`,
		`"redirect"`: "HTTP 302: a redirect",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{})
			h.rate(100)
			p := h.start(h.book(), h.faceki)
			h.accept("A-1")
			h.created("A-1") // which needs a token
			script, err := simulator.ParseScript([]byte(`{"outage":` + name + `}`))
			h.Must(err)
			h.Must(h.sim.SetScript(script))
			const rows = 25
			h.batch("row", rows)
			h.closes("refused")
			h.Eventually("no call is out", func() bool { return h.status().Calls == 0 })
			if got := h.count("row", rows); got[request.Failed] != 0 || got[request.Held] != 0 || got[request.Created] != 0 {
				t.Errorf("%v", got)
			}
			if gate := h.status().Gate; !strings.Contains(gate.Message, message) || !strings.Contains(gate.Message, "FACEKI_BASE_URL") {
				t.Errorf("the gate's message is %q", gate.Message)
			}
			if n := h.sim.State().LinkCalls - 1; n > h.cfg.Calls.Concurrency+10 {
				t.Errorf("%d calls were made", n)
			}
			h.Must(h.sim.SetScript(simulator.Script{}))
			h.Must(h.account().Resume(t.Context()))
			h.allCreated("row", rows)
			h.Must(p.stop())
			if s := h.sim.State(); s.SeveralLinks != 0 {
				t.Errorf("FaceKi saw %+v", s.Counts)
			}
		})
	}
}

// With an error status, code 0 in the body is ignored: no request is held.
func TestPipeline_TakesCodeZeroInAnErrorForNoLink(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{Rules: []simulator.Rule{
		{Match: "busy-*", Fault: simulator.Fault{Name: "http_503", Envelope: "zero"}, Times: 1},
		{Match: "wrong-*", Fault: simulator.Fault{Name: "http_422", Envelope: "zero"}},
		{Match: "token-*", Fault: simulator.Fault{Name: "http_401", Envelope: "zero"}, Times: 1},
	}})
	h.rate(100)
	p := h.start(h.book(), h.faceki)
	for _, id := range []string{"busy-1", "wrong-1"} {
		h.accept(id)
	}
	h.created("busy-1")
	h.Eventually("the wrong one failed", func() bool { return h.record("wrong-1").State == request.Failed })
	if r := h.expect("wrong-1", request.Failed, 1, 0); r.Outcome.Reason != "invalid_request" || !strings.Contains(r.Outcome.Message, "simulated fault") {
		t.Errorf("%+v", r.Outcome)
	}
	h.expect("busy-1", request.Created, 2, 0)
	h.accept("token-1")
	h.Eventually("the token was renewed, or its request goes on", func() bool { return h.record("token-1").Attempts > 0 })
	if r := h.record("token-1"); r.State == request.Held || r.PossibleDuplicates != 0 {
		t.Errorf("%+v", r)
	}
	h.Must(p.stop())
}
