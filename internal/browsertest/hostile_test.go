//go:build browser

package browsertest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// payload is text that becomes script wherever it is not shown as text. IDs have no blanks.
const payload = `'"></script></pre></title></textarea><script>hacked=1</script><img/src=x/onerror=hacked=1><svg/onload=hacked=1>`

// hostileElements returns the elements of a page that only hostile text adds.
func (b *tab) hostileElements() string {
	b.Helper()
	return value[string](b, `[...document.querySelectorAll('script:not([src^="/static/"]), img, iframe, object, embed, [onload], [onerror]')].map((e) => e.outerHTML).join("\n")`)
}

// isHacked reports whether the payload has run as a script.
func (b *tab) isHacked() bool {
	b.Helper()
	return value[bool](b, `window.hacked !== undefined`)
}

// withHostileMessage replaces the message of FaceKi's refusals by hostile text.
func withHostileMessage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && bytes.Contains(body, []byte("refused")) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"responseCode":5002,"message":` + quote(payload) + `}`))
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func TestHostileText_StaysText(t *testing.T) {
	t.Parallel()
	s := startSystem(t, fixture.NewAccountOn(t, server), simulator.New(simulator.Config{}), withHostileMessage)
	s.worker()
	metadata := []byte(`{` + quote(payload) + `:` + quote(payload) + `}`)
	hostile, refused := tasks.Request{ApplicationID: payload, Metadata: metadata}, tasks.Request{ApplicationID: "refused-1", Metadata: metadata}
	s.importRows(payload, hostile)
	s.enqueue(refused)
	s.await(payload, tasks.Created)
	s.await("refused-1", tasks.Failed)
	b := s.open(apikey.Read, apikey.Operate)
	b.key, _ = s.key(payload[:60], apikey.Read, apikey.Operate)
	b.expectStatus(http.StatusNotFound)
	b.expectStatus(http.StatusUnprocessableEntity)
	b.visit("/sign-in?next=" + url.QueryEscape("/?"+payload))
	b.signIn()
	b.awaitText("h1", "Now")

	id := url.QueryEscape(payload)
	for _, path := range []string{
		"/", "/requests", "/requests?id=" + id, "/requests?batch=" + id, "/requests?since=" + id, "/request?id=" + id, "/request?id=refused-1", "/batches",
		"/batch?name=" + id, "/batch?name=" + id + "x", "/keys", "/audit", "/account", "/?done=" + id, "/" + id,
	} {
		b.visit(path)
		if got := b.hostileElements(); got != "" {
			t.Errorf("%s has elements from hostile text:\n%s", path, got)
		}
		if b.isHacked() {
			t.Errorf("%s ran hostile text", path)
		}
	}
	for path, selector := range map[string]string{
		"/request?id=" + id: "h1", "/request?id=refused-1": ".why", "/requests": "tbody", "/batches": "tbody", "/batch?name=" + id: "h1", "/request?id=" + id + "&": "pre",
	} {
		b.visit(path)
		b.awaitText(selector, `<script>hacked=1</script>`)
	}
}
