package api

import (
	"context"
	"net/http"
	"net/netip"
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

// refusals is a meter of requests without a valid key.
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

// Requests without a valid key are counted by what is wrong, and logged with their
// address and the key's id, now and then; the answers differ in nothing.
func TestRequestsWithoutAKeyAreCountedAndLogged(t *testing.T) {
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
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Keys, c.Meter, c.Log = ring, meter, zap.New(core) })
	bodies := map[string]bool{}
	for _, presented := range []string{"x", "kyclink_zzzzzzzzzzzz_secret", "kyclink_000000000000_" + strings.Repeat("A", 43), valid + "A", revoked} {
		a := s.expect(s.ask("GET", "/v1/account", "", "Authorization", "Bearer "+presented, "X-Request-Id", "x"), http.StatusUnauthorized, "unauthorized")
		bodies[string(a.body)] = true
	}
	s.expect(s.ask("GET", "/v1/account", "", "Authorization", ""), http.StatusUnauthorized, "unauthorized")
	if len(bodies) != 1 {
		t.Errorf("the answers tell keys apart: %v", bodies)
	}
	if want := []string{"malformed", "malformed", "unknown", "unknown", "revoked", "missing"}; !slices.Equal(meter.reasons, want) {
		t.Errorf("counted: %v, want %v", meter.reasons, want)
	}
	lines := logged.FilterMessage("request without a valid API key").All()
	if len(lines) != 6 {
		t.Fatalf("%d lines", len(lines))
	}
	if f := lines[4].ContextMap(); f["key_id"] != gone.ID || f["address"] != "127.0.0.1" || f["reason"] != "revoked" {
		t.Errorf("logged: %v", f)
	}
	if f := lines[0].ContextMap(); f["key_id"] != "" {
		t.Errorf("what is no key is logged: %v", f)
	}
	for range 100 {
		s.ask("GET", "/v1/account", "", "Authorization", "Bearer x")
	}
	if n := logged.FilterMessage("request without a valid API key").Len(); n > 60 {
		t.Errorf("%d lines of 106 requests", n)
	}
	if n := logged.FilterMessage("request").Len(); n != 0 {
		t.Errorf("and %d lines as for any request", n)
	}
	s.expect(s.ask("GET", "/v1/account", "", "Authorization", "Bearer "+valid), http.StatusOK, "")
}

// An address that goes on without a valid key is slowed down, and a valid key from it
// is not.
func TestAddressesWithoutAKeyAreSlowedDown(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.api.failedAuth = newFailedAuth(rate.Every(time.Hour)) // the first after the burst would wait for an hour
	for range failedBurst {
		s.expect(s.ask("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusUnauthorized, "unauthorized")
	}
	a := s.expect(s.ask("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusTooManyRequests, "rate_limited")
	if a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come again")
	}
	s.expect(s.ask("GET", "/v1/account", ""), http.StatusOK, "")

	s.api.failedAuth = newFailedAuth(rate.Every(100 * time.Millisecond))
	began := time.Now()
	for range failedBurst + 5 {
		s.expect(s.ask("GET", "/v1/account", "", "Authorization", "Bearer x"), http.StatusUnauthorized, "unauthorized")
	}
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("5 more than a burst take %v", took)
	}
}

func TestAddressesThatAreOne(t *testing.T) {
	t.Parallel()
	r := newFailedAuth(1)
	one := func(a, b string) bool { return r.limiter(netip.MustParseAddr(a)) == r.limiter(netip.MustParseAddr(b)) }
	if !one("2001:db8::1", "2001:db8::2") || !one("192.0.2.1", "::ffff:192.0.2.1") || !one("fe80::1%eth0", "fe80::2%eth1") {
		t.Error("one address has two limits")
	}
	differ := 0
	for _, b := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4", "2001:db8:0:1::1"} {
		if !one("192.0.2.1", b) {
			differ++
		}
	}
	if differ < 3 {
		t.Error("different addresses share a limit")
	}
}

// The document can be read without a key, and with one that is not valid.
func TestTheDocumentNeedsNoKey(t *testing.T) {
	t.Parallel()
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Keys = noKeys{} })
	for _, key := range []string{"", "Bearer x"} {
		a := s.expect(s.ask("GET", documentPath, "", "Authorization", key), http.StatusOK, "")
		if string(a.body) != string(document) {
			t.Errorf("%d bytes", len(a.body))
		}
		s.expect(s.ask("POST", documentPath, "", "Authorization", key), http.StatusUnauthorized, "unauthorized")
	}
}

type noKeys struct{}

func (noKeys) Verify(context.Context, string) (apikey.Key, error) {
	return apikey.Key{}, apikey.ErrUnknown
}
