package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// fail stores interactive requests that have failed.
func (s *harness) fail(ids ...string) {
	s.Helper()
	records := make([]request.Record, len(ids))
	at := time.Now().Add(-time.Minute)
	for i, id := range ids {
		records[i] = request.Record{
			ApplicationID: id, State: request.Failed, Lane: request.Interactive, Generation: 1, Run: 1, Attempts: 1, AcceptedAt: at, ChangedAt: at,
			Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "timeout", EndedAt: at},
		}
	}
	s.Must(s.ledger.Requests.Restore(s.Context(), "spring", records))
}

func TestRetryLink_StartsTheNextRunOfAFailedRequest(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.fail("A-1")
	s.expect(s.send("POST", "/v1/links/A-1/retry", "", "Authorization", "Bearer read,enqueue"), http.StatusForbidden, "forbidden")
	s.expect(s.send("POST", "/v1/links/A-2/retry", ""), http.StatusNotFound, "not_found")
	l := decode[unendedLink](t, s.expect(s.send("POST", "/v1/links/A-1/retry", ""), http.StatusAccepted, ""))
	if l.Status != tasks.Queued || l.Run != 2 || l.Diagnosis == nil {
		t.Errorf("got %+v, want run 2 queued with a diagnosis", l)
	}
	s.expect(s.send("POST", "/v1/links/A-1/retry", ""), http.StatusConflict, "wrong_state")
	if got := s.trail.actions(); !slices.Equal(got, []string{"failed.retry A-1"}) {
		t.Errorf("the audit trail has %q, want only the retry that was made", got)
	}
	s.startWorker(simulator.Script{}, 1000)
	s.Eventually("the retried request has its link", func() bool {
		return link(t, s.send("GET", "/v1/links/A-1", "")).Status == tasks.Created
	})
	s.expect(s.send("POST", "/v1/links/A-1/retry", ""), http.StatusConflict, "wrong_state")
	s.expect(s.send("POST", "/v1/links/A-1/retry?generation=1", ""), http.StatusBadRequest, "invalid")
}

func TestRetryAndDropLink_ApplyToHeldRequests(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	sim := s.startWorker(simulator.Script{Rules: []simulator.Rule{{Match: "odd-*", Fault: simulator.Fault{Name: "no_url"}}}}, 1000)
	for _, id := range []string{"odd-1", "odd-2"} {
		s.settled(`{"application_id":"` + id + `","metadata":{"customer":"42"}}`)
	}
	a := s.expect(s.send("POST", "/v1/links/odd-1/retry", "", "Authorization", "Bearer operate"), http.StatusAccepted, "")
	if l := link(t, a); l.Metadata != nil || l.Status == tasks.Held {
		t.Errorf("got %+v, want a link that is not held, without the metadata that the key may not read", l)
	}
	s.Eventually("the held request is called again", func() bool { return sim.Application("odd-1").Calls > 1 })
	dropped := link(t, s.expect(s.send("POST", "/v1/links/odd-2/drop", ""), http.StatusOK, ""))
	if dropped.Status != tasks.Cancelled {
		t.Errorf("got %+v, want cancelled", dropped)
	}
	s.expect(s.send("POST", "/v1/links/odd-2/drop", ""), http.StatusConflict, "wrong_state")
	if got := s.trail.actions()[2:]; !slices.Equal(got, []string{"held.retry odd-1", "held.drop odd-2"}) {
		t.Errorf("the audit trail has %q", got)
	}
}

func TestDropLink_HidesAFailedRequest(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.fail("A-1", "A/2")
	for range 2 {
		if l := link(t, s.expect(s.send("POST", "/v1/links/A%2F2/drop", ""), http.StatusOK, "")); l.Status != tasks.Failed {
			t.Errorf("got %+v, want it to stay failed", l)
		}
	}
	page := decode[linkPage](t, s.expect(s.send("GET", "/v1/links?status=failed", ""), http.StatusOK, ""))
	if len(page.Links) != 1 || page.Links[0].ApplicationID != "A-1" {
		t.Errorf("the list has %+v, want only A-1", page.Links)
	}
	s.expect(s.send("POST", "/v1/links/A%2F2/retry", ""), http.StatusAccepted, "")
}

func TestHistory_HasRunsGenerationsDeliveriesAndTheDiagnosis(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("GET", "/v1/links/A-1/history", ""), http.StatusNotFound, "not_found")
	s.fail("A-1")
	s.expect(s.send("POST", "/v1/links/A-1/retry", ""), http.StatusAccepted, "")
	history := func() operator.History {
		t.Helper()
		return decode[operator.History](t, s.expect(s.send("GET", "/v1/links/A-1/history", ""), http.StatusOK, ""))
	}
	if h := history(); h.Diagnosis == nil || h.Diagnosis.Code != "no_worker" || len(h.Runs) != 1 || h.Runs[0].Reason != "timeout" {
		t.Errorf("while it waits: got %+v, want the diagnosis no_worker and the failed run", h)
	}
	s.startWorker(simulator.Script{}, 1000)
	s.Eventually("the link is created", func() bool { return history().Status == tasks.Created })
	s.settled(`{"application_id":"A-1","generation":2}`)
	if h := history(); h.Generation != 2 || len(h.Generations) != 1 || h.URL == "" || h.Generations[0].URL == "" || h.Diagnosis != nil {
		t.Errorf("got %+v, want two generations with their URLs", h)
	}
	for _, scopes := range []string{"enqueue", "operate"} {
		s.expect(s.send("GET", "/v1/links/A-1/history", "", "Authorization", "Bearer "+scopes), http.StatusForbidden, "forbidden")
	}
}

func TestReplayLink_PublishesTheEndsOfARequest(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/links/A-1/replay", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	s.expect(s.send("POST", "/v1/links/A-1/replay", ""), http.StatusConflict, "wrong_state")
	s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusOK, "")
	a := s.expect(s.send("POST", "/v1/links/A-1/replay", ""), http.StatusOK, "")
	if got := decode[replayed](t, a); got.Published != 1 {
		t.Errorf("got %+v, want one event", got)
	}
	events, err := s.Redis.XRange(t.Context(), s.Keys.Results(), "-", "+").Result()
	s.Must(err)
	if len(events) != 2 || events[1].Values["id"] != events[0].Values["id"] || events[1].Values["replay"] != "1" {
		t.Errorf("the stream has %v, want the event and its replay", events)
	}
	if got := s.trail.actions(); got[len(got)-1] != "results.replay A-1" {
		t.Errorf("the audit trail has %q", got)
	}
}

func TestReplayLink_RefusesWhileAGroupIsBehind(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusOK, "")
	s.Must(s.Redis.HSet(t.Context(), s.Keys.State(), "results_cap", 2).Err())
	s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), "billing", "0").Err())
	s.Must(s.Redis.XAdd(t.Context(), &redis.XAddArgs{Stream: s.Keys.Results(), Values: []string{"id", "x"}}).Err())
	a := s.expect(s.send("POST", "/v1/links/A-1/replay", ""), http.StatusServiceUnavailable, "unavailable")
	if p := decode[problem](t, a); !strings.Contains(p.Detail, `group "billing" has 2 events`) || a.Header.Get("Retry-After") == "" {
		t.Errorf("got %+v, want the group and when to try again", p)
	}
	if n := s.Redis.XLen(t.Context(), s.Keys.Results()).Val(); n != 2 {
		t.Errorf("the stream has %d events, want no replay", n)
	}
}
