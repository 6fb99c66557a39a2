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

// malformedRequest returns a request that the API must refuse.
func malformedRequest(r *rand.Rand, base string) *http.Request {
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	junk := func() string {
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.IntN(256))
		}
		return string(b)
	}
	good := func() string { return fmt.Sprintf(`{"application_id":"A-%d"}`, r.IntN(1000)) }
	body, kind, key, method, path := good(), "application/json", allScopes, "POST", "/v1/links"
	switch r.IntN(10) {
	case 0: // no key, or a bad one
		key = pick("", "nobody", "enqueue,root", "read", "operate,read", junk())
	case 1: // broken JSON
		text := good()
		body = pick(text[:r.IntN(len(text))], text+pick("x", "{}", "\x00"), "["+text+"]", junk(), "null", `"A-1"`, strings.Repeat("[", 10_000))
	case 2: // wrong values
		body = fmt.Sprintf(`{"application_id":%s,%q:%s}`, pick(`""`, `"a b"`, "1", "null", `"\u0000"`, `"`+strings.Repeat("x", 129)+`"`),
			pick("redirect_url", "expiry_minutes", "not_after", "metadata", "lane"), pick(`"http://x"`, "-1", `"yesterday"`, "[]", `"slow"`))
	case 3: // unknown or repeated keys
		body = fmt.Sprintf(`{"application_id":"A-1",%q:1}`, pick("expiry", "application_id", "APPLICATION_ID", "", "url"))
	case 4:
		kind = pick("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", "text/csv", "///", junk())
	case 5:
		method = pick("PUT", "PATCH", "LINK", "DELETE", "OPTIONS", "TRACE", "BREW", "post")
	case 6:
		path = pick("/", "/v1", "/v1/", "/v1/link", "/v1/links/", "/v2/links", "//v1/links", "/v1/../v1/links", "/v1/links/..", "/v1/batches/x/y", "/healthz/", "/v1/links?x=1", "/v1/links?generation=1", "/v1/links?%zz")
	case 7: // far too large
		body = `{"application_id":"` + strings.Repeat("x", maxRequest) + `"}`
	case 8: // a batch with a wrong name, option, media type or header
		kind, path = pick("text/csv", "application/x-ndjson", "application/json", ""), "/v1/batches"+pick("", "?batch=", "?batch=%00", "?batch=a&batch=b", "?batch=a&lane=bulk", "?batch=a&expiry_minutes=0", "?batch=a")
		body = pick("", "name\nx", "application_id,application_id\n", "application_id;x\n", "\"", "\x1f\x8b\x08")
		if path == "/v1/batches?batch=a" && kind == "application/x-ndjson" {
			body = "" // otherwise the upload succeeds, and only its rows are rejected
		}
	case 9: // an unknown link or batch
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

func TestAPI_RefusesMalformedRequests(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	const workers = 8
	var all sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]int{}
	for w := range workers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for range malformedRequests / workers {
				req := malformedRequest(r, s.url).WithContext(t.Context())
				a := s.sendRequest(req)
				if a.StatusCode < 400 || a.StatusCode >= 500 {
					t.Errorf("%s %s: got %d %s, want a status from 400 to 499", req.Method, req.URL, a.StatusCode, a.body)
				}
				mu.Lock()
				seen[fmt.Sprint(a.StatusCode, " ", a.reason())]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	s.expectNothingAccepted()
	for _, want := range []string{"400 invalid", "401 unauthorized", "403 forbidden", "404 not_found", "405 method_not_allowed", "413 too_large", "415 unsupported_media_type", "422 invalid"} {
		if seen[want] == 0 {
			t.Errorf("no request was answered %s; the answers were %v", want, seen)
		}
	}
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "") // the API still works
}

func TestServer_AnswersInvalidHTTPWithProblems(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	addr := strings.TrimPrefix(s.url, "http://")
	for _, tt := range []struct {
		sent   string
		status int
	}{
		{"GARBAGE\r\n\r\n", 400},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 401}, // by the API, not by net/http
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
		p := decode[problem](t, answer{resp, body})
		if resp.StatusCode != tt.status || p.Status != tt.status || resp.Header.Get("Content-Type") != "application/problem+json" || p.Title == "" {
			t.Errorf("%.50q: got %d %v %s, want the problem %d", tt.sent, resp.StatusCode, resp.Header, body, tt.status)
		}
	}
}

