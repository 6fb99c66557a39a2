package worker

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

// A 4xx of a proxy or a firewall says nothing of a request: none of them fails, and the
// gate says what answered.
func TestAPageOfSomethingElseFailsNoRequest(t *testing.T) {
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
			b := newBench(t, simulator.Script{})
			b.rate(100)
			p := b.start(b.book(), b.faceki)
			b.accept("A-1")
			b.created("A-1") // which needs a token
			script, err := simulator.ParseScript([]byte(`{"outage":` + name + `}`))
			b.must(err)
			b.must(b.sim.SetScript(script))
			const rows = 25
			b.batch("row", rows)
			b.closes("refused")
			b.eventually("no call is out", func() bool { return b.status().Calls == 0 })
			if got := b.tally("row", rows); got[request.Failed] != 0 || got[request.Held] != 0 || got[request.Created] != 0 {
				t.Errorf("%v", got)
			}
			if gate := b.status().Gate; !strings.Contains(gate.Message, message) || !strings.Contains(gate.Message, "FACEKI_BASE_URL") {
				t.Errorf("the gate's message is %q", gate.Message)
			}
			if n := b.sim.State().LinkCalls - 1; n > b.cfg.Slots+10 {
				t.Errorf("%d calls were made", n)
			}
			b.must(b.sim.SetScript(simulator.Script{}))
			b.must(b.account().Resume(t.Context()))
			b.allCreated("row", rows)
			b.must(p.stop())
			if s := b.sim.State(); s.SeveralLinks != 0 {
				t.Errorf("FaceKi saw %+v", s.Counts)
			}
		})
	}
}

// A code of 0 in an error says nothing, and the status counts: no request is held.
func TestCodeZeroInAnErrorIsNoLink(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{Rules: []simulator.Rule{
		{Match: "busy-*", Fault: simulator.Fault{Name: "http_503", Envelope: "zero"}, Times: 1},
		{Match: "wrong-*", Fault: simulator.Fault{Name: "http_422", Envelope: "zero"}},
		{Match: "token-*", Fault: simulator.Fault{Name: "http_401", Envelope: "zero"}, Times: 1},
	}})
	b.rate(100)
	p := b.start(b.book(), b.faceki)
	for _, id := range []string{"busy-1", "wrong-1"} {
		b.accept(id)
	}
	b.created("busy-1")
	b.eventually("the wrong one failed", func() bool { return b.record("wrong-1").State == request.Failed })
	if r := b.expect("wrong-1", request.Failed, 1, 0); r.Outcome.Reason != "invalid_request" || !strings.Contains(r.Outcome.Message, "simulated fault") {
		t.Errorf("%+v", r.Outcome)
	}
	b.expect("busy-1", request.Created, 2, 0)
	b.accept("token-1")
	b.eventually("the token was renewed, or its request goes on", func() bool { return b.record("token-1").Attempts > 0 })
	if r := b.record("token-1"); r.State == request.Held || r.PossibleDuplicates != 0 {
		t.Errorf("%+v", r)
	}
	b.must(p.stop())
}
