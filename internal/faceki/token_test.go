package faceki

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func create(t *testing.T, c *Client, want fault.Kind) *fault.Fault {
	t.Helper()
	_, f := c.CreateLink(t.Context(), attemptFor("A-1001", request.Content{ExpiryMinutes: 5}))
	if (f == nil) != (want == 0) || f != nil && f.Kind != want {
		t.Helper()
		t.Fatalf("%+v, want kind %d", f, want)
	}
	return f
}

// give has the client hold a token that it did not ask for.
func give(c *Client, value Secret) { c.tokens.cache(value, c.now().Add(time.Hour), true) }

func TestOneTokenForManyCalls(t *testing.T) {
	for _, auth := range []string{AuthPost, AuthGet} {
		sim, c, now := simulated(t, simulator.Config{ClientID: "shop-7", ClientSecret: "s3cr3t-of-shop-7"}, func(c *Config) { c.Auth = auth })
		many := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f != nil {
						t.Error(f)
					}
				})
			}
			wg.Wait()
		}
		many()
		now.advance(59 * time.Minute)
		many()
		if n := sim.State().TokenRequests; n != 1 {
			t.Fatalf("%s: %d token requests", auth, n)
		}
		now.advance(time.Minute - skew)
		many()
		if n := sim.State().TokenRequests; n != 2 {
			t.Fatalf("%s: %d token requests after it expired", auth, n)
		}
		if s := sim.State(); s.Faults["unauthorized"] != 0 {
			t.Fatalf("%+v", s)
		}
	}
}

func TestShortLivedTokens(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{TokenLifetime: 10 * time.Second}, nil)
	for range 5 {
		create(t, c, 0)
		now.advance(9 * time.Second)
	}
	if n := sim.State().TokenRequests; n != 5 {
		t.Fatal(n)
	}
}

func TestRefusedTokenIsRenewedOnce(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	now.advance(spacing)
	sim.Revoke()
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatal("not renewed")
	}
	if n := sim.State().LinkCalls; n != 2 {
		t.Fatalf("%d create calls: the client sent another by itself", n)
	}
	create(t, c, 0)
}

// Another system may use the same credentials, so that a token is revoked soon after
// it was made. The next one is asked for as soon as that is allowed, and calls go on.
func TestATokenThatIsRevokedSoonIsReplacedWhenDue(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	for n := 1; n <= 3; n++ {
		now.advance(5 * time.Second)
		sim.Revoke()
		if f := create(t, c, fault.Unauthorized); !f.Renewed {
			t.Fatal("a token that FaceKi had accepted is not the credentials' fault")
		}
		ready := make(chan *fault.Fault)
		go func() { ready <- c.Ready(t.Context()) }()
		now.advance(spacing - 5*time.Second - time.Millisecond)
		select {
		case f := <-ready:
			t.Fatalf("ready before a token was due: %+v", f)
		case <-time.After(recheck + recheck/2): // it has looked again
		}
		if got := sim.State().TokenRequests; got != n {
			t.Fatalf("%d token requests", got)
		}
		now.advance(time.Millisecond)
		if f := <-ready; f != nil {
			t.Fatal(f)
		}
		create(t, c, 0)
		if got := sim.State().TokenRequests; got != n+1 {
			t.Fatalf("%d token requests", got)
		}
	}
}

// Only a fresh token that is refused as the one before was says that it is not the
// token. It is kept, so that the account's recovery is noticed without another.
func TestAFreshTokenThatIsRefusedIsTheAccounts(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	sim.Revoke()
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	sim.Revoke()
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatal("the first token was revoked, as it seems")
	}
	now.advance(spacing)
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	sim.Revoke()
	for range 3 {
		if f := create(t, c, fault.Unauthorized); f.Renewed {
			t.Fatal("tokens are not at fault")
		}
	}
	if n := sim.State().TokenRequests; n != 2 {
		t.Fatal(n)
	}
	now.advance(spacing)
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatal("not renewed later")
	}
	create(t, c, 0)
}

