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

// create calls CreateLink, and expects a fault of the kind, or a link if want is 0.
func create(t *testing.T, c *Client, want fault.Kind) *fault.Fault {
	t.Helper()
	_, f := c.CreateLink(t.Context(), attemptFor("A-1001", request.Content{ExpiryMinutes: 5}))
	if (f == nil) != (want == 0) || f != nil && f.Kind != want {
		t.Fatalf("fault %+v, want kind %d", f, want)
	}
	return f
}

// setToken gives the client a token that it has not requested.
func setToken(c *Client, value Secret) { c.tokens.cache(value, c.now().Add(time.Hour), true) }

func TestCreateLink_UsesOneTokenUntilItExpires(t *testing.T) {
	for _, auth := range []string{AuthPost, AuthGet} {
		sim, c, now := simulated(t, simulator.Config{ClientID: "shop-7", ClientSecret: "s3cr3t-of-shop-7"}, func(c *Config) { c.Auth = auth })
		createMany := func() {
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
		createMany()
		now.advance(59 * time.Minute)
		createMany()
		if n := sim.State().TokenRequests; n != 1 {
			t.Fatalf("%s: %d token requests, want 1", auth, n)
		}
		now.advance(time.Minute - skew)
		createMany()
		if n := sim.State().TokenRequests; n != 2 {
			t.Fatalf("%s: %d token requests after the token expired, want 2", auth, n)
		}
		if s := sim.State(); s.Faults["unauthorized"] != 0 {
			t.Fatalf("%s: %d calls with an expired token, want none", auth, s.Faults["unauthorized"])
		}
	}
}

func TestCreateLink_UsesNineTenthsOfAShortLifetime(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{TokenLifetime: 10 * time.Second}, nil)
	for range 5 {
		create(t, c, 0)
		now.advance(9 * time.Second)
	}
	if n := sim.State().TokenRequests; n != 5 {
		t.Fatalf("%d token requests, want 5", n)
	}
}

func TestCreateLink_RenewsARefusedTokenWithoutAnotherCall(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	now.advance(spacing)
	sim.Revoke()
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatalf("fault %+v does not say that the token is renewed", f)
	}
	if n := sim.State().LinkCalls; n != 2 {
		t.Fatalf("%d create calls, want 2: the client must not repeat one", n)
	}
	create(t, c, 0)
}

// TestReady_WaitsUntilARevokedTokenMayBeReplaced revokes tokens soon after they were
// requested, as happens if another system uses the same credentials.
func TestReady_WaitsUntilARevokedTokenMayBeReplaced(t *testing.T) {
	t.Parallel() // it waits for real time
	sim, c, now := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	for n := 1; n <= 3; n++ {
		now.advance(5 * time.Second)
		sim.Revoke()
		if f := create(t, c, fault.Unauthorized); !f.Renewed {
			t.Fatalf("fault %+v does not say that the token is renewed, although FaceKi had accepted it", f)
		}
		ready := make(chan *fault.Fault)
		go func() { ready <- c.Ready(t.Context()) }()
		now.advance(spacing - 5*time.Second - time.Millisecond)
		select {
		case f := <-ready:
			t.Fatalf("Ready returned %+v before the next token is due", f)
		case <-time.After(recheck + recheck/2): // until it has checked again
		}
		if got := sim.State().TokenRequests; got != n {
			t.Fatalf("%d token requests, want %d", got, n)
		}
		now.advance(time.Millisecond)
		if f := <-ready; f != nil {
			t.Fatal(f)
		}
		create(t, c, 0)
		if got := sim.State().TokenRequests; got != n+1 {
			t.Fatalf("%d token requests, want %d", got, n+1)
		}
	}
}

// TestCreateLink_KeepsATokenThatIsRefusedLikeTheOneBefore checks that the second refusal in a
// row counts against the account. The token is kept, so that the account's recovery is
// noticed without another request for a token.
func TestCreateLink_KeepsATokenThatIsRefusedLikeTheOneBefore(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	sim.Revoke()
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	sim.Revoke()
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatalf("fault %+v of the first token does not say that it is renewed", f)
	}
	now.advance(spacing)
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	sim.Revoke()
	for range 3 {
		if f := create(t, c, fault.Unauthorized); f.Renewed {
			t.Fatalf("fault %+v says that the token is renewed, want it kept", f)
		}
	}
	if n := sim.State().TokenRequests; n != 2 {
		t.Fatalf("%d token requests, want 2", n)
	}
	now.advance(spacing)
	if f := create(t, c, fault.Unauthorized); !f.Renewed {
		t.Fatalf("fault %+v after the spacing does not say that the token is renewed", f)
	}
	create(t, c, 0)
}

