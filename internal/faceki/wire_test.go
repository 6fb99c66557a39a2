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

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { fixture.Main(m) }

// clock is a clock that the test sets.
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

func attemptFor(id string, content request.Content) Call {
	return Call{
		ApplicationID: id, RedirectURL: content.RedirectURL, ExpiryMinutes: content.ExpiryMinutes, DocumentOptional: content.DocumentOptional,
		WorkflowID: content.WorkflowID, OwnWorkflow: content.WorkflowID != "",
	}
}

// client returns a client that treats the server at the base URL as a simulator.
func client(t *testing.T, baseURL string, change func(*Config)) (*Client, *clock) {
	t.Helper()
	cfg := config()
	cfg.BaseURL, cfg.Simulated, cfg.Timeout = baseURL, true, time.Minute
	if change != nil {
		change(&cfg)
	}
	now := newClock()
	c := New(cfg, now.Now, nil)
	t.Cleanup(c.Close)
	return c, now
}

// simulated starts a simulator, and returns a client with the same clock.
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

// server starts a server that grants tokens and passes create calls to the handler.
func server(t *testing.T, create http.HandlerFunc) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	answerWithToken := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, tokenAnswer) }
	mux.HandleFunc(tokenPath, answerWithToken)
	mux.HandleFunc(legacyTokenPath, answerWithToken)
	mux.HandleFunc(createPath, create)
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func TestCreateLink_SendsTheRequestsOfTheGoldenFiles(t *testing.T) {
	yes := true
	full := request.Content{RedirectURL: "https://shop.example/done?a=1&b=<2>", ExpiryMinutes: 1440, DocumentOptional: &yes,
		WorkflowID: "wf-3", CallbackURL: "https://shop.example/hook", Metadata: json.RawMessage(`{"customer":"42"}`)}
	for name, c := range map[string]struct {
		change  func(*Config)
		content request.Content
	}{
		"minimal":               {nil, request.Content{}},
		"full":                  {nil, full},
		"expiry as string":      {func(c *Config) { c.ExpiryType = ExpiryString }, full},
		"legacy authentication": {func(c *Config) { c.Auth, c.ClientID, c.BaseURL = AuthGet, "shop&7", c.BaseURL+"/prefix/" }, request.Content{ExpiryMinutes: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			var received strings.Builder
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				fmt.Fprintf(&received, "%s %s\n", r.Method, r.RequestURI)
				for _, key := range []string{"Accept", "Accept-Encoding", "Authorization", "Connection", "Content-Length", "Content-Type", "Idempotency-Key", "User-Agent"} {
					for _, value := range r.Header.Values(key) {
						fmt.Fprintf(&received, "%s: %s\n", key, value)
					}
				}
				fmt.Fprintf(&received, "\n%s\n\n", body)
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
				t.Fatalf("link %+v, fault %v", made, f)
			}
			golden(t, strings.ReplaceAll(name, " ", "_"), strings.TrimSpace(received.String())+"\n")
		})
	}
}

func TestCreateLink_IgnoresAByteOrderMarkBeforeTheAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "\ufeff"+map[bool]string{true: tokenAnswer, false: linkAnswer}[r.URL.Path == tokenPath])
	}))
	defer s.Close()
	c, _ := client(t, s.URL, nil)
	if made, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f != nil || made.LinkID != "l1nk" {
		t.Errorf("link %+v, fault %v", made, f)
	}
}

func TestCreateLink_SendsDefaultsAndReportsTheirFaultsForTheAccount(t *testing.T) {
	var sent string
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sent = string(body)
		_, _ = io.WriteString(w, `{"responseCode":5001}`)
	})
	c, _ := client(t, s.URL, nil)
	for _, tt := range []struct {
		call Call
		kind fault.Kind
		sent string
	}{
		{Call{ExpiryMinutes: 9, WorkflowID: "wf-default"}, fault.AccountRules, `{"expiryTime":9,"applicationId":"A","workflowId":"wf-default"}`},
		{Call{WorkflowID: "wf-own", OwnWorkflow: true, ExpiryMinutes: 2}, fault.RulesMissing, `{"expiryTime":2,"applicationId":"A","workflowId":"wf-own"}`},
	} {
		tt.call.ApplicationID = "A"
		_, f := c.CreateLink(t.Context(), tt.call)
		if f == nil || f.Kind != tt.kind || sent != tt.sent {
			t.Errorf("sent %s, fault %+v; want %s and kind %d", sent, f, tt.sent, tt.kind)
		}
	}
}

// golden compares with a golden file, or writes it with -update.
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
		t.Errorf("%s: %v; sent\n%s\nwant\n%s", file, err, got, want)
	}
}