func TestCreateLinkDoesNotWaitForATokenThatIsNotDue(t *testing.T) {
	sim, c, _ := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	sim.Revoke()
	create(t, c, fault.Unauthorized)
	a := attemptFor("A-1001", request.Content{})
	a.SendBy = time.Now().Add(100 * time.Millisecond)
	if _, f := c.CreateLink(t.Context(), a); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("%+v", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("%+v", f)
	}
}

func TestRecoveryIsNoticedWithoutANewToken(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	set := func(s simulator.Script) {
		if err := sim.SetScript(s); err != nil {
			t.Fatal(err)
		}
	}
	set(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "code_1"}}}})
	create(t, c, fault.Unauthorized)
	now.advance(spacing)
	create(t, c, fault.Unauthorized)
	set(simulator.Script{})
	create(t, c, 0)
	if n := sim.State().TokenRequests; n != 2 {
		t.Fatal(n)
	}
}

func TestDroppedTokenIsComparedFirst(t *testing.T) {
	now := newClock()
	ts := newTokens(nil, now.Now, time.Second)
	ts.begin = func() (context.Context, context.CancelFunc) { return t.Context(), func() {} }
	ts.ask = func(context.Context) (Secret, time.Duration, *fault.Fault) { return "new", time.Hour, nil }
	if _, _, f := ts.get(t.Context(), recheck); f != nil {
		t.Fatal(f)
	}
	now.advance(time.Minute)
	if !ts.refused(t.Context(), "old") || ts.cached(recheck+time.Minute) != "new" {
		t.Fatal("a refused old token dropped the new one")
	}
	if !ts.refused(t.Context(), "new") || ts.cached(maxLifetime) != "" {
		t.Fatal("not dropped")
	}
	if !ts.refused(t.Context(), "new") {
		t.Fatal("dropped by another call: renewing helps this one too")
	}
}

func TestRefusedCredentials(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{ClientSecret: "another"}, nil)
	for range 5 {
		f := create(t, c, fault.Unauthorized)
		if f.Renewed || f.Detail != `access token: HTTP 401: "invalid client credentials"` {
			t.Fatalf("%+v", f)
		}
	}
	now.advance(spacing - time.Nanosecond)
	create(t, c, fault.Unauthorized)
	if n := sim.State().TokenRequests; n != 1 {
		t.Fatalf("%d token requests", n)
	}
	now.advance(time.Nanosecond)
	create(t, c, fault.Unauthorized)
	if s := sim.State(); s.TokenRequests != 2 || s.LinkCalls != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestFaultsOfTheTokenEndpoint(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	for name, kind := range map[string]fault.Kind{
		"http_400": fault.Unauthorized, "http_401": fault.Unauthorized, "http_403": fault.Unauthorized, "http_404": fault.Unauthorized,
		"http_422": fault.Unauthorized, "redirect": fault.NotFaceKi, "code_1": fault.Unauthorized, "code_5003": fault.CreditGone,
		"http_429": fault.TooMany, "http_500": fault.TokenUnavailable, "http_503": fault.TokenUnavailable, "code_1000": fault.TokenUnavailable,
		"hang": fault.TokenUnavailable, "reset_before": fault.TokenUnavailable, "truncated": fault.TokenUnavailable,
		"not_json": fault.TokenUnavailable, "no_data": fault.TokenUnavailable, "too_long": fault.TokenUnavailable,
	} {
		now.advance(spacing)
		if err := sim.SetScript(simulator.Script{TokenFault: &simulator.Fault{Name: name}}); err != nil {
			t.Fatal(err)
		}
		before := sim.State()
		for range 2 {
			_, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{}))
			if f == nil || f.Kind != kind || f.Outcome() != fault.NoLink {
				t.Errorf("%s: %+v", name, f)
			}
		}
		if s := sim.State(); s.LinkCalls != 0 || s.TokenRequests != before.TokenRequests+1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestTokenIsThrottledAsAsked(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{Script: simulator.Script{
		TokenFault: &simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(time.Minute)}}}, nil)
	create(t, c, fault.TooMany)
	now.advance(40 * time.Second)
	if f := create(t, c, fault.TooMany); f.RetryAfter != 20*time.Second {
		t.Fatalf("%+v", f)
	}
	if n := sim.State().TokenRequests; n != 1 {
		t.Fatal(n)
	}
}