func TestServer_EndsSlowAndOversizedRequests(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	const limit = 3 * time.Second
	s.api.bodyTimeout = limit
	send := func(head string, body io.Reader) (answer, time.Duration) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		s.Must(err)
		defer func() { _ = conn.Close() }()
		began := time.Now()
		_ = conn.SetDeadline(began.Add(5 * time.Minute))
		go func() {
			_, _ = io.Copy(conn, io.MultiReader(strings.NewReader(head+"\r\nHost: a\r\nAuthorization: Bearer "+allScopes+"\r\n\r\n"), body))
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
		if a.reason() != "request_timeout" || took < limit || took > 3*bodyTimeout {
			t.Errorf("a slow body: got %s after %v, want request_timeout after %v", a.reason(), took, limit)
		}
	})
	all.Go(func() {
		a, _ := send("POST /v1/batches?batch=b HTTP/1.1\r\nContent-Type: text/csv\r\nContent-Length: 99999999999", strings.NewReader("application_id\n"))
		if a.reason() != "too_large" {
			t.Errorf("a body with a Content-Length that is too large: got %s, want too_large", a.reason())
		}
	})
	all.Go(func() { // 1 MiB is allowed
		rows := "application_id\n" + strings.Repeat("\n", 2<<20)
		a, _ := send("POST /v1/batches?batch=b HTTP/1.1\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked", strings.NewReader(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(rows), rows)))
		if a.reason() != "too_large" {
			t.Errorf("a chunked body that is too large: got %d %s, want too_large", a.StatusCode, a.reason())
		}
	})
	all.Go(func() { // its header does not end
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		s.Must(err)
		defer func() { _ = conn.Close() }()
		_ = conn.SetReadDeadline(time.Now().Add(3 * headerTimeout))
		_, _ = io.WriteString(conn, "POST /v1/links HTTP/1.1\r\n")
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("an incomplete header: %v; want the connection closed within %v", err, 3*headerTimeout)
		}
	})
	all.Wait()
	s.expectNothingAccepted()
}

// slowly is a reader that returns one space each second.
type slowly struct{ done <-chan struct{} }

func (s slowly) Read(p []byte) (int, error) {
	select {
	case <-s.done:
		return 0, io.EOF
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	}
}

func TestRoutes_NeedTheirScope(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, r := range s.api.routes() {
		path := strings.NewReplacer("{application_id}", "A-1", "{id}", "b").Replace(r.path)
		for _, scope := range apikey.Scopes() {
			a := s.send(r.method, path, "", "Authorization", "Bearer "+string(scope))
			if refused := a.StatusCode == http.StatusForbidden; refused != (r.scope != anyScope && scope != r.scope) || a.StatusCode == http.StatusUnauthorized {
				t.Errorf("%s %s with the scope %s: got %d, want 403 unless the scope is %s", r.method, path, scope, a.StatusCode, r.scope)
			}
		}
		if r.scope == anyScope {
			s.expect(s.send(r.method, path, "", "Authorization", ""), http.StatusOK, "")
			continue
		}
		s.expect(s.send(r.method, path, "", "Authorization", ""), http.StatusUnauthorized, "unauthorized")
		s.expect(s.send(r.method, path, "", "Authorization", "Basic "+allScopes), http.StatusUnauthorized, "unauthorized")
	}
	s.expectNothingAccepted()
}

// Of a repeated header, a proxy and the API might use different values. Prefer may be a list.
func TestAPI_RefusesRepeatedHeaders(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for _, tt := range []struct {
		name, first, second string
		status              int
	}{
		{"Authorization", "Bearer " + allScopes, "Bearer " + allScopes, http.StatusBadRequest},
		{"Authorization", "Bearer " + allScopes, "Bearer read", http.StatusBadRequest},
		{"Authorization", "Bearer nobody", "Bearer " + allScopes, http.StatusBadRequest},
		{"Content-Type", "application/json", "application/json", http.StatusBadRequest},
		{"Content-Type", "application/json", "text/csv", http.StatusBadRequest},
		{"Content-Encoding", "identity", "gzip", http.StatusBadRequest},
		{"Prefer", "respond-async", "wait=0", http.StatusAccepted},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/links", strings.NewReader(`{"application_id":"A-1"}`))
		s.Must(err)
		req.Header.Set("Authorization", "Bearer "+allScopes)
		req.Header.Set("Content-Type", "application/json")
		req.Header[tt.name] = []string{tt.first, tt.second}
		if a := s.sendRequest(req); a.StatusCode != tt.status || tt.status == http.StatusBadRequest && !strings.Contains(string(a.body), tt.name+": is given twice") {
			t.Errorf("%+v: got %d %s", tt, a.StatusCode, a.body)
		}
		if tt.status == http.StatusBadRequest {
			s.expectNothingAccepted()
		}
	}
}

