package console

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is the console of one account, served over HTTP.
type harness struct {
	*ledgertest.Harness

	console *Console
	sender  *callback.Sender // of test events
	keys    *apikey.Keyring
	trail   *audit.Trail
	url     string
	// maxBacklog is the largest backlog of a lane into which the console imports; 0 for any.
	maxBacklog int
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	t.Parallel()
	h := &harness{Harness: ledgertest.New(t)}
	account := h.Keys.Account
	h.keys, h.trail = apikey.NewKeyring(h.Redis, account), audit.NewTrail(h.Redis, account)
	core, logged := observer.New(zap.InfoLevel)
	stopping := make(chan struct{})
	h.console = New(Config{
		Redis: h.Redis, Stores: h.Stores, Keys: h.keys, Audit: h.trail, Refused: func(string) {}, Log: zap.New(core), Stopping: stopping,
		Ping: func(ctx context.Context, to string) (delivery.Reply, error) {
			_, reply, err := h.sender.Ping(ctx, account, to)
			return reply, err
		},
		Importer: h.importer, MaxBody: maxBody, ExpiryMinutes: 1440,
	})
	h.console.timeout = time.Minute // the tests' machine may be busy
	server := httptest.NewServer(h.console)
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(stopping) })
	h.url = server.URL
	t.Cleanup(func() {
		for _, line := range logged.All() {
			if line.Level > zap.WarnLevel || strings.Contains(line.Message, "page failed") {
				t.Errorf("logged: %s %v", line.Message, line.ContextMap())
			}
		}
	})
	return h
}

// runActions carries out actions until the end of the test.
func (h *harness) runActions() {
	h.Helper()
	runner := action.NewRunner(action.RunnerConfig{
		Redis: h.Redis, Account: h.Keys.Account, Pause: 10 * time.Millisecond, Lease: time.Minute, Log: zap.NewNop(), Limited: zap.NewNop(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); runner.Run(ctx) }()
	h.Cleanup(func() { cancel(); <-ended })
}

// maxBody is the size of the largest file that the console of a test imports.
const maxBody = 1 << 20

// importer returns a client for imports.
func (h *harness) importer(onFull func(*tasks.BacklogError)) *tasks.Client {
	return tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: h.maxBacklog, OnFull: onFull})
}

// browser is a client with cookies that follows no redirect.
type browser struct {
	h    *harness
	http *http.Client
	key  string
	id   string // of the key
}

// newBrowser returns a browser that is not signed in, and a new key for it.
func (h *harness) newBrowser(scopes ...apikey.Scope) *browser {
	h.Helper()
	key, issued, err := h.keys.Create(h.Context(), "Mara", scopes)
	h.Must(err)
	jar, err := cookiejar.New(nil)
	h.Must(err)
	transport := &http.Transport{}
	h.Cleanup(transport.CloseIdleConnections)
	return &browser{h, &http.Client{
		Jar: jar, Transport: transport, Timeout: time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, key, issued.ID}
}

// signedIn returns a browser that has signed in.
func (h *harness) signedIn(scopes ...apikey.Scope) *browser {
	h.Helper()
	b := h.newBrowser(scopes...)
	b.signIn()
	return b
}

func (b *browser) signIn() {
	b.h.Helper()
	b.post("/sign-in", http.StatusSeeOther, "key", b.key)
}

// page is a response with its body.
type page struct {
	*http.Response
	text string
}

func (b *browser) do(r *http.Request) page {
	b.h.Helper()
	resp, err := b.http.Do(r)
	b.h.Must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	b.h.Must(err)
	return page{resp, string(text)}
}

// get opens a page, and ends the test unless the status is as wanted.
func (b *browser) get(path string, status int) page {
	b.h.Helper()
	r, err := http.NewRequestWithContext(b.h.Context(), http.MethodGet, b.h.url+path, nil)
	b.h.Must(err)
	return b.expect(b.do(r), status)
}

func (b *browser) expect(p page, status int) page {
	b.h.Helper()
	if p.StatusCode != status {
		b.h.Fatalf("%s %s: got %d, want %d\n%s", p.Request.Method, p.Request.URL, p.StatusCode, status, p.text)
	}
	return p
}

// form returns a request that sends a form as a browser does from a page of the console.
func (b *browser) form(path string, fields ...string) *http.Request {
	b.h.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.values(path, form)
}

// values is [browser.form] for fields that may be repeated.
func (b *browser) values(path string, form url.Values) *http.Request {
	b.h.Helper()
	r, err := http.NewRequestWithContext(b.h.Context(), http.MethodPost, b.h.url+path, strings.NewReader(form.Encode()))
	b.h.Must(err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", b.h.url)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

func (b *browser) post(path string, status int, fields ...string) page {
	b.h.Helper()
	return b.expect(b.do(b.form(path, fields...)), status)
}

// changes returns who changed what, the oldest first.
func (h *harness) changes() []string {
	h.Helper()
	var all []string
	for c, err := range h.trail.Changes(context.WithoutCancel(h.Context()), time.Time{}) {
		h.Must(err)
		all = append(all, strings.TrimSpace(c.Key.Name+" "+c.Action+" "+c.Target))
	}
	return all
}
