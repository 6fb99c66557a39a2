package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

const hostileID = `</title><script>alert('1')</script>"onmouseover="x`

// populated returns an account with requests in all states, whose texts are hostile.
func populated(t *testing.T) *harness {
	h := newHarness(t)
	for _, state := range []string{"created", "failed", "held", "waiting"} {
		h.Do("A-"+state, ledgertest.Paths()[state]...)
	}
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{
		ApplicationID: hostileID, Metadata: []byte(`{"</pre><img src=x onerror=alert(2)>":"\u202e"}`),
	})
	h.Must(err)
	h.Import(`<b onclick=alert(3)>"&name=x`, []tasks.Request{{ApplicationID: "B-1"}})
	return h
}

// pages are all pages of a populated account, with the page of a hostile request.
func (h *harness) pages() []string {
	return []string{
		"/", "/requests", "/requests?status=held", "/requests?batch=spring", "/requests?batch=nothing", "/requests?since=x", "/requests?cursor=x",
		"/request?id=A-created", "/request?id=A-failed", "/request?id=A-held", "/request?id=A-waiting",
		"/request?id=%3C%2Ftitle%3E%3Cscript%3Ealert%28%271%27%29%3C%2Fscript%3E%22onmouseover%3D%22x", "/request?id=%3Cscript%3E",
		"/batches", "/batches?find=%3Cscript%3E", "/batches/new?batch=%22%3E%3Cscript%3E", "/batch?name=spring", "/batch?name=%3Cb+onclick%3Dalert%283%29%3E%22%26name%3Dx", "/batch?name=%3Cscript%3E", "/batch/progress?name=spring",
		"/failed", "/failed?reason=invalid_request", "/failed?batch=nothing", "/failed?since=x", "/failed?cursor=x", "/failed/groups", "/held", "/held?lane=bulk", "/held/groups",
		"/callbacks", "/callbacks?status=retrying", "/callbacks?status=x", "/callbacks?host=%3Cscript%3E", "/callbacks/groups", "/actions", "/actions?after=x", "/action?id=%3Cscript%3E",
		"/account", "/keys", "/audit", "/sign-in?next=%22%3E%3Cscript%3E", "/nothing", "/?done=%3Cscript%3E", "/?done=retried&n=%3Cscript%3E",
	}
}

// forbidden returns what of a page the Content-Security-Policy does not permit, or which
// hostile text would add.
func forbidden(t *testing.T, text string) (found []string) {
	doc, err := html.Parse(strings.NewReader(text))
	fixture.Must(t, err)
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if n.FirstChild != nil && n.Data == "script" || slices.Contains([]string{"style", "img", "iframe", "object", "base"}, n.Data) {
			found = append(found, "<"+n.Data+">")
		}
		for _, a := range n.Attr {
			address := slices.Contains([]string{"href", "src", "action"}, a.Key)
			if a.Key == "style" || strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") || address && !strings.HasPrefix(a.Val, "/") && a.Val != "#main" {
				found = append(found, a.Key+"="+a.Val)
			}
		}
	}
	return found
}

func TestPages_HaveNoScriptNoStyleAndNoLink(t *testing.T) {
	h := populated(t)
	b := h.signedIn(apikey.Read, apikey.Operate)
	for _, path := range h.pages() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+path, nil)
		h.Must(err)
		p := b.do(r)
		if p.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s: got %d", path, p.StatusCode)
		}
		if got := p.Header.Get("Content-Security-Policy"); got != policy {
			t.Errorf("%s: got policy %q", path, got)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "same-origin"} {
			if got := p.Header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", path, name, got, want)
			}
		}
		if found := forbidden(t, p.text); len(found) > 0 {
			t.Errorf("%s contains %q:\n%s", path, found, p.text)
		}
		for _, secret := range []string{ledgertest.Link().URL, ledgertest.Link().LinkID, b.key} {
			if strings.Contains(p.text, secret) {
				t.Errorf("%s contains the secret %s", path, secret)
			}
		}
		if strings.Contains(p.text, "\u202e") {
			t.Errorf("%s contains a character that reverses text", path)
		}
		if len(p.text) > 100_000 {
			t.Errorf("%s has %d bytes, want at most 100,000", path, len(p.text))
		}
	}
}

