//go:build browser

package browsertest

import (
	"net/http"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

func TestSignIn_ExplainsAWrongKey(t *testing.T) {
	b := newSystem(t, simulator.Script{}).open(apikey.Read)
	b.expectStatus(http.StatusUnauthorized)
	b.visit("/requests?status=failed")
	b.await("the sign-in is open", `location.pathname === "/sign-in"`)
	b.fill("#key", "kyclink_wrong")
	b.click(".door form button")
	b.awaitText("[role=alert]", "This API key is unknown or was revoked.")

	b.signIn()
	b.await("the page that was asked for is open", `location.pathname + location.search === "/requests?status=failed"`)
}

func TestSignIn_NeedsTheScopeRead(t *testing.T) {
	b := newSystem(t, simulator.Script{}).open(apikey.Enqueue)
	b.expectStatus(http.StatusForbidden)
	b.visit("/sign-in")
	b.signIn()
	b.awaitText("[role=alert]", `"Mara" does not have the scope read`)
}

func TestScope_LimitsWhatIsShownAndDone(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.importRows("spring", numbered("A", 1, 3)...)
	b := s.signedIn(apikey.Read)
	b.expectStatus(http.StatusForbidden)
	b.visit("/batch?name=spring")
	if b.has("#t-actions") {
		t.Error("a key that may only read sees actions")
	}
	b.run(`{
		const form = document.createElement("form");
		form.method = "post";
		form.action = "/batch/pause";
		form.innerHTML = '<input name="name" value="spring">';
		document.body.append(form);
		form.submit();
	}`)
	b.awaitText("main", "does not have the scope operate")
	b.visit("/batch?name=spring")
	if got := b.text("#t-status + p"); got != "running" {
		t.Errorf("the batch is %q, want running", got)
	}
}

func TestSession_EndsOnALivePage(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	b := s.signedIn(apikey.Read)
	b.await("the page is live", `document.querySelector("#live[data-live=on]")`)
	s.endSessions()
	b.await("the sign-in is open", `location.pathname === "/sign-in"`)
	b.signIn()
	b.await("the page is live again", `location.pathname === "/" && document.querySelector("#live[data-live=on]")`)
}

func TestSession_EndsBeforeAnAction(t *testing.T) {
	s := newSystem(t, simulator.Script{Rules: []simulator.Rule{{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}}}})
	s.worker()
	s.enqueue(tasks.Request{ApplicationID: "bad-1"})
	s.await("bad-1", tasks.Failed)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.expectStatus(http.StatusUnauthorized)
	b.visit("/request?id=bad-1")
	s.endSessions()
	b.click(`form[action="/request/retry"] button`)
	b.awaitText("main", "Your session has ended, so that nothing was changed.")
	s.await("bad-1", tasks.Failed)
}

func TestSignOut_Everywhere(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	here, there := s.signedIn(apikey.Read), s.open(apikey.Read)
	there.key = here.key
	there.visit("/sign-in")
	there.signIn()
	there.await("the page is live", `document.querySelector("#live[data-live=on]")`)
	here.click(".me summary")
	here.click(`.me button[name=everywhere]`)
	here.await("the sign-in is open", `location.pathname === "/sign-in"`)
	there.await("the other browser is signed out", `location.pathname === "/sign-in"`)
}

// endSessions ends all sessions as if their time had passed.
func (s *system) endSessions() {
	s.Helper()
	keys, err := s.Redis.Keys(s.Context(), s.Keys.Session("*")).Result()
	s.Must(err)
	if len(keys) == 0 {
		s.Fatal("there is no session")
	}
	s.Must(s.Redis.Del(s.Context(), keys...).Err())
}
