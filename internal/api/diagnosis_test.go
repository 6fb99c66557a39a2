package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/batch"
)

func TestAccepted_SaysWhatTheLinkWaitsFor(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	alive := false
	diagnosis := func(body string) string {
		t.Helper()
		if alive {
			s.Must(s.ledger.Fleet.Heartbeat(t.Context(), nil))
		}
		accepted := decode[unendedLink](t, s.expect(s.send("POST", "/v1/links", body), http.StatusAccepted, ""))
		if accepted.Diagnosis == nil {
			return "" // it was not read in time
		}
		return accepted.Diagnosis.Text
	}
	const body = `{"application_id":"A-1"}`
	s.Eventually("no worker is running", func() bool { return strings.HasPrefix(diagnosis(body), "No worker is running for account") })
	s.Must(s.ledger.Fleet.Join(t.Context()))
	alive = true
	s.Must(s.api.account.Pause(t.Context(), "ann", ""))
	s.Eventually("the answer names the pause", func() bool { return strings.Contains(diagnosis(body), "An operator paused the account") })
	s.Must(s.api.account.Resume(t.Context()))
	s.Eventually("it is about to be called", func() bool { return diagnosis(body) == "The request is about to be called." })

	s.expect(s.send("POST", "/v1/batches?batch=spring", "application_id\nB-1\n", "Content-Type", "text/csv"), http.StatusOK, "")
	b, _, err := s.ledger.Batches.ByName(t.Context(), "spring")
	s.Must(err)
	s.Must(s.ledger.Batches.Control(t.Context(), b, batch.Pause))
	s.Eventually("its batch is paused", func() bool {
		return diagnosis(`{"application_id":"B-1","lane":"bulk"}`) == `Batch "spring" is paused by an operator; 1 request waits.`
	})
}
