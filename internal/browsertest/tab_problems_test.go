//go:build browser

package browsertest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
)

// TestTab_NoticesWhatAPageMustNotDo proves that the tests fail for a page that violates its
// policy, asks another origin, has an error, or lets hostile text in.
func TestTab_NoticesWhatAPageMustNotDo(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(other.Close)
	const strict, lax = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'", "default-src * 'unsafe-inline'"
	pages := map[string]struct{ policy, body, problem string }{
		"/inline-script":   {strict, `<script>window.ran = 1</script>`, "policy violation: script-src-elem inline"},
		"/inline-style":    {strict, `<p style="color: red">text</p>`, "policy violation: style-src-attr inline"},
		"/event-handler":   {strict, `<img src="/missing" onerror="hacked = 1">`, "policy violation: script-src-attr inline"},
		"/blocked-origin":  {strict, `<img src="` + other.URL + `/x.png">`, "policy violation: img-src " + other.URL},
		"/other-origin":    {lax, `<img src="` + other.URL + `/x.png">`, "request to another origin: " + other.URL},
		"/other-fetch":     {lax, `<script>fetch("` + other.URL + `").catch(() => {})</script>`, "request to another origin: " + other.URL},
		"/console-error":   {lax, `<script>console.error("wrong")</script>`, `console: "wrong"`},
		"/console-warning": {lax, `<script>console.warn("wrong")</script>`, `console: "wrong"`},
		"/exception":       {lax, `<script>throw new Error("wrong")</script>`, "exception: Uncaught Error: wrong"},
		"/rejection":       {lax, `<script>Promise.reject(new Error("wrong"))</script>`, "exception: Uncaught (in promise) Error: wrong"},
		"/missing-script":  {lax, `<script src="/missing"></script>`, "the server responded with a status of 404"},
	}
	pages["/payload"] = struct{ policy, body, problem string }{lax, payload, "the server responded with a status of 404"}
	console := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.Path]
		if !ok && r.URL.Path != "/favicon.ico" {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", page.policy)
		_, _ = w.Write([]byte("<!doctype html><title>A page</title>" + page.body))
	}))
	t.Cleanup(console.Close)
	account := fixture.NewAccountOn(t, server)
	s := &system{Account: account, keys: apikey.NewKeyring(account.Redis, account.Keys.Account), url: console.URL}
	for path, page := range pages {
		b := s.open(apikey.Read)
		b.visit(path)
		fixture.Eventually(b, path+" is reported as "+page.problem, func() bool { return strings.Contains(strings.Join(b.unexpected(), "\n"), page.problem) })
		if path == "/payload" && (!b.isHacked() || b.hostileElements() == "") {
			t.Errorf("a page with the payload as markup: hacked %v, elements %q", b.isHacked(), b.hostileElements())
		}
		b.expectProblem("") // all of them
	}
}
