package api

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// Paths outside /v1 are the console's, which authenticates them itself.
func TestConsole_GetsWhatIsNotOfTheAPI(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) {
		c.Console = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "console %s", r.URL.Path)
		})
	})
	for path, want := range map[string]int{
		"/": http.StatusOK, "/request": http.StatusOK, "/v2/links": http.StatusOK, "/v10": http.StatusOK,
		"/v1": http.StatusUnauthorized, "/v1/": http.StatusUnauthorized, "/v1/account": http.StatusUnauthorized, "/v1/nothing": http.StatusUnauthorized,
		"/healthz": http.StatusOK,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+path, nil)
		s.Must(err)
		resp, err := http.DefaultTransport.RoundTrip(r)
		s.Must(err)
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		s.Must(err)
		console := string(body) == "console "+path
		if resp.StatusCode != want || console != (want == http.StatusOK && path != "/healthz") {
			t.Errorf("%s: got %d %s", path, resp.StatusCode, body)
		}
		if resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: the response has no X-Request-Id", path)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

// The log names the key of a session of the console as it names that of a request of the API.
func TestConsole_RequestsAreLoggedWithTheKey(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.InfoLevel)
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) {
		c.Log = zap.New(core)
		c.Console = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.(interface{ SignedIn(key apikey.Key) }).SignedIn(apikey.Key{ID: "1", Name: "Mara"})
			w.WriteHeader(http.StatusNoContent)
		})
	})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/requests", nil)
	s.Must(err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	s.Must(err)
	_ = resp.Body.Close()
	s.Eventually("the request is logged with its key", func() bool {
		return logged.FilterMessage("request").FilterField(zap.String("key", "Mara")).Len() == 1
	})
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}