func TestCreateLink_DoesNotWaitForATokenBeyondItsDeadline(t *testing.T) {
	sim, c, _ := simulated(t, simulator.Config{}, nil)
	create(t, c, 0)
	sim.Revoke()
	create(t, c, fault.Unauthorized)
	a := attemptFor("A-1001", request.Content{})
	a.SendBy = time.Now().Add(100 * time.Millisecond)
	if _, f := c.CreateLink(t.Context(), a); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("CreateLink: %+v, want an interrupted attempt", f)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if f := c.Ready(ctx); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("Ready: %+v, want an interruption", f)
	}
}

func TestCreateLink_NoticesTheAccountsRecoveryWithoutANewToken(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{}, nil)
	setScript := func(s simulator.Script) {
		if err := sim.SetScript(s); err != nil {
			t.Fatal(err)
		}
	}
	setScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "code_1"}}}})
	create(t, c, fault.Unauthorized)
	now.advance(spacing)
	create(t, c, fault.Unauthorized)
	setScript(simulator.Script{})
	create(t, c, 0)
	if n := sim.State().TokenRequests; n != 2 {
		t.Fatalf("%d token requests, want 2", n)
	}
}

func TestTokens_DiscardOnlyTheRefusedToken(t *testing.T) {
	now := newClock()
	ts := newTokens(nil, now.Now, time.Second)
	ts.newContext = func() (context.Context, context.CancelFunc) { return t.Context(), func() {} }
	ts.requestToken = func(context.Context) (Secret, time.Duration, *fault.Fault) { return "new", time.Hour, nil }
	if _, _, f := ts.get(t.Context(), recheck); f != nil {
		t.Fatal(f)
	}
	now.advance(time.Minute)
	if !ts.refused(t.Context(), "old") || ts.cached(recheck+time.Minute) != "new" {
		t.Fatal("the refusal of an old token discards the new one, or renewing does not help")
	}
	if !ts.refused(t.Context(), "new") || ts.cached(maxLifetime) != "" {
		t.Fatal("a refused token is not discarded, or renewing does not help")
	}
	if !ts.refused(t.Context(), "new") {
		t.Fatal("renewing does not help after another call discarded the token")
	}
}

func TestCreateLink_RequestsOneTokenPerSpacingWithRefusedCredentials(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{ClientSecret: "another"}, nil)
	for range 5 {
		f := create(t, c, fault.Unauthorized)
		if f.Renewed || f.Detail != `access token: HTTP 401: "invalid client credentials"` {
			t.Fatalf("fault %+v, want refused credentials", f)
		}
	}
	now.advance(spacing - time.Nanosecond)
	create(t, c, fault.Unauthorized)
	if n := sim.State().TokenRequests; n != 1 {
		t.Fatalf("%d token requests within the spacing, want 1", n)
	}
	now.advance(time.Nanosecond)
	create(t, c, fault.Unauthorized)
	if s := sim.State(); s.TokenRequests != 2 || s.LinkCalls != 0 {
		t.Fatalf("%d token requests and %d create calls, want 2 and 0", s.TokenRequests, s.LinkCalls)
	}
}

