//go:build browser

package browsertest

import (
	"net/http"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
)

// accountStatus returns the status of the API's answer to a key.
func (s *system) accountStatus(key string) int {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), http.MethodGet, s.url+"/v1/account", nil)
	s.Must(err)
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	s.Must(err)
	s.Must(answer.Body.Close())
	return answer.StatusCode
}

func TestKeys_AreCreatedUsedAndRevoked(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/keys")
	b.fill("input[name=name]", "Support desk")
	b.click("input[name=scope][value=read]")
	b.fill("input[name=key]", b.key)
	b.click(`form[action="/keys/create"] button`)
	b.awaitText("#t-created", "Support desk")
	created := b.text("#new-key")
	if status := s.accountStatus(created); status != http.StatusOK {
		t.Errorf("the API answers the new key with %d", status)
	}

	desk := s.open(apikey.Read)
	desk.key = created
	desk.visit("/sign-in")
	desk.signIn()
	desk.awaitText(".me .name", "Support desk")
	desk.awaitText("h1", "Now")
	desk.visit("/keys")
	if desk.has(`form[action="/keys/create"]`) || desk.has(`form[action="/keys/revoke"]`) {
		t.Error("a key that may only read is offered to create or revoke keys")
	}

	b.visit("/keys")
	if value[bool](b, `document.documentElement.outerHTML.includes(`+quote(created)+`)`) {
		t.Error("the list shows a key")
	}
	row := `tr:has(input[name=id][value="` + created[len("kyclink_"):][:12] + `"])`
	b.click(row + " summary")
	b.fill(row+" input[name=confirm]", "Support desk")
	b.click(row + " button.danger")
	b.awaitText("[role=status].done", "The API key is revoked.")
	fixture.Eventually(t, "the API refuses the key", func() bool { return s.accountStatus(created) == http.StatusUnauthorized })
	desk.visit("/requests")
	desk.await("the session of the key has ended", `location.pathname === "/sign-in"`)
	desk.expectStatus(http.StatusUnauthorized)
	desk.signIn()
	desk.awaitText("[role=alert]", "This API key is unknown or was revoked.")
}

func TestForms_AreSentOnceByADoubleClick(t *testing.T) {
	s := newSystem(t, simulator.Script{})
	s.importRows("spring", numbered("A", 1, 2)...)
	b := s.signedIn(apikey.Read, apikey.Operate)
	for _, tt := range []struct {
		path, button string
		want         int
	}{{"/account", `form[action="/account/rate"] button`, 1}, {"/batch?name=spring", "button[value=csv]", 2}} {
		b.visit(tt.path)
		sent := value[int](b, `(() => {
			let sent = 0;
			document.addEventListener("submit", (e) => {
				if (!e.defaultPrevented) sent++;
				e.preventDefault(); // the page stays
			});
			const button = `+element(tt.button)+`;
			document.querySelector("input[name=rate]")?.setAttribute("value", "20/s");
			button.click();
			button.click();
			return sent;
		})()`)
		if sent != tt.want {
			t.Errorf("%s: a double click sends the form %d times, want %d", tt.path, sent, tt.want)
		}
	}
}
