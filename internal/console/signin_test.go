package console

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
)

func TestSignIn_BeginsASessionWithAValidKeyOnly(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	if to := b.get("/requests?status=held", http.StatusSeeOther).Header.Get("Location"); to != "/sign-in?next=%2Frequests%3Fstatus%3Dheld" {
		t.Errorf("a browser that is not signed in is sent to %s", to)
	}
	for _, wrong := range []string{"", "x", b.key + "A", strings.Replace(b.key, "_", "__", 1)} {
		p := b.post("/sign-in", http.StatusUnauthorized, "key", wrong)
		if len(p.Cookies()) > 0 || !strings.Contains(p.text, "unknown or was revoked") {
			t.Errorf("the key %q: got cookies %v", wrong, p.Cookies())
		}
		if wrong != "" && wrong != "x" && strings.Contains(p.text, wrong) {
			t.Error("the page repeats the key")
		}
	}
	p := b.post("/sign-in", http.StatusSeeOther, "key", " "+b.key+"\n", "next", "/batches?before=7")
	if p.Header.Get("Location") != "/batches?before=7" || len(p.Cookies()) != 1 {
		t.Fatalf("got Location %s and cookies %v", p.Header.Get("Location"), p.Cookies())
	}
	c := p.Cookies()[0]
	if c.Name != plainCookie || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" {
		t.Errorf("got cookie %v", c)
	}
	if p := b.get("/", http.StatusOK); !strings.Contains(p.text, "Mara") {
		t.Error("the page does not say who is signed in")
	}
	for key, value := range h.Dump() {
		if strings.Contains(key, c.Value) || strings.Contains(value, c.Value) || strings.Contains(value, b.key) {
			t.Errorf("Redis keeps the token or the key in %s", key)
		}
	}
	if got := h.changes(); !slices.Equal(got, []string{"Mara console.sign_in"}) {
		t.Errorf("audited: %v", got)
	}
}

func TestSignIn_LeadsToNoOtherSite(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	for _, next := range []string{"https://evil.example/", "//evil.example", "///evil.example", `/\evil.example`, `\\evil.example`, "javascript:alert(1)", "", "evil", "/\tx\n", "/%zz"} {
		p := b.post("/sign-in", http.StatusSeeOther, "key", b.key, "next", next)
		if to := p.Header.Get("Location"); to != "/" {
			t.Errorf("next %q leads to %q", next, to)
		}
	}
}

func TestSignIn_RefusesKeysThatMayNotRead(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Enqueue, apikey.Operate)
	if p := b.post("/sign-in", http.StatusForbidden, "key", b.key); len(p.Cookies()) > 0 || !strings.Contains(p.text, "scope read") {
		t.Errorf("got cookies %v", p.Cookies())
	}
}

func TestSignIn_IsLimitedForWrongKeysOnly(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	limited := 0
	for range 3 * failedBurst {
		p := b.do(b.form("/sign-in", "key", "x"))
		switch p.StatusCode {
		case http.StatusUnauthorized:
		case http.StatusTooManyRequests:
			if limited++; p.Header.Get("Retry-After") == "" {
				t.Error("Retry-After is missing")
			}
		default:
			t.Fatalf("got %d", p.StatusCode)
		}
	}
	if limited == 0 {
		t.Error("no sign-in was limited")
	}
	b.signIn()
}

func TestSignIn_UsesAPrefixedCookieUnlessOnLoopback(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	for _, tt := range []struct {
		host, forwarded, origin string
		tls                     bool
		want                    string // the cookie's name; "" if it is refused
	}{
		{"console.example", "", "https://console.example", true, secureCookie},
		{"console.example", "", "https://console.example", false, secureCookie}, // a proxy that uses TLS
		{"127.0.0.1:8080", "https", "https://console.example", false, secureCookie},
		{"localhost:8080", "", "http://localhost:8080", false, plainCookie},
		{"[::1]:8080", "", "http://[::1]:8080", false, plainCookie},
		{"console.example", "", "http://console.example", false, ""},
		{"localhost.evil.example", "", "http://localhost.evil.example", false, ""},
	} {
		r := b.form("/sign-in", "key", b.key)
		r.Host = tt.host
		r.Header.Set("Origin", tt.origin)
		if r.Header.Set("X-Forwarded-Proto", tt.forwarded); tt.tls {
			r.TLS = &tls.ConnectionState{}
		}
		w := httptest.NewRecorder()
		h.console.ServeHTTP(w, r)
		cookies := w.Result().Cookies()
		if tt.want == "" {
			if len(cookies) > 0 || w.Code != http.StatusUpgradeRequired {
				t.Errorf("%+v: got %d and %v", tt, w.Code, cookies)
			}
			continue
		}
		if len(cookies) != 1 || cookies[0].Name != tt.want || cookies[0].Secure != (tt.want == secureCookie) {
			t.Errorf("%+v: got %d and %v", tt, w.Code, cookies)
		}
	}
}

func TestSession_EndsWhenIdleOrOldOrRevoked(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read)
	keys, err := h.Redis.Keys(t.Context(), h.Keys.Session("*")).Result()
	if h.Must(err); len(keys) != 1 {
		t.Fatalf("got %d sessions, want 1", len(keys))
	}
	h.Must(h.Redis.PExpire(t.Context(), keys[0], time.Minute).Err())
	b.get("/", http.StatusOK)
	if left := h.Redis.TTL(t.Context(), keys[0]).Val(); left <= time.Minute || left > idleTimeout {
		t.Errorf("after a page the session lasts for %v, want %v", left, idleTimeout)
	}
	h.Must(h.Redis.Del(t.Context(), keys[0]).Err()) // as when it is idle
	b.get("/", http.StatusSeeOther)
	if p := b.post("/request/reveal", http.StatusUnauthorized, "id", "A-1"); !strings.Contains(p.text, "session has ended") {
		t.Error("the page does not say why nothing was changed")
	}

	b.signIn()
	h.console.sessions.now = func() time.Time { return time.Now().Add(absoluteTimeout) }
	b.get("/", http.StatusSeeOther)
	h.console.sessions.now = time.Now
	b.get("/", http.StatusSeeOther) // it stays ended

	b.signIn()
	b.get("/", http.StatusOK)
	_, err = h.keys.Revoke(t.Context(), b.id)
	h.Must(err)
	b.get("/", http.StatusSeeOther)
}

func TestSignOut_EndsOneSessionOrAll(t *testing.T) {
	h := newHarness(t)
	one, other := h.signedIn(apikey.Read), h.signedIn(apikey.Read)
	second := *one
	second.http = h.newBrowser(apikey.Read).http
	second.signIn()

	one.post("/sign-out", http.StatusSeeOther)
	one.get("/", http.StatusSeeOther)
	second.get("/", http.StatusOK)

	one.signIn()
	one.post("/sign-out", http.StatusSeeOther, "everywhere", "1")
	second.get("/", http.StatusSeeOther)
	other.get("/", http.StatusOK)
	one.signIn()
	one.get("/", http.StatusOK)
}

func TestSession_SurvivesALinkOfAnotherSite(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+`/request?id="><script>`, nil)
	h.Must(err)
	r.Header.Set("Sec-Fetch-Site", "cross-site") // without the cookie, which is withheld
	if p := b.expect(b.do(r), http.StatusOK); !strings.Contains(p.text, `http-equiv="refresh"`) || strings.Contains(p.text, "<script>") {
		t.Errorf("the page does not load itself again:\n%s", p.text)
	}
}
