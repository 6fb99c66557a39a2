package faceki

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { fixture.Main(m) }

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 24, 5, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func attemptFor(id string, content request.Content) attempt.Attempt {
	return attempt.NewAttempt(request.Record{ApplicationID: id, Content: content})
}

// client talks to the base URL as to a simulator.
func client(t *testing.T, baseURL string, change func(*Config)) (*Client, *clock) {
	t.Helper()
	cfg := config()
	cfg.BaseURL, cfg.Simulated, cfg.Timeout = baseURL, true, 5*time.Second
	if change != nil {
		change(&cfg)
	}
	now := newClock()
	c := New(cfg, now.Now, nil)
	t.Cleanup(c.Close)
	return c, now
}

// simulated starts a simulator on the client's clock.
func simulated(t *testing.T, cfg simulator.Config, change func(*Config)) (*simulator.Simulator, *Client, *clock) {
	t.Helper()
	now := newClock()
	cfg.Now = now.Now
	sim := simulator.New(cfg)
	url, stop, err := sim.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	c, _ := client(t, url, change)
	c.now, c.tokens.now, c.tokens.store.(*localStore).now = now.Now, now.Now, now.Now
	return sim, c, now
}

const tokenAnswer = `{"responseCode":0,"data":{"access_token":"t0k3n","expires_in":3600,"token_type":"Bearer"}}`
const linkAnswer = `{"responseCode":0,"data":"l1nk","url":"https://simulator.invalid/kycverify/l1nk"}`

// server grants tokens and hands create calls to the handler.
func server(t *testing.T, create http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	grant := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tokenAnswer) }
	mux.HandleFunc(tokenPath, grant)
	mux.HandleFunc(legacyTokenPath, grant)
	mux.HandleFunc(createPath, create)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestRequestsOnTheWire(t *testing.T) {
	yes := true
	full := request.Content{RedirectURL: "https://shop.example/done?a=1&b=<2>", ExpiryMinutes: 1440, DocumentOptional: &yes,
		WorkflowID: "wf-3", CallbackURL: "https://shop.example/hook", Metadata: json.RawMessage(`{"customer":"42"}`)}
	for name, c := range map[string]struct {
		change  func(*Config)
		content request.Content
	}{
		"least":  {nil, request.Content{}},
		"full":   {nil, full},
		"string": {func(c *Config) { c.ExpiryType = ExpiryString }, full},
		"legacy": {func(c *Config) { c.Auth, c.ClientID, c.BaseURL = AuthGet, "shop&7", c.BaseURL+"/prefix/" }, request.Content{ExpiryMinutes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var seen strings.Builder
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(&seen, "%s %s\n", r.Method, r.RequestURI)
				for _, key := range []string{"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Length", "Content-Type", "Idempotency-Key", "User-Agent"} {
					for _, value := range r.Header.Values(key) {
						fmt.Fprintf(&seen, "%s: %s\n", key, value)
					}
				}
				fmt.Fprintf(&seen, "\n%s\n\n", body)
				if strings.Contains(r.URL.Path, "/auth/") {
					_, _ = io.WriteString(w, tokenAnswer)
				} else {
					_, _ = io.WriteString(w, linkAnswer)
				}
			}))
			defer s.Close()
			kyc, _ := client(t, s.URL, c.change)
			made, f := kyc.CreateLink(t.Context(), attemptFor("A-1001", c.content))
			if f != nil || made.LinkID != "l1nk" {
				t.Fatal(made, f)
			}
			golden(t, name, strings.TrimSpace(seen.String())+"\n")
		})
	}
}

// Some servers put a byte order mark before JSON; a link behind one is paid for too.
func TestAByteOrderMarkBeforeTheAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "\ufeff"+map[bool]string{true: tokenAnswer, false: linkAnswer}[r.URL.Path == tokenPath])
	}))
	defer s.Close()
	c, _ := client(t, s.URL, nil)
	if made, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f != nil || made.LinkID != "l1nk" {
		t.Errorf("%+v, %v", made, f)
	}
}

func TestDefaultsAreSentAndTheirFaultsAreTheAccounts(t *testing.T) {
	var sent string
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = string(body)
		_, _ = io.WriteString(w, `{"responseCode":5001}`)
	})
	c, _ := client(t, s.URL, nil)
	defaults := request.Defaults{ExpiryMinutes: 9, WorkflowID: "wf-default"}
	for _, content := range []struct {
		given request.Content
		kind  fault.Kind
		sent  string
	}{
		{request.Content{}, fault.AccountRules, `{"expiryTime":9,"applicationId":"A","workflowId":"wf-default"}`},
		{request.Content{WorkflowID: "wf-own", ExpiryMinutes: 2}, fault.RulesMissing, `{"expiryTime":2,"applicationId":"A","workflowId":"wf-own"}`},
	} {
		a := attemptFor("A", content.given)
		a.Resolved = defaults
		_, f := c.CreateLink(t.Context(), a)
		if f == nil || f.Kind != content.kind || sent != content.sent {
			t.Errorf("%+v after %s", f, sent)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%v; sent\n%s\nwant\n%s", err, got, want)
	}
}

