package console

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/tasks"
)

// undelivered stores a delivery that failed. It is given up at once, or attempted again
// after an hour.
func (h *harness) undelivered(id, host string, givenUp bool) {
	h.Helper()
	event := h.EndWithCallback(id, "https://"+host+"/hooks?key=known")
	_, err := h.Stores.Deliveries.Open(h.Context(), []tasks.Event{event})
	h.Must(err)
	d, ok, err := h.Stores.Deliveries.Begin(h.Context(), delivery.Task{EventID: event.ID})
	if h.Must(err); !ok {
		h.Fatal("no attempt is allowed")
	}
	reply := delivery.Reply{Code: 410, Reason: "gone", Message: "the receiver wants no more", Body: "<script>alert(1)</script>"}
	pause := time.Duration(0)
	if !givenUp {
		reply, pause = delivery.Reply{Code: 500, Reason: "receiver_error", Message: "the receiver answered with HTTP 500"}, time.Hour
	}
	_, err = h.Stores.Deliveries.End(h.Context(), d, reply, pause)
	h.Must(err)
}

func TestCallbacks_AreGroupedByReceiverAndRetried(t *testing.T) {
	h := newHarness(t)
	for i := range 3 {
		h.undelivered(fmt.Sprint("A-", i), "shop.example", true)
	}
	h.undelivered("<b>B</b>", "other.example:8443", true)
	h.undelivered("C-1", "shop.example", false)
	b, audited := h.operator()
	p := b.waitFor("/callbacks", "Retry 4 callbacks")
	for _, want := range []string{
		`<a href="/callbacks?host=shop.example&amp;status=given_up">3</a>`, `<a href="/callbacks?host=shop.example&amp;status=retrying">1</a>`,
		"&lt;script&gt;alert(1)", "&lt;b&gt;B&lt;/b&gt;", "A retry does not help",
	} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page does not contain %s:\n%s", want, p.text)
		}
	}
	if strings.Contains(p.text, "known") || len(forbidden(t, p.text)) > 0 || strings.Contains(p.text, `/request?id=C-1"`) {
		t.Errorf("the page contains a path of a receiver, markup, or a delivery of the other list:\n%s", p.text)
	}
	if p := b.get("/callbacks?status=retrying", http.StatusOK); !strings.Contains(p.text, `/request?id=C-1"`) || strings.Contains(p.text, "/actions/plan") {
		t.Errorf("the deliveries that are retried:\n%s", p.text)
	}
	p = b.waitFor("/callbacks?host=SHOP.example", "Retry 3 callbacks")
	fields := append(p.hidden("/actions/plan"), "kind", "retry_deliveries")
	if plan := b.post("/actions/plan", http.StatusOK, fields...); !strings.Contains(plan.text, "3 given-up callbacks") || strings.Contains(plan.text, "Duration of FaceKi") {
		t.Errorf("the dry run:\n%s", plan.text)
	}
	b.start(b.plan(fields...)...)
	if got := audited(); !strings.HasPrefix(got, "Mara callbacks.retry --host SHOP.example --before ") {
		t.Errorf("audited: %q", got)
	}
	h.runActions()
	h.Eventually("the action is done", func() bool { return h.action().State == action.Done })
	if a := h.action(); a.Counts.Done != 3 {
		t.Errorf("the action is %+v", a)
	}
}

func TestCallbacks_AreTested(t *testing.T) {
	h := newHarness(t)
	status := http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(body), `"type":"ping"`) || r.Header.Get("Webhook-Signature") == "" {
			t.Errorf("the receiver got %v %s", r.Header, body)
		}
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			_, _ = io.WriteString(w, "<i>no</i>")
		}
	}))
	t.Cleanup(server.Close)
	sender, err := callback.New(callback.Config{Hosts: []string{"127.0.0.1"}, AllowCIDRs: []string{"127.0.0.0/8"}, Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
	h.Must(err)
	t.Cleanup(sender.Close)
	h.sender = sender
	b, audited := h.operator()
	host := strings.TrimPrefix(server.URL, "http://")
	test := func(status int, url, says string) {
		t.Helper()
		p := b.post("/callbacks/test", status, "url", url)
		if !strings.Contains(p.text, says) || len(forbidden(t, p.text)) > 0 {
			t.Errorf("%s: the page does not say %q:\n%s", url, says, p.text)
		}
	}
	test(http.StatusOK, server.URL+"/hooks?key=known", "accepted the test event with HTTP 204 after")
	expectAudited(t, audited(), "Mara callbacks.test "+host)
	status = http.StatusGone
	test(http.StatusOK, server.URL+"/hooks", "(HTTP 410)")
	test(http.StatusOK, server.URL+"/hooks", "It answered: &lt;i&gt;no&lt;/i&gt;")
	test(http.StatusOK, "http://127.0.0.2:1/", "A worker would give the callback up at once.")
	audited()
	test(http.StatusUnprocessableEntity, "nothing", "Nothing was sent.")
	expectAudited(t, audited(), "")
	test(http.StatusUnprocessableEntity, "ftp://127.0.0.1/", "Nothing was sent.")
	h.console.Ping = nil
	b.post("/callbacks/test", http.StatusConflict, "url", server.URL)
	if p := h.signedIn(apikey.Read, apikey.Operate).get("/callbacks", http.StatusOK); !strings.Contains(p.text, "This server sends no test events") {
		t.Errorf("the page offers a test:\n%s", p.text)
	}
}

func TestRequest_ShowsACallbackThatCannotBeDecoded(t *testing.T) {
	h := newHarness(t)
	h.undelivered("A-1", "shop.example", true)
	events, err := h.Stores.Deliveries.EventIDs(t.Context(), []string{"A-1"})
	h.Must(err)
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Delivery(events[0][0]), "attempts", "many").Err())
	if p := h.signedIn(apikey.Read).get("/request?id=A-1", http.StatusOK); !strings.Contains(p.text, "The callback of event <code>"+events[0][0]+"</code> cannot be decoded") {
		t.Errorf("the page does not name the callback:\n%s", p.text)
	}
}
