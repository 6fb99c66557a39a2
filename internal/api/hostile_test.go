package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/fixture"
)

// mischief makes a request of which nothing may come.
func mischief(r *rand.Rand, base string) *http.Request {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	junk := func() string {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	good := func() string { return fmt.Sprintf(`{"application_id":"A-%d"}`, r.IntN(1000)) }
	body, kind, key, method, path := good(), "application/json", every, "POST", "/v1/links"
	switch r.IntN(10) {
	case 0: // no key, or a bad one
		key = pick("", "nobody", "enqueue,root", "read", "operate,read", junk())
	case 1: // broken JSON
		text := good()
		body = pick(text[:r.IntN(len(text))], text+pick("x", "{}", "\x00"), "["+text+"]", junk(), "null", `"A-1"`, strings.Repeat("[", 10_000))
	case 2: // values that make no sense
		body = fmt.Sprintf(`{"application_id":%s,%q:%s}`, pick(`""`, `"a b"`, "1", "null", `"\u0000"`, `"`+strings.Repeat("x", 129)+`"`),
			pick("redirect_url", "expiry_minutes", "not_after", "metadata", "lane"), pick(`"http://x"`, "-1", `"yesterday"`, "[]", `"slow"`))
	case 3: // keys that nobody knows, or twice
		body = fmt.Sprintf(`{"application_id":"A-1",%q:1}`, pick("expiry", "application_id", "APPLICATION_ID", "", "url"))
	case 4:
		kind = pick("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "text/csv", "///", junk())
	case 5:
		method = pick("PUT", "PATCH", "GET", "DELETE", "OPTIONS", "TRACE", "BREW", "post")
	case 6:
		path = pick("/", "/v1", "/v1/", "/v1/link", "/v1/links/", "/v2/links", "//v1/links", "/v1/../v1/links", "/v1/links/..", "/v1/batches/x/y", "/healthz/", "/v1/links?x=1", "/v1/links?generation=1", "/v1/links?%zz")
	case 7: // far too large
		body = `{"application_id":"` + strings.Repeat("x", maxRequest) + `"}`
	case 8: // a batch that cannot be
		kind, path = pick("text/csv", "application/x-ndjson", "application/json", ""), "/v1/batches"+pick("", "?batch=", "?batch=%00", "?batch=a&batch=b", "?batch=a&lane=bulk", "?batch=a&expiry_minutes=0", "?batch=a")
		body = pick("", "name\nx", "application_id,application_id\n", "application_id;x\n", "\"", "\x1f\x8b\x08")
		if path == "/v1/batches?batch=a" && kind == "application/x-ndjson" {
			body = "" // its rows would be rejected, and the rest is as it should be
		}
	case 9: // of what is not there
		method, path = pick("GET", "DELETE"), "/v1/links/"+url.PathEscape(pick("..", ".", "A 1", "x/y", junk()+"x"))
		if r.IntN(2) == 0 {
			method, path = "POST", "/v1/batches/"+url.PathEscape(junk()+"x")+"/"+pick("pause", "resume", "cancel", "retry", "retry?reason=none", "export")
		}
	}
	req, err := http.NewRequest(strings.ReplaceAll(method, " ", ""), base+"/", strings.NewReader(body))
	if err != nil {
		panic(err)
	}
	u, err := url.Parse(base + path)
	if err != nil { // %zz
		u, _ = url.Parse(base)
		u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	}
	req.URL = u
	clean := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, kind)
	if clean != "" {
		req.Header.Set("Content-Type", clean)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+strings.Map(func(c rune) rune {
			if c < ' ' || c == 0x7f {
				return '?'
			}
			return c
		}, key))
	}
	return req
}

func TestMalformedRequests(t *testing.T) {
	t.Parallel()
	s := open(t)
	const workers = 8
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for w := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range malformedRequests / workers {
				req := mischief(r, s.url).WithContext(t.Context())
				a := s.do(req)
				if a.StatusCode < 400 || a.StatusCode >= 500 {
					t.Errorf("%s %s: %d %s", req.Method, req.URL, a.StatusCode, a.body)
				}
				mu.Lock()
				seen[fmt.Sprint(a.StatusCode, " ", a.reason())]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	s.none()
	for _, want := range []string{"400 invalid", "401 unauthorized", "403 forbidden", "404 not_found", "405 method_not_allowed", "413 too_large", "415 unsupported_media_type", "422 invalid"} {
		if seen[want] == 0 {
			t.Errorf("no request was answered %s: %v", want, seen)
		}
	}
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "") // it still works
}

