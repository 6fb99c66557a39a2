package api

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func link(t testing.TB, a answer) tasks.Link { t.Helper(); return decode[tasks.Link](t, a) }

func TestLinks_RepeatedRequestReturnsTheSameLink(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	const body = `{"application_id":"A-1","redirect_url":"https://shop.example/done","metadata":{"customer":"42"}}`
	first := s.expect(s.send("POST", "/v1/links", body), http.StatusAccepted, "")
	if l := link(t, first); l.Status != tasks.Queued || l.Lane != tasks.Interactive || first.Header.Get("Location") != "/v1/links/A-1" {
		t.Errorf("got %+v at %s, want it queued at /v1/links/A-1", l, first.Header.Get("Location"))
	}
	again := s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	if l := link(t, again); !reflect.DeepEqual(l, link(t, first)) {
		t.Errorf("the repeated request got %s, the first one %s", again.body, first.body)
	}
	conflict := s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1","redirect_url":"https://shop.example/other","metadata":{}}`),
		http.StatusConflict, "conflict")
	if p := decode[problem](t, conflict); !slices.Equal(p.Keys, []string{"redirect_url", "metadata"}) {
		t.Errorf("the conflict names %v", p.Keys)
	}
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1","generation":2}`), http.StatusConflict, "generation_gap")
	if n := s.Redis.ZCard(t.Context(), s.Keys.Queued(request.Interactive)).Val(); n != 1 {
		t.Errorf("%d requests are queued, want 1", n)
	}
	if got := s.trail.changes[0]; got.Key.ID != "id of "+allScopes || got.RequestID != first.Header.Get("X-Request-Id") || got.Action+got.Target != "links.requestA-1" {
		t.Errorf("got change %+v in the audit trail, want links.request A-1 with the key and request id", got)
	}
}

func TestLinks_PreferWaitReturnsTheOutcome(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	sim := s.startWorker(simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}}, {Match: "odd-*", Fault: simulator.Fault{Name: "no_url"}}}}, 1000)
	first := s.send("POST", "/v1/links", `{"application_id":"A-0"}`, "Prefer", "respond-async, WAIT=\"99\"; foo=bar")
	if got := first.Header.Get("Preference-Applied"); got != "wait=30" {
		t.Errorf("the preference that was applied is %q, want wait=30", got)
	}
	made := s.settled(`{"application_id":"A-1"}`)
	if made.URL == "" || made.URL != sim.Application("A-1").Links[0].URL {
		t.Errorf("got %+v, want the simulator's URL", made)
	}
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=5"), http.StatusOK, "")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusOK, "")
	if l := s.settled(`{"application_id":"bad-1"}`); l.Status != tasks.Failed || l.Reason != "invalid_request" {
		t.Errorf("a request that FaceKi refuses: got %+v, want failed", l)
	}
	if l := s.settled(`{"application_id":"odd-1"}`); l.Status != tasks.Held {
		t.Errorf("an answer without a URL: got %+v, want held", l)
	}
	if l := s.settled(`{"application_id":"A-1","generation":2}`); l.Generation != 2 || l.URL == made.URL {
		t.Errorf("the second generation: got %+v, want another URL", l)
	}
	old := s.expect(s.send("GET", "/v1/links/A-1?generation=1", ""), http.StatusOK, "")
	if l := link(t, old); l.URL != made.URL {
		t.Errorf("the first generation: got %+v, want URL %s", l, made.URL)
	}
	s.expect(s.send("GET", "/v1/links/A-1?generation=3", ""), http.StatusNotFound, "not_found")
}

// No worker runs, so that the answer is the state after the wait.
func TestLinks_PreferWaitEndsAfterItsTime(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	began := time.Now()
	a := s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=1"), http.StatusAccepted, "")
	if took := time.Since(began); took < time.Second || a.Header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("got an answer after %v with headers %v, want it after 1s with wait=1", took, a.Header)
	}
	for _, prefer := range []string{"wait=0", "wait", "wait=-1", "wait=soon", "handling=lenient", "wait=\""} {
		began := time.Now()
		a := s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", prefer), http.StatusAccepted, "")
		if took := time.Since(began); took >= maxWait || a.Header.Get("Preference-Applied") != "" {
			t.Errorf("Prefer %s: got an answer after %v with headers %v, want it without a wait", prefer, took, a.Header)
		}
	}
}

func TestDrain_AnswersWaitingClients(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	answered, began := make(chan answer, 1), time.Now()
	go func() {
		answered <- s.send("POST", "/v1/links", `{"application_id":"A-1"}`, "Prefer", "wait=30")
	}()
	s.Eventually("a client waits for the link", func() bool {
		s.api.stream.mu.Lock()
		defer s.api.stream.mu.Unlock()
		return len(s.api.stream.waiting) == 1
	})
	s.Eventually("the request is accepted", func() bool { _, err := s.Client.Get(t.Context(), "A-1"); return err == nil })
	s.stop()
	waited := time.Since(began)
	s.expect(<-answered, http.StatusAccepted, "")
	if waited >= maxWait {
		t.Errorf("draining ended %v after the client had begun to wait, want it sooner than the wait of %v", waited, maxWait)
	}
	if n := len(s.api.stream.waiting); n != 0 {
		t.Errorf("%d clients are still waiting, want none", n)
	}
}

