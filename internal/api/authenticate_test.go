package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// refusals is a meter that records why requests without a valid key are refused.
type refusals struct {
	mu      sync.Mutex
	reasons []string
}

func (r *refusals) Request(string, string, int, time.Duration) {}

func (r *refusals) Refused(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reasons = append(r.reasons, reason)
}

// The answer is the same for every reason, so that it does not help to guess keys. The
// log is limited, and contains a key's id but nothing else of it.
func TestAuthenticate_CountsAndLogsRefusals(t *testing.T) {
	t.Parallel()
	account := redistest.Account()
	ring := apikey.NewKeyring(fixture.Redis().Client(t), account)
	create := func() (string, apikey.Issued) {
		key, issued, err := ring.Create(t.Context(), "shop", []apikey.Scope{apikey.Read})
		if err != nil {
			t.Fatal(err)
		}
		return key, issued
	}
	valid, _ := create()
	revoked, gone := create()
	if _, err := ring.Revoke(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	core, logged := observer.New(zap.InfoLevel)
	meter := &refusals{}
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Keys, c.Meter, c.Log = ring, meter, zap.New(core) })
	bodies := map[string]bool{}
	for _, presented := range []string{"x", "kyclink_zzzzzzzzzzzz_secret", "kyclink_000000000000_" + strings.Repeat("A", 43), valid + "A", revoked} {
		a := s.expect(s.send("GET", "/v1/account", "", "Authorization", "Bearer "+presented, "X-Request-Id", "x"), http.StatusUnauthorized, "unauthorized")
		bodies[string(a.body)] = true
	}
	s.expect(s.send("GET", "/v1/account", "", "Authorization", ""), http.StatusUnauthorized, "unauthorized")
	if len(bodies) != 1 {
		t.Errorf("the answers differ by reason: %v", bodies)
	}
	if want := []string{"malformed", "malformed", "unknown", "unknown", "revoked", "missing"}; !slices.Equal(meter.reasons, want) {
		t.Errorf("counted reasons: got %v, want %v", meter.reasons, want)
	}
	lines := logged.FilterMessage("request without a valid API key").All()
	if len(lines) != 6 {
		t.Fatalf("got %d log lines, want 6", len(lines))
	}
	if f := lines[4].ContextMap(); f["key_id"] != gone.ID || f["address"] != "127.0.0.1" || f["reason"] != "revoked" {
		t.Errorf("got log fields %v, want the id, address and reason of the revoked key", f)
	}
	if f := lines[0].ContextMap(); f["key_id"] != "" {
		t.Errorf("got log fields %v, want no id of a malformed key", f)
	}
	for range 100 {
		s.send("GET", "/v1/account", "", "Authorization", "Bearer x")
	}
	if n := logged.FilterMessage("request without a valid API key").Len(); n > 60 {
		t.Errorf("got %d log lines of 106 requests, want at most 60", n)
	}
	if n := logged.FilterMessage("request").Len(); n != 0 {
		t.Errorf("got %d more log lines as for other requests, want none", n)
	}
	s.expect(s.send("GET", "/v1/account", "", "Authorization", "Bearer "+valid), http.StatusOK, "")
}

func TestAuthenticate_SlowsDownOnlyInvalidKeysOfAnAddress(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.api.failedAuth = newFailedAuth(rate.Every(time.Hour)) // the first after the burst would wait for an hour
	for range failedBurst {
		s.expect(s.send("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusUnauthorized, "unauthorized")
	}
	a := s.expect(s.send("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusTooManyRequests, "rate_limited")
	if a.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	s.expect(s.send("GET", "/v1/account", ""), http.StatusOK, "")

	s.api.failedAuth = newFailedAuth(rate.Every(100 * time.Millisecond))
	began := time.Now()
	for range failedBurst + 5 {
		s.expect(s.send("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusUnauthorized, "unauthorized")
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("5 requests beyond the burst took %v, want at least 400ms", took)
	}
}

func TestOpenAPI_NeedsNoValidKey(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Keys = noKeys{} })
	for _, key := range []string{"", "Bearer x"} {
		a := s.expect(s.send("GET", documentPath, "", "Authorization", key), http.StatusOK, "")
		if string(a.body) != string(document) {
			t.Errorf("with Authorization %q: got %d bytes, want openapi.yaml", key, len(a.body))
		}
		s.expect(s.send("POST", documentPath, "", "Authorization", key), http.StatusUnauthorized, "unauthorized")
	}
}

// noKeys accepts no key.
type noKeys struct{}

func (noKeys) Verify(context.Context, string) (apikey.Key, error) {
	return apikey.Key{}, apikey.ErrUnknown
}