func TestFaultsOfTheSimulator(t *testing.T) {
	sim, c, _ := simulated(t, simulator.Config{}, func(c *Config) { c.Timeout = time.Second })
	for name, kind := range map[string]fault.Kind{
		"reset_before": fault.Lost, "reset_after": fault.Lost, "truncated": fault.Unreadable, "not_json": fault.Unreadable,
		"too_long": fault.Unreadable, "hang": fault.TimedOut, "redirect": fault.NotFaceKi, "no_data": fault.Unusable,
		"no_url": fault.Unusable, "foreign_url": fault.Unusable, "http_503": fault.Unavailable, "code_8016": fault.LinkNotMade,
	} {
		if err := sim.SetScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: name}}}}); err != nil {
			t.Fatal(err)
		}
		before := sim.State().LinkCalls
		made, f := c.CreateLink(t.Context(), attemptFor(name, request.Content{}))
		if f == nil || f.Kind != kind || made != (request.Link{}) {
			t.Errorf("%s: %+v", name, f)
		}
		if n := sim.State().LinkCalls - before; n != 1 {
			t.Errorf("%s: %d calls, want exactly one", name, n)
		}
	}
	if err := sim.SetScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(3 * time.Second)}}}}); err != nil {
		t.Fatal(err)
	}
	if _, f := c.CreateLink(t.Context(), attemptFor("slow", request.Content{})); f == nil || f.Kind != fault.TooMany || f.RetryAfter != 3*time.Second {
		t.Errorf("%+v", f)
	}
	if s := sim.State(); s.RedirectsFollowed != 0 || s.TokenRequests != 1 {
		t.Errorf("%+v", s)
	}
}

// A kept connection that breaks after the request was written is where Go's
// transport would repeat an idempotent request by itself.
func TestNothingIsSentTwice(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	breaks := func(w http.ResponseWriter, r *http.Request, answer string) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		calls[r.URL.Path]++
		first := calls[r.URL.Path] == 1
		mu.Unlock()
		if !first {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, answer)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == createPath {
			breaks(w, r, linkAnswer)
		} else {
			breaks(w, r, tokenAnswer)
		}
	}))
	defer s.Close()
	c, now := client(t, s.URL, func(c *Config) { c.Auth = AuthGet })
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f != nil {
		t.Fatal(f)
	}
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Lost {
		t.Fatal(f)
	}
	now.advance(2 * time.Hour)
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.TokenUnavailable {
		t.Fatal(f)
	}
	mu.Lock()
	defer mu.Unlock()
	if calls[createPath] != 2 || calls[legacyTokenPath] != 2 {
		t.Fatal(calls)
	}
}

func TestNotSent(t *testing.T) {
	create := func(c *Client) *fault.Fault {
		give(c, "t0k3n")
		_, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{}))
		return f
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	_ = l.Close()
	c, _ := client(t, "http://"+free, nil)
	if f := create(c); f.Kind != fault.NotSent || f.Detail != free+" refused the connection" {
		t.Errorf("refused: %+v", f)
	}
	if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != free+" refused the connection" {
		t.Errorf("a token is at hand, a connection is not: %+v", f)
	}
	give(c, "")
	if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != "access token: "+free+" refused the connection" {
		t.Errorf("token: %+v", f)
	}
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	defer s.Close()
	c, _ = client(t, s.URL, nil)
	if f := create(c); f.Kind != fault.NotSent || !strings.Contains(f.Detail, "which this machine does not trust") {
		t.Errorf("certificate: %+v", f)
	}
	c, _ = client(t, "https://"+deaf(t), func(c *Config) { c.Timeout = 50 * time.Millisecond })
	if f := create(c); f.Kind != fault.ConnectTimeout {
		t.Errorf("no TLS handshake: %+v", f)
	}
}

// deaf is the address of a server that accepts and then says nothing.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String() // the kernel accepts for it
}

func TestTLSVersions(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = io.WriteString(w, tokenAnswer)
	}))
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	for max, kind := range map[uint16]fault.Kind{tls.VersionTLS11: fault.NotSent, tls.VersionTLS12: 0, tls.VersionTLS13: 0} {
		s.TLS.MinVersion, s.TLS.MaxVersion = tls.VersionTLS10, max
		c, _ := client(t, s.URL, nil)
		c.pool.transport.TLSClientConfig.RootCAs = roots
		f := c.Ready(t.Context())
		if (f == nil) != (kind == 0) || f != nil && f.Kind != kind {
			t.Errorf("up to %s: %+v", tls.VersionName(max), f)
		}
	}
}

func TestCalledOff(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	c, _ := client(t, s.URL, nil)
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Lost {
		t.Errorf("after sending: %+v", f)
	}
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("before sending: %+v", f)
	}
	c, _ = client(t, s.URL, nil)
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("before a token: %+v", f)
	}
}

func TestBodyThatStops(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, linkAnswer[:20])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	c, _ := client(t, s.URL, func(c *Config) { c.Timeout = 100 * time.Millisecond })
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.TimedOut {
		t.Errorf("%+v", f)
	}
}

func TestSwitchedProtocolIsNotReadOn(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	s := server(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		go func() { <-hold; _ = conn.Close() }()
	})
	c, _ := client(t, s.URL, nil)
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Unreadable {
		t.Errorf("%+v", f)
	}
}

// A server that is not HTTP at all must not get its text into a fault.
func TestNoTextOfTheServerIsKept(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	defer func() { _ = l.Close(); <-done }()
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 s3cr3t-of-shop-7 \r\n\r\n")
			_ = conn.Close()
		}
	}()
	for _, auth := range []string{AuthPost, AuthGet} {
		c, _ := client(t, "http://"+l.Addr().String(), func(c *Config) { c.Auth = auth })
		_, f := c.CreateLink(t.Context(), attemptFor("A-1001", request.Content{}))
		if f == nil || f.Kind != fault.TokenUnavailable || strings.Contains(f.Error(), "s3cr3t") || strings.Contains(f.Error(), "shop") {
			t.Errorf("%s: %v", auth, f)
		}
	}
}