// The requests beyond the limit are sent at once, because on a slow machine sequential
// ones might be slow enough for the limit.
func TestRateLimit_AppliesToEachKey(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.PerSecond = 1 })
	get := func(key string) answer { return s.send("GET", "/v1/account", "", "Authorization", "Bearer "+key) }
	s.expect(get("read"), http.StatusOK, "")
	answers := make([]answer, 60)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = get("read") })
	}
	all.Wait()
	refused := slices.IndexFunc(answers, func(a answer) bool { return a.StatusCode != http.StatusOK })
	if refused < 0 {
		t.Fatalf("all of %d concurrent requests got 200, want some 429", len(answers))
	}
	if a := s.expect(answers[refused], http.StatusTooManyRequests, "rate_limited"); a.Header.Get("Retry-After") == "" {
		t.Error("Retry-After is missing")
	}
	s.expect(get("read,operate"), http.StatusOK, "")
}

func TestRequestID_IsKeptOnlyWhenSafe(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	for given, kept := range map[string]bool{"": false, "order-42:a.b_C": true, "a b": false, strings.Repeat("x", 65): false, "<script>": false, strings.Repeat("x", 64): true} {
		a := s.send("GET", "/healthz", "", "X-Request-Id", given)
		if got := a.Header.Get("X-Request-Id"); (got == given) != kept {
			t.Errorf("X-Request-Id %q became %q, want it kept: %t", given, got, kept)
		}
	}
}

// A panic releases its place among the concurrent accepts, so that later requests are
// answered too.
func TestAPI_AnswersInternalErrorOnPanic(t *testing.T) {
	t.Parallel()
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Keys = panicking{} })
	s.expect(s.send("GET", "/v1/account", ""), http.StatusInternalServerError, "internal")
	s.expect(s.send("GET", "/healthz", ""), http.StatusOK, "")
	s = newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Audit = panicking{} })
	for range maxAccepting + 1 {
		s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusInternalServerError, "internal")
	}
}

// panicking panics in every method, because its interfaces are nil.
type panicking struct {
	Keys
	Audit
}

func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{"application_id":"A-1"}`, `{"application_id":"A-1","metadata":{"a":[1]}}`, "", "{", `{"application_id":"A-1","not_after":"2026-12-01T00:00:00Z"}`, "\xff"} {
		f.Add([]byte(seed))
	}
	s := newHarness(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		s.TB = t
		a := s.send("POST", "/v1/links", string(body), "Content-Type", "application/json")
		if a.StatusCode != http.StatusAccepted && (a.StatusCode < 400 || a.StatusCode >= 500) {
			t.Errorf("%q: got %d %s, want 202 or 4xx", body, a.StatusCode, a.body)
		}
	})
}

// stuck is an audit trail that ignores its context, and returns when release is closed.
type stuck struct{ release chan struct{} }

func (a stuck) Append(context.Context, audit.Change) error {
	<-a.release
	return nil
}

// A request that was answered with an error is not accepted afterwards.
func TestAPI_AnswersInTimeWhileTheAuditTrailHangs(t *testing.T) {
	t.Parallel()
	hung := stuck{make(chan struct{})}
	s := newHarnessOn(t, fixture.Redis(), func(c *Config) { c.Audit = hung })
	s.api.timeout = 50 * time.Millisecond
	var all sync.WaitGroup
	for range 2 * maxAccepting {
		all.Go(func() {
			s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusServiceUnavailable, "unavailable")
		})
	}
	all.Wait()
	close(hung.release)
	s.Eventually("no request is being accepted", func() bool { return len(s.api.accepting) == 0 })
	s.expectNothingAccepted()
	s.api.timeout = shortTimeout
	s.expect(s.send("POST", "/v1/links", `{"application_id":"A-1"}`), http.StatusAccepted, "")
}