// What has no pages of its own is cut off, and the page says so.
func TestPages_StaySmall(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read, apikey.Operate)
	const receivers, runs = mostGroups + 30, mostSteps + 10
	for i := range receivers {
		h.undelivered(fmt.Sprint("C-", i), fmt.Sprintf("%s-%d.example", strings.Repeat("h", 50), i), true)
	}
	outcome := request.Outcome{Run: runs, Status: request.Failed, Reason: "timeout", Message: strings.Repeat("m", 200)}
	h.Must(h.Stores.Requests.Restore(t.Context(), "spring", []request.Record{{
		ApplicationID: "A-1", State: request.Failed, Lane: request.Bulk, Generation: 1, Run: runs, Attempts: runs,
		AcceptedAt: time.Now(), ChangedAt: time.Now(), Outcome: outcome, Past: slices.Repeat([]request.Outcome{outcome}, runs),
	}}))
	plan := b.form("/actions/plan", "kind", "retry_deliveries")
	for _, tt := range []struct {
		page page
		says string
	}{
		{b.waitFor("/callbacks", fmt.Sprintf("Retry %d callbacks", receivers)), "And 30 further receivers"},
		{b.expect(b.do(plan), http.StatusOK), "And 30 further receivers"},
		{b.get("/request?id=A-1", http.StatusOK), "earlier steps are left out"},
	} {
		if n := len(tt.page.text); n > 100_000 || !strings.Contains(tt.page.text, tt.says) {
			t.Errorf("%s has %d bytes, want at most 100,000 and %q:\n%s", tt.page.Request.URL, n, tt.says, tt.page.text)
		}
	}
}

func TestErrorPages_ShortenNames(t *testing.T) {
	h := newHarness(t)
	b := h.signedIn(apikey.Read, apikey.Operate)
	long := strings.Repeat("x", 5000)
	for _, p := range []page{
		b.get("/request?id="+long, http.StatusNotFound), b.get("/batch?name="+long, http.StatusNotFound), b.get("/action?id="+long, http.StatusNotFound),
		b.post("/request/retry", http.StatusNotFound, "id", long), b.post("/request/forget", http.StatusUnprocessableEntity, "id", long),
		b.post("/batch/pause", http.StatusNotFound, "name", long), b.post("/batch/cancel", http.StatusUnprocessableEntity, "name", long),
		b.post("/actions/plan", http.StatusNotFound, "kind", "retry_failed", "batch", long), b.post("/batch/export", http.StatusNotFound, "name", long),
		b.post("/account/rate", http.StatusUnprocessableEntity, "rate", long), b.post("/actions/plan", http.StatusUnprocessableEntity, "kind", "retry_failed", "rate", long),
		b.post("/actions/plan", http.StatusUnprocessableEntity, "kind", "retry_failed", "since", long),
		b.send("/keys/create", http.StatusUnprocessableEntity, url.Values{"name": {long}, "scope": {"read"}}),
		b.send("/keys/create", http.StatusUnprocessableEntity, url.Values{"name": {"n"}, "scope": {"read"}, "hosts": {long}}),
	} {
		if strings.Contains(p.text, long[:1000]) {
			t.Errorf("%s %s repeats a name of 5,000 characters", p.Request.Method, p.Request.URL.Path)
		}
	}
}

// A page gets no link at all, so that no mistake in a template can show it.
func TestConceal_RemovesAllLinks(t *testing.T) {
	h := newHarness(t)
	h.Do("A-1", append(ledgertest.Paths()["created"], "next")...)
	for _, revealed := range []bool{true, false} {
		history, err := h.console.operator.History(t.Context(), "A-1")
		h.Must(err)
		d := requestData{History: history}
		d.Runs = append(d.Runs, operator.Run{LinkID: ledgertest.Link().LinkID, URL: ledgertest.Link().URL})
		d.URL, d.LinkID = ledgertest.Link().URL, ledgertest.Link().LinkID
		want := 3
		if !revealed {
			d.conceal()
			want = 0
		}
		text, err := json.Marshal(d.History)
		h.Must(err)
		if got := strings.Count(string(text), ledgertest.Link().URL); got != want {
			t.Errorf("revealed: %v: got %d links, want %d: %s", revealed, got, want, text)
		}
		if !revealed && strings.Contains(string(text), ledgertest.Link().LinkID) {
			t.Errorf("a link ID is left: %s", text)
		}
	}
}

func TestRequest_ShowsEachAttempt(t *testing.T) {
	h := newHarness(t)
	h.Do("A-1", "accept", "feed", "admit", "retry", "admit", "created")
	p := h.signedIn(apikey.Read).get("/request?id=A-1", http.StatusOK)
	for _, want := range []string{"Attempt 1: a link may have been created <span class=\"muted\">after ", "FaceKi failed while it handled the request", "Attempt 2: link created <span class=\"muted\">after "} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page does not contain %q:\n%s", want, p.text)
		}
	}
}