// TestCreateLink_ReturnsTheFaultOfTheTokenEndpoint also checks that a fault is reused instead
// of a second request, and that no create call is sent.
func TestCreateLink_ReturnsTheFaultOfTheTokenEndpoint(t *testing.T) {
	for name, kind := range map[string]fault.Kind{
		"http_400": fault.Unauthorized, "http_401": fault.Unauthorized, "http_403": fault.Unauthorized, "http_404": fault.Unauthorized,
		"http_422": fault.Unauthorized, "redirect": fault.NotFaceKi, "code_1": fault.Unauthorized, "code_5003": fault.CreditGone,
		"http_429": fault.TooMany, "http_500": fault.TokenUnavailable, "http_503": fault.TokenUnavailable, "code_1000": fault.TokenUnavailable,
		"hang": fault.TokenUnavailable, "reset_before": fault.TokenUnavailable, "truncated": fault.TokenUnavailable,
		"not_json": fault.TokenUnavailable, "no_data": fault.TokenUnavailable, "too_long": fault.TokenUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute
			if name == "hang" {
				timeout = 2 * time.Second
			}
			script := simulator.Script{TokenFault: &simulator.Fault{Name: name}}
			sim, c, _ := simulated(t, simulator.Config{Script: script}, func(c *Config) { c.Timeout = timeout })
			for range 2 {
				_, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{}))
				if f == nil || f.Kind != kind || f.Outcome() != fault.NoLink {
					t.Errorf("fault %+v, want kind %d and certainly no link", f, kind)
				}
			}
			if s := sim.State(); s.LinkCalls != 0 || s.TokenRequests != 1 {
				t.Errorf("%d create calls and %d token requests, want 0 and 1", s.LinkCalls, s.TokenRequests)
			}
		})
	}
}

func TestCreateLink_ReturnsTheRestOfTheTokenEndpointsRetryAfter(t *testing.T) {
	sim, c, now := simulated(t, simulator.Config{Script: simulator.Script{
		TokenFault: &simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(time.Minute)}}}, nil)
	create(t, c, fault.TooMany)
	now.advance(40 * time.Second)
	if f := create(t, c, fault.TooMany); f.RetryAfter != 20*time.Second {
		t.Fatalf("fault %+v, want 20s as RetryAfter", f)
	}
	if n := sim.State().TokenRequests; n != 1 {
		t.Fatalf("%d token requests, want 1", n)
	}
}

func TestCreateLink_RequestsATokenAgainAtOnceIfTheFirstRequestWasNotSent(t *testing.T) {
	c, _ := client(t, "http://"+silentServer(t), func(c *Config) { c.BaseURL = "http://127.0.0.1:1" })
	create(t, c, fault.NotSent)
	var requests atomic.Int32
	c.tokens.requestToken = func(context.Context) (Secret, time.Duration, *fault.Fault) {
		requests.Add(1)
		return "", 0, &fault.Fault{Kind: fault.NotSent}
	}
	create(t, c, fault.NotSent)
	if n := requests.Load(); n != 1 {
		t.Fatalf("%d more token requests, want 1", n)
	}
}

func TestReady_ReturnsItsOwnCopyOfAFault(t *testing.T) {
	c, _ := client(t, "http://127.0.0.1:1", nil)
	c.tokens.requestToken = func(context.Context) (Secret, time.Duration, *fault.Fault) {
		return "", 0, &fault.Fault{Kind: fault.Unauthorized}
	}
	a, b := c.Ready(t.Context()), c.Ready(t.Context())
	a.Renewed = true
	if a == b || b.Renewed || c.Ready(t.Context()).Renewed {
		t.Fatal("a change of one returned fault changes another")
	}
}

func TestReadTokenAnswer_ReturnsTheTokenAndItsLifetime(t *testing.T) {
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
			t.Errorf("%s: token %q for %v, fault %v; want a token for %v", body, string(value), got, f, life)
		}
	}
}

// TestFault_ContainsNothingThatTheAnswerRepeats lets the server repeat the whole request in
// its answer, with every status.
func TestFault_ContainsNothingThatTheAnswerRepeats(t *testing.T) {
	t.Parallel() // it takes long
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
			ofToken := c.Ready(t.Context())
			setToken(c, "t0k3n")
			_, ofCall := c.CreateLink(t.Context(), attemptFor("A-1001", request.Content{}))
			for _, f := range []*fault.Fault{ofToken, ofCall} {
				if f == nil {
					t.Fatalf("HTTP %d is not a fault", st)
				}
				text := fmt.Sprintf("%v %+v %#v", f, f, *f)
				for _, leak := range []string{"s3cr3t", "t0k3n", "shop-7", "A-1001", "Bearer"} {
					if strings.Contains(text, leak) {
						t.Fatalf("HTTP %d: the fault contains %q: %s", st, leak, text)
					}
				}
			}
			c.Close()
		}
	}
}
