package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/batch"
)

// Whoever gets a 202 is told what the link waits for.
func TestAcceptedSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	s := open(t)
	alive := false
	why := func(body string) string {
		t.Helper()
		if alive {
			s.Must(s.ledger.Fleet.Heartbeat(t.Context(), nil))
		}
		return decoded[unendedLink](t, s.expect(s.ask("POST", "/v1/links", body), http.StatusAccepted, "")).Diagnosis
	}
	const asked = `{"application_id":"A-1"}`
	if got := why(asked); !strings.HasPrefix(got, "no worker is running for account") {
		t.Errorf("without a worker: %q", got)
	}
	s.Must(s.ledger.Fleet.Join(t.Context()))
	alive = true
	s.Must(s.api.account.Pause(t.Context()))
	s.Eventually("the pause is named", func() bool { return strings.Contains(why(asked), "is paused since") })
	s.Must(s.api.account.Resume(t.Context()))
	s.Eventually("nothing is named", func() bool { return why(asked) == "" })

	s.expect(s.ask("POST", "/v1/batches?batch=spring", "application_id\nB-1\n", "Content-Type", "text/csv"), http.StatusOK, "")
	b, _, err := s.ledger.Batches.Named(t.Context(), "spring")
	s.Must(err)
	s.Must(s.ledger.Batches.Control(t.Context(), b, batch.Pause))
	if got := why(`{"application_id":"B-1","lane":"bulk"}`); got != `batch "spring" is paused; kyclink batch resume spring continues it` {
		t.Errorf("in a paused batch: %q", got)
	}
}