func TestUnreachableServerIsAskedAgainAtOnce(t *testing.T) {
	c, _ := client(t, "http://"+deaf(t), func(c *Config) { c.BaseURL = "http://127.0.0.1:1" })
	create(t, c, fault.NotSent)
	var asked atomic.Int32
	c.tokens.ask = func(context.Context) (Secret, time.Duration, *fault.Fault) {
		asked.Add(1)
		return "", 0, &fault.Fault{Kind: fault.NotSent}
	}
	create(t, c, fault.NotSent)
	if asked.Load() != 1 {
		t.Fatal("not asked")
	}
}

func TestCallersDoNotShareAFault(t *testing.T) {
	c, _ := client(t, "http://127.0.0.1:1", nil)
	c.tokens.ask = func(context.Context) (Secret, time.Duration, *fault.Fault) {
		return "", 0, &fault.Fault{Kind: fault.Unauthorized}
	}
	a, b := c.Ready(t.Context()), c.Ready(t.Context())
	a.Renewed = true
	if a == b || b.Renewed || c.Ready(t.Context()).Renewed {
		t.Fatal("shared")
	}
}

func TestTokenAnswers(t *testing.T) {
	for body, life := range map[string]time.Duration{
		tokenAnswer: time.Hour,
		`{"responseCode":"0","data":{"access_token":"t","expires_in":"60"}}`:      time.Minute,
		`{"responseCode":0,"data":{"access_token":"t"}}`:                          defaultLifetime,
		`{"responseCode":0,"data":{"access_token":"t","expires_in":0}}`:           defaultLifetime,
		`{"responseCode":0,"data":{"access_token":"t","expires_in":-1}}`:          defaultLifetime,
		`{"responseCode":0,"data":{"access_token":"t","expires_in":99999999999}}`: maxLifetime,
		`{"responseCode":0,"data":{"access_token":""}}`:                           0,
		`{"responseCode":0,"data":{"access_token":"a b"}}`:                        0,
		`{"responseCode":0,"data":{"access_token":"a\r\nX: y"}}`:                  0,
		`{"responseCode":0,"data":{"access_token":"é"}}`:                          0,
		`{"responseCode":0,"data":"t"}`:                                           0,
		`{"data":{"access_token":"t"}}`:                                           0,
	} {
		value, got, f := readTokenAnswer(answer{status: 200, body: []byte(body)})
		if got != life || (f == nil) != (life > 0) || (value == "") != (life == 0) {
			t.Errorf("%s: %v %v", body, got, f)
		}
	}
}

// FaceKi's error bodies may echo what they got.
func TestNoSecretInAnyFault(t *testing.T) {
	var status atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		echo := fmt.Sprintf("%s %s %s", r.RequestURI, body, r.Header.Get("Authorization"))
		w.Header().Set("Location", echo)
		w.Header().Set("Retry-After", echo)
		w.WriteHeader(int(status.Load()))
		_, _ = fmt.Fprintf(w, `{"status":false,"message":%q,"data":%q,"url":%q}`, echo, echo, echo)
	}))
	defer s.Close()
	for _, auth := range []string{AuthPost, AuthGet} {
		for st := 200; st < 600; st++ {
			status.Store(int32(st))
			c, _ := client(t, s.URL, func(c *Config) { c.Auth = auth })
			asked := c.Ready(t.Context())
			give(c, "t0k3n")
			_, called := c.CreateLink(t.Context(), attemptFor("A-1001", request.Content{}))
			for _, f := range []*fault.Fault{asked, called} {
				if f == nil {
					t.Fatal("no fault")
				}
				text := fmt.Sprintf("%v %+v %#v", f, f, *f)
				for _, leak := range []string{"s3cr3t", "t0k3n", "shop-7", "A-1001", "Bearer"} {
					if strings.Contains(text, leak) {
						t.Fatalf("HTTP %d: %s", st, text)
					}
				}
			}
			c.Close()
		}
	}
}