// What is no HTTP at all is answered by a problem document, too.
func TestWhatIsNoHTTP(t *testing.T) {
	t.Parallel()
	s := open(t)
	addr := strings.TrimPrefix(s.url, "http://")
	for _, tt := range []struct {
		sent   string
		status int
	}{
		{"GARBAGE\r\n\r\n", 400},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 401}, // by us
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"POST /v1/links HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}  ", 400},
		{"POST /v1/links HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n{} ", 400},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nBad Header\r\n\r\n", 400},
		{"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505},
		{"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: strange\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 20<<10) + "\r\n\r\n", 431},
		{"GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", 431},
		{"GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n", 417},
	} {
		conn, err := net.Dial("tcp", addr)
		s.Must(err)
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = io.WriteString(conn, tt.sent)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%.50q: %v", tt.sent, err)
			continue
		}
		body, _ := io.ReadAll(resp.Body)
		_ = conn.Close()
		p := decoded[problem](t, answer{resp, body})
		if resp.StatusCode != tt.status || p.Status != tt.status || resp.Header.Get("Content-Type") != "application/problem+json" || p.Title == "" {
			t.Errorf("%.50q: %d %v %s", tt.sent, resp.StatusCode, resp.Header, body)
		}
	}
}

// Whoever sends a body byte by byte is not waited for long, and a body that is
// larger than allowed is not read to its end.
func TestSlowAndEndlessBodies(t *testing.T) {
	t.Parallel()
	s := open(t)
	send := func(head string, body io.Reader) (answer, time.Duration) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		s.Must(err)
		defer func() { _ = conn.Close() }()
		began := time.Now()
		_ = conn.SetDeadline(began.Add(time.Minute))
		go func() {
			_, _ = io.Copy(conn, io.MultiReader(strings.NewReader(head+"\r\nHost: a\r\nAuthorization: Bearer "+every+"\r\n\r\n"), body))
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", head, err)
			return answer{Response: &http.Response{}}, 0
		}
		text, _ := io.ReadAll(resp.Body)
		return answer{resp, text}, time.Since(began)
	}
	var all sync.WaitGroup
	all.Go(func() {
		a, took := send("POST /v1/links HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100", slowly{t.Context().Done()})
		if a.reason() != "request_timeout" || took < bodyTimeout-time.Second || took > 3*bodyTimeout {
			t.Errorf("a slow body: %s after %v", a.reason(), took)
		}
	})
	all.Go(func() {
		a, _ := send("POST /v1/batches?batch=b HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 99999999999", strings.NewReader("application_id\n"))
		if a.reason() != "too_large" {
			t.Errorf("a body that says that it is too large: %s", a.reason())
		}
	})
	all.Go(func() { // 1 MiB is allowed
		rows := "application_id\n" + strings.Repeat("\n", 2<<20)
		a, _ := send("POST /v1/batches?batch=b HTTP/1.1\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked", strings.NewReader(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(rows), rows)))
		if a.reason() != "too_large" {
			t.Errorf("a body that is too large: %d %s", a.StatusCode, a.reason())
		}
	})
	all.Go(func() { // its head does not end
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		s.Must(err)
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(3 * headerTimeout))
		_, _ = io.WriteString(conn, "POST /v1/links HTTP/1.1\r\n")
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("it is kept waiting: %v", err)
		}
	})
	all.Wait()
	s.none()
}

// slowly gives a blank a second.
type slowly struct{ over <-chan struct{} }

func (s slowly) Read(p []byte) (int, error) {
	select {
	case <-s.over:
		return 0, io.EOF
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, r := range s.api.routes() {
		path := strings.NewReplacer("{application_id}", "A-1", "{id}", "b").Replace(r.path)
		for _, scope := range apikey.Scopes() {
			a := s.ask(r.method, path, "", "Authorization", "Bearer "+string(scope))
			if refused := a.StatusCode == http.StatusForbidden; refused != (r.scope != anyScope && scope != r.scope) || a.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s %s with the scope %s: %d", r.method, path, scope, a.StatusCode)
			}
		}
		if r.scope == anyScope {
			s.expect(s.ask(r.method, path, "", "Authorization", ""), http.StatusOK, "")
			continue
		}
		s.expect(s.ask(r.method, path, "", "Authorization", ""), http.StatusUnauthorized, "unauthorized")
		s.expect(s.ask(r.method, path, "", "Authorization", "Basic "+every), http.StatusUnauthorized, "unauthorized")
	}
	s.none()
}