func TestLinks_GetAnswersNotModifiedUntilTheLinkChanges(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("GET", "/v1/links/A%2F1", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A/1"}`), http.StatusAccepted, "")
	first := s.expect(s.send("GET", "/v1/links/A%2F1", ""), http.StatusOK, "")
	tag := first.Header.Get("ETag")
	for _, header := range []string{tag, "W/" + tag, `"x", ` + tag, "*"} {
		a := s.expect(s.send("GET", "/v1/links/A%2F1", "", "If-None-Match", header), http.StatusNotModified, "")
		if a.Header.Get("ETag") != tag || len(a.body) > 0 {
			t.Errorf("If-None-Match %s: got headers %v and body %q, want the ETag and no body", header, a.Header, a.body)
		}
	}
	s.expect(s.send("HEAD", "/v1/links/A%2F1", ""), http.StatusOK, "")
	s.expect(s.send("DELETE", "/v1/links/A%2F1", ""), http.StatusOK, "")
	if a := s.expect(s.send("GET", "/v1/links/A%2F1", "", "If-None-Match", tag), http.StatusOK, ""); a.Header.Get("ETag") == tag {
		t.Error("the ETag of the cancelled link is that of the queued one")
	}
	s.expect(s.send("GET", "/v1/links/A%2F1?generation=0", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("GET", "/v1/links/A%2F1?generatoin=1", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("GET", "/v1/links/"+strings.Repeat("x", 129), ""), http.StatusBadRequest, "invalid")
}

func TestLinks_DeleteCancelsUnlessTheCallWasSent(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
	for range 2 {
		a := s.expect(s.send("DELETE", "/v1/links/A-1", ""), http.StatusOK, "")
		if l := link(t, a); l.Status != tasks.Cancelled || l.Reason != "cancelled" {
			t.Errorf("got %+v, want cancelled", l)
		}
	}
	sim := s.startWorker(simulator.Script{Rules: []simulator.Rule{{Match: "slow-*", Fault: simulator.Fault{Name: "hang"}}}}, 1000)
	s.settled(`{"application_id":"A-2"}`)
	s.expect(s.send("DELETE", "/v1/links/A-2", ""), http.StatusConflict, "ended")
	s.expect(s.send("POST", "/v1/links", `{"application_id":"slow-1"}`), http.StatusAccepted, "")
	s.Eventually("the call of slow-1 is sent", func() bool { return sim.Application("slow-1").Calls > 0 })
	if l := link(t, s.expect(s.send("DELETE", "/v1/links/slow-1", ""), http.StatusAccepted, "")); l.Status != tasks.Calling {
		t.Errorf("delete while the call is in flight: got %+v, want calling", l)
	}
	if n := sim.Application("A-1").Calls; n != 0 {
		t.Errorf("the cancelled request was called %d times, want 0", n)
	}
}

// settled sends a new request and waits until it has ended or is held. It waits once more
// whenever the wait is over: on a slow machine the link may take longer.
func (s *harness) settled(body string, headers ...string) tasks.Link {
	s.Helper()
	for first := true; ; first = false {
		a := s.send("POST", "/v1/links", body, append(headers, "Prefer", "wait=30")...)
		if a.StatusCode >= http.StatusBadRequest {
			s.Fatalf("%s: got %d: %s", body, a.StatusCode, a.body)
		}
		l := link(s, a)
		if l.Status == tasks.Queued || l.Status == tasks.Calling {
			continue
		}
		want := http.StatusOK
		switch {
		case l.Status == tasks.Held:
			want = http.StatusAccepted
		case l.Status == tasks.Created && first:
			want = http.StatusCreated
		}
		if a.StatusCode != want {
			s.Errorf("%s: got %d with a request that is %s, want %d", body, a.StatusCode, l.Status, want)
		}
		return l
	}
}

func TestLinks_ManyWaitingClientsGetTheirOwnLinks(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	sim := s.startWorker(simulator.Script{}, 2000)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			id := fmt.Sprintf("A-%d", i)
			if l := s.settled(fmt.Sprintf(`{"application_id":%q}`, id)); l.Status != tasks.Created || l.ApplicationID != id || l.URL != sim.Application(id).Links[0].URL {
				t.Errorf("%s: got %+v, want its own link", id, l)
			}
		})
	}
	all.Wait()
}

// The requested rows are behind others of a paused batch, which counts them once.
func TestLinks_RequestPromotesARowOfAPausedBatch(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	var rows strings.Builder
	rows.WriteString("application_id\n")
	for i := range 250 {
		fmt.Fprintf(&rows, "B-%d\n", i)
	}
	s.expect(s.send("POST", "/v1/batches?batch=spring", rows.String(), "Content-Type", "text/csv"), http.StatusOK, "")
	s.expect(s.send("POST", "/v1/batches/spring/pause", ""), http.StatusOK, "")
	s.startWorker(simulator.Script{}, 1000)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if l := s.settled(fmt.Sprintf(`{"application_id":%q}`, fmt.Sprintf("B-%d", 200+i))); l.Status != tasks.Created || l.Lane != tasks.Interactive || l.Batch != "spring" {
				t.Errorf("B-%d: got %+v, want it created in the interactive lane", 200+i, l)
			}
		})
	}
	all.Wait()
	b := decode[batch.Batch](t, s.expect(s.send("GET", "/v1/batches/spring", ""), http.StatusOK, ""))
	if b.Status != batch.Paused || b.Rows != 250 || b.Counts[request.Created] != 20 || b.Counts[request.Waiting] != 230 {
		t.Errorf("got batch %+v, want it paused with 20 created and 230 waiting", b)
	}
	check, err := s.ledger.Batches.Recount(t.Context(), 1)
	s.Must(err)
	if d := check.Differences(); len(d) > 0 {
		t.Errorf("the recount differs: %v", d)
	}
}