func TestPages_ShowHostileTextAsText(t *testing.T) {
	h := populated(t)
	b := h.signedIn(apikey.Read)
	p := b.get(h.pages()[11], http.StatusOK)
	for _, want := range []string{`&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&#34;onmouseover`, `&lt;/pre&gt;&lt;img src=x onerror=alert(2)&gt;`, `\u202e`} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page does not contain %s:\n%s", want, p.text)
		}
	}
	if p := b.get("/batches", http.StatusOK); !strings.Contains(p.text, `href="/batch?name=%3cb%20onclick%3dalert%283%29%3e%22%26name%3dx"`) {
		t.Errorf("the list does not link to the batch by its name:\n%s", p.text)
	}
}

func TestPages_ShowNoControlsWithoutTheScope(t *testing.T) {
	h := populated(t)
	b := h.signedIn(apikey.Read)
	before := h.changes()
	for _, path := range h.pages() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+path, nil)
		h.Must(err)
		for _, action := range regexp.MustCompile(`method="post" action="([^"]*)"`).FindAllStringSubmatch(b.do(r).text, -1) {
			if !slices.Contains([]string{"/sign-in", "/sign-out", "/request/reveal", "/batch/export"}, action[1]) {
				t.Errorf("%s offers %s", path, action[1])
			}
		}
	}
	for _, path := range []string{
		"/request/retry", "/request/drop", "/request/cancel", "/request/forget", "/batch/pause", "/batch/resume", "/batch/cancel",
		"/account/pause", "/account/resume", "/account/rate", "/keys/create", "/keys/revoke",
	} {
		p := b.post(path, http.StatusForbidden, "id", "A-failed", "state", "failed", "name", "spring", "confirm", "A-failed", "rate", "1/s")
		if !strings.Contains(p.text, "scope operate") {
			t.Errorf("%s: the page does not name the scope", path)
		}
	}
	if got := h.changes(); !slices.Equal(got, before) {
		t.Errorf("audited: %v", got)
	}
}

func TestPosts_OfOtherSitesAreRefused(t *testing.T) {
	h := populated(t)
	b := h.signedIn(apikey.Read, apikey.Operate)
	before := h.changes()
	for _, headers := range []map[string]string{
		{"Sec-Fetch-Site": "cross-site"},
		{"Sec-Fetch-Site": "same-site"},
		{"Sec-Fetch-Site": "", "Origin": "https://evil.example"},
		{"Sec-Fetch-Site": "", "Origin": "null"},
	} {
		for _, path := range []string{"/account/resume", "/request/reveal", "/sign-in", "/sign-out"} {
			r := b.form(path, "id", "A-created", "key", b.key)
			for name, value := range headers {
				if r.Header.Del(name); value != "" {
					r.Header.Set(name, value)
				}
			}
			if p := b.expect(b.do(r), http.StatusForbidden); p.Header.Get("Content-Security-Policy") != policy {
				t.Errorf("%s: the refusal has no policy", path)
			}
		}
	}
	if got := h.changes(); !slices.Equal(got, before) {
		t.Errorf("audited: %v", got)
	}
	b.get("/", http.StatusOK) // it is still signed in
}

func TestAssets_AreServedUnderTheirVersion(t *testing.T) {
	h := newHarness(t)
	b := h.newBrowser(apikey.Read)
	found := regexp.MustCompile(`(?:href|src)="(/static/[^"]*)"`).FindAllStringSubmatch(b.get("/sign-in", http.StatusOK).text, -1)
	if len(found) < 5 {
		t.Fatalf("the page names %d files, want at least 5", len(found))
	}
	for _, f := range found {
		p := b.get(f[1], http.StatusOK)
		if !strings.Contains(p.Header.Get("Cache-Control"), "immutable") || p.Header.Get("Content-Type") == "" || strings.HasPrefix(p.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: got headers %v", f[1], p.Header)
		}
	}
	if p := b.get("/static/console.css?v=old", http.StatusOK); p.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("an old version is cached: %s", p.Header.Get("Cache-Control"))
	}
	b.get("/static/htmx-LICENSE.txt", http.StatusOK)
	b.get("/static/nothing.js", http.StatusNotFound)
}

// The list says so where it is in no order of time.
func TestRequests_SayWhetherTheyAreInOrder(t *testing.T) {
	h := newHarness(t)
	h.Do("A-1", ledgertest.Paths()["failed"]...)
	h.Import("spring", []tasks.Request{{ApplicationID: "B-1"}})
	b := h.signedIn(apikey.Read)
	for query, ordered := range map[string]bool{"": false, "?lane=bulk": false, "?status=waiting": false, "?status=failed": true, "?batch=spring": true} {
		p := b.get("/requests"+query, http.StatusOK)
		if said := strings.Contains(p.text, "In no order of time"); said == ordered || !strings.Contains(p.text, "/request?id=") {
			t.Errorf("/requests%s says that it is in no order: %v\n%s", query, said, p.text)
		}
	}
}
