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
	const doubleClick = `form[action="/keys/create"] button`
	b.await("the button is there", element(doubleClick))
	b.run(element(doubleClick) + ".click(); " + element(doubleClick) + ".click()")
	b.awaitText("#t-created", "Support desk")
	if keys, err := s.keys.List(s.Context()); err != nil || len(keys) != 2 {
		t.Errorf("after a double click there are %d keys, want those of both persons; %v", len(keys), err)
	}
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