// Where a header that counts once is given twice, two programs may go by different
// ones: it is refused. What may be a list is one.
func TestHeadersThatAreGivenTwice(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, tt := range []struct {
		name, first, second string
		status              int
	}{
		{"Authorization", "Bearer " + every, "Bearer " + every, http.StatusBadRequest},
		{"Authorization", "Bearer " + every, "Bearer read", http.StatusBadRequest},
		{"Authorization", "Bearer nobody", "Bearer " + every, http.StatusBadRequest},
		{"Content-Type", "application/json", "application/json", http.StatusBadRequest},
		{"Content-Type", "application/json", "text/csv", http.StatusBadRequest},
		{"Content-Encoding", "identity", "gzip", http.StatusBadRequest},
		{"Prefer", "respond-async", "wait=0", http.StatusAccepted},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/links", strings.NewReader(`{"application_id":"A-1"}`))
		s.Must(err)
		req.Header.Set("Authorization", "Bearer "+every)
		req.Header.Set("Content-Type", "application/json")
		req.Header[tt.name] = []string{tt.first, tt.second}
		if a := s.do(req); a.StatusCode != tt.status || tt.status == http.StatusBadRequest && !strings.Contains(string(a.body), tt.name+": is given twice") {
			t.Errorf("%+v: %d %s", tt, a.StatusCode, a.body)
		}
		if tt.status == http.StatusBadRequest {
			s.none()
		}
	}
}

// The requests beyond the limit are sent at once: one after the other they might take so
// long that the limit allows each.
func TestRateLimit_AppliesToEachKey(t *testing.T) {
	t.Parallel()
	s := openAt(t, fixture.Redis(), func(c *Config) { c.PerSecond = 1 })
	get := func(key string) answer { return s.ask("GET", "/v1/account", "", "Authorization", "Bearer "+key) }
	s.expect(get("read"), http.StatusOK, "")
	answers := make([]answer, 60)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = get("read") })
	}
	all.Wait()
	refused := slices.IndexFunc(answers, func(a answer) bool { return a.StatusCode != http.StatusOK })
	if refused < 0 {
		t.Fatalf("all of %d requests at once are answered with 200", len(answers))
	}
	if a := s.expect(answers[refused], http.StatusTooManyRequests, "rate_limited"); a.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	s.expect(get("read,operate"), http.StatusOK, "")
}

func TestRequestIDs(t *testing.T) {
	t.Parallel()
	s := open(t)
	for given, kept := range map[string]bool{"": false, "order-42:a.b_C": true, "a b": false, strings.Repeat("x", 65): false, "<script>": false, strings.Repeat("x", 64): true} {
		a := s.ask("GET", "/healthz", "", "X-Request-Id", given)
		if got := a.Header.Get("X-Request-Id"); (got == given) != kept {
			t.Errorf("%q becomes %q", given, got)
		}
	}
}

// A bug is a problem document, too, and the next request is answered.
func TestPanics(t *testing.T) {
	t.Parallel()
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Keys = panicking{} })
	s.expect(s.ask("GET", "/v1/account", ""), http.StatusInternalServerError, "internal")
	s.expect(s.ask("GET", "/healthz", ""), http.StatusOK, "")
	s = openAt(t, fixture.Redis(), func(c *Config) { c.Audit = panicking{} })
	for range maxAccepting + 1 {
		s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusInternalServerError, "internal")
	}
}

type panicking struct {
	Keys
	Audit
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"application_id":"A-1"}`, `{"application_id":"A-1","metadata":{"a":[1]}}`, "", "{", `{"application_id":"A-1","not_after":"2026-12-01T00:00:00Z"}`, "\xff"} {
		f.Add([]byte(seed))
	}
	s := open(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		s.TB = t
		a := s.ask("POST", "/v1/links", string(body), "Content-Type", "application/json")
		if a.StatusCode != http.StatusAccepted && (a.StatusCode < 400 || a.StatusCode >= 500) {
			t.Errorf("%q: %d %s", body, a.StatusCode, a.body)
		}
	})
}

// stuck is a trail that heeds no context.
type stuck struct{ until chan struct{} }

func (a stuck) Append(context.Context, audit.Change) error {
	<-a.until
	return nil
}

// What Redis does not take is answered in time, and not accepted after that.
func TestWhatHangsIsAnswered(t *testing.T) {
	t.Parallel()
	hung := stuck{make(chan struct{})}
	s := openAt(t, fixture.Redis(), func(c *Config) { c.Audit = hung })
	s.api.timeout = 50 * time.Millisecond
	var all sync.WaitGroup
	for range 2 * maxAccepting {
		all.Go(func() {
			s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusServiceUnavailable, "unavailable")
		})
	}
	all.Wait()
	close(hung.until)
	s.Eventually("all turns are given back", func() bool { return len(s.api.accepting) == 0 })
	s.none()
	s.api.timeout = shortTimeout
	s.expect(s.ask("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
}
