//go:build browser

package browsertest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func TestCallbacks_ATestEventIsSent(t *testing.T) {
	t.Parallel()
	received := make(chan string, 2)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		event, wrong := tasks.VerifyCallback([]string{callbackSecret}, r.Header, body, nil)
		received <- fmt.Sprint(r.URL, " ", event.Type, " ", err, " ", wrong)
		if r.URL.Path == "/full" {
			http.Error(w, "<b>the disk is full</b>", http.StatusInsufficientStorage)
		}
	}))
	t.Cleanup(receiver.Close)
	s := startSystem(t, fixture.NewAccountOn(t, server), simulator.New(simulator.Config{}), nil, callbackSettings()...)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/callbacks")
	send := func(path string) {
		t.Helper()
		b.fill("input[name=url]", receiver.URL+path)
		b.click(`form[action="/callbacks/test"] button`)
	}
	b.click("details.fold summary")
	send("/hooks?key=known")
	b.awaitText("details.fold .done", "accepted the test event with HTTP 200")
	send("/full")
	b.awaitText("details.fold .problem", "did not accept the test event (HTTP 507)")
	b.awaitText("details.fold .quote", "<b>the disk is full</b>")
	b.awaitText("details.fold .problem", "A worker would retry the callback.")
	for _, want := range []string{"/hooks?key=known ping <nil> <nil>", "/full ping <nil> <nil>"} {
		if got := <-received; got != want {
			t.Errorf("the receiver got %s, want %s", got, want)
		}
	}

	b.fill("input[name=url]", "https://elsewhere.example/hooks")
	b.click(`form[action="/callbacks/test"] button`)
	b.awaitText("details.fold .problem", "elsewhere.example, which is not in KYCLINK_CALLBACK_HOSTS")
	b.visit("/audit")
	b.awaitText("tbody", "callbacks.test")
	if value[bool](b, `document.body.innerText.includes("known")`) {
		t.Error("the audit trail names a query of a receiver, which may be secret")
	}
}