func TestCreateLink_ClassifiesTheFaultsOfTheSimulator(t *testing.T) {
	sim, c, _ := simulated(t, simulator.Config{}, nil)
	if f := c.Ready(t.Context()); f != nil {
		t.Fatal(f)
	}
	for name, kind := range map[string]fault.Kind{
		"reset_before": fault.Lost, "reset_after": fault.Lost, "truncated": fault.Unreadable, "not_json": fault.Unreadable,
		"too_long": fault.Unreadable, "hang": fault.TimedOut, "redirect": fault.NotFaceKi, "no_data": fault.Unusable,
		"no_url": fault.Unusable, "foreign_url": fault.Unusable, "http_503": fault.Unavailable, "code_8016": fault.LinkNotMade,
	} {
		if err := sim.SetScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: name}}}}); err != nil {
			t.Fatal(err)
		}
		before := sim.State().LinkCalls
		if c.cfg.Timeout = time.Minute; name == "hang" {
			c.cfg.Timeout = time.Second
		}
		made, f := c.CreateLink(t.Context(), attemptFor(name, request.Content{}))
		if f == nil || f.Kind != kind || made != (request.Link{}) {
			t.Errorf("%s: link %+v, fault %+v; want kind %d", name, made, f, kind)
		}
		if n := sim.State().LinkCalls - before; n != 1 {
			t.Errorf("%s: %d create calls, want 1", name, n)
		}
	}
	c.cfg.Timeout = time.Minute
	if err := sim.SetScript(simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_429", RetryAfter: simulator.Duration(3 * time.Second)}}}}); err != nil {
		t.Fatal(err)
	}
	if _, f := c.CreateLink(t.Context(), attemptFor("slow", request.Content{})); f == nil || f.Kind != fault.TooMany || f.RetryAfter != 3*time.Second {
		t.Errorf("http_429: %+v, want 3s as RetryAfter", f)
	}
	if s := sim.State(); s.RedirectsFollowed != 0 || s.TokenRequests != 1 {
		t.Errorf("%d redirects followed and %d token requests, want 0 and 1", s.RedirectsFollowed, s.TokenRequests)
	}
}

// TestClient_SendsNoRequestTwice breaks a reused connection after the request was written. In
// that case Go's transport would repeat an idempotent request.
func TestClient_SendsNoRequestTwice(t *testing.T) {
	var mu sync.Mutex
	calls := map[string]int{}
	answerOnce := func(w http.ResponseWriter, r *http.Request, answer string) {
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
			answerOnce(w, r, linkAnswer)
		} else {
			answerOnce(w, r, tokenAnswer)
		}
	}))
	defer s.Close()
	c, now := client(t, s.URL, func(c *Config) { c.Auth = AuthGet })
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f != nil {
		t.Fatal(f)
	}
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Lost {
		t.Fatalf("broken create call: %v, want a lost answer", f)
	}
	now.advance(2 * time.Hour)
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.TokenUnavailable {
		t.Fatalf("broken request for a token: %v, want an unavailable token", f)
	}
	mu.Lock()
	defer mu.Unlock()
	if calls[createPath] != 2 || calls[legacyTokenPath] != 2 {
		t.Fatalf("requests by path: %v, want 2 each", calls)
	}
}

func TestClient_SaysWhyNothingWasSent(t *testing.T) {
	create := func(c *Client) *fault.Fault {
		setToken(c, "t0k3n")
		_, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{}))
		return f
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := l.Addr().String()
	_ = l.Close()
	c, _ := client(t, "http://"+unused, nil)
	if f := create(c); f.Kind != fault.NotSent || f.Detail != unused+" refused the connection" {
		t.Errorf("create call without a server: %+v", f)
	}
	if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != unused+" refused the connection" {
		t.Errorf("connection without a server: %+v", f)
	}
	setToken(c, "")
	if f := c.Ready(t.Context()); f == nil || f.Kind != fault.NotSent || f.Detail != "access token: "+unused+" refused the connection" {
		t.Errorf("token without a server: %+v", f)
	}
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	defer s.Close()
	c, _ = client(t, s.URL, nil)
	if f := create(c); f.Kind != fault.NotSent || !strings.Contains(f.Detail, "which this machine does not trust") {
		t.Errorf("untrusted certificate: %+v", f)
	}
	c, _ = client(t, "https://"+silentServer(t), func(c *Config) { c.Timeout = 50 * time.Millisecond })
	if f := create(c); f.Kind != fault.ConnectTimeout {
		t.Errorf("silent server: %+v, want a timeout", f)
	}
}

// silentServer returns the address of a server that accepts connections and sends nothing.
func silentServer(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String() // the kernel accepts the connections
}

func TestReady_RequiresTLS12AndUsesHTTP1(t *testing.T) {
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
			t.Errorf("server with at most %s: %+v, want kind %d", tls.VersionName(max), f, kind)
		}
	}
}

func TestCreateLink_ReportsWhetherACancelledCallWasSent(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	c, _ := client(t, s.URL, nil)
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Lost {
		t.Errorf("cancelled after sending: %+v, want a lost answer", f)
	}
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("cancelled before sending: %+v, want an interruption", f)
	}
	c, _ = client(t, s.URL, nil)
	if _, f := c.CreateLink(ctx, attemptFor("A", request.Content{})); f == nil || f.Kind != fault.Interrupted {
		t.Errorf("cancelled before the request for a token: %+v, want an interruption", f)
	}
}

func TestCreateLink_TimesOutWhenTheBodyStops(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, linkAnswer[:20])
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	c, _ := client(t, s.URL, func(c *Config) { c.Timeout = time.Second })
	setToken(c, "t0k3n")
	if _, f := c.CreateLink(t.Context(), attemptFor("A", request.Content{})); f == nil || f.Kind != fault.TimedOut {
		t.Errorf("fault %+v, want a timeout", f)
	}
}

func TestCreateLink_DoesNotReadAfterASwitchOfProtocols(t *testing.T) {
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
		t.Errorf("fault %+v, want an unreadable answer", f)
	}
}

func TestFault_OmitsTheTextOfAServerWithoutHTTP(t *testing.T) {
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
			t.Errorf("%s: fault %v, want an unavailable token without the text of the server", auth, f)
		}
	}
}
