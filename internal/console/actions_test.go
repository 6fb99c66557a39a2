package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// operator returns a browser that may do everything, and a function that returns what was
// audited since it was last called.
func (h *harness) operator() (b *browser, audited func() string) {
	b = h.signedIn(apikey.Read, apikey.Operate)
	seen := len(h.changes())
	return b, func() string {
		all := h.changes()
		recent := all[seen:]
		seen = len(all)
		return strings.Join(recent, ", ")
	}
}

func expectAudited(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("audited: %q, want %q", got, want)
	}
}

// follow opens the page that a change leads to, and checks what it says was done.
func (b *browser) follow(p page, says string) {
	b.h.Helper()
	to, err := url.QueryUnescape(p.Header.Get("Location"))
	b.h.Must(err)
	if next := b.get(p.Header.Get("Location"), http.StatusOK); !strings.Contains(next.text, says) {
		b.h.Errorf("the page %s does not say %q:\n%s", to, says, next.text)
	}
}

func TestReveal_ShowsALinkAndRecordsThat(t *testing.T) {
	h := newHarness(t)
	h.Do("A-1", ledgertest.Paths()["created"]...)
	b := h.signedIn(apikey.Read)
	seen := h.changes()
	p := b.post("/request/reveal", http.StatusOK, "id", "A-1")
	if !strings.Contains(p.text, ledgertest.Link().URL) {
		t.Error("the page does not show the link")
	}
	expectAudited(t, strings.Join(h.changes()[len(seen):], ", "), "Mara links.reveal A-1")
	b.get("/request/reveal?id=A-1", http.StatusNotFound) // reading an address never reveals
	b.post("/request/reveal", http.StatusNotFound, "id", "A-2")
	expectAudited(t, strings.Join(h.changes()[len(seen)+1:], ", "), "")
}

func TestRequest_IsRetriedAndDropped(t *testing.T) {
	h := newHarness(t)
	for _, id := range []string{"A-failed", "A-held"} {
		h.Do(id, ledgertest.Paths()[id[2:]]...)
		h.Do(id+"-2", ledgertest.Paths()[id[2:]]...)
	}
	b, audited := h.operator()
	for _, state := range []string{"failed", "held"} {
		id := "A-" + state
		b.post("/request/retry", http.StatusConflict, "id", id, "state", "created") // the page was of another state
		h.ExpectState(id, state)
		expectAudited(t, audited(), "")
		b.follow(b.post("/request/retry", http.StatusSeeOther, "id", id, "state", state), "The request is retried.")
		expectAudited(t, audited(), "Mara "+state+".retry "+id)
		h.ExpectState(id, "waiting")
		b.post("/request/retry", http.StatusConflict, "id", id, "state", state)

		id += "-2"
		b.post("/request/drop", http.StatusUnprocessableEntity, "id", id, "state", state)
		b.post("/request/drop", http.StatusUnprocessableEntity, "id", id, "state", state, "confirm", "A")
		expectAudited(t, audited(), "")
		b.follow(b.post("/request/drop", http.StatusSeeOther, "id", id, "state", state, "confirm", id), "The request was dropped.")
		expectAudited(t, audited(), "Mara "+state+".drop "+id)
	}
	h.ExpectState("A-held-2", "cancelled")
	h.ExpectOperatorLists(map[string]bool{"A-failed-2": true})
}

func TestRequest_IsCancelledAndForgottenIfConfirmed(t *testing.T) {
	h := newHarness(t)
	h.Do("A-1", ledgertest.Paths()["waiting"]...)
	h.Do("A-2", ledgertest.Paths()["calling"]...)
	b, audited := h.operator()
	b.post("/request/cancel", http.StatusUnprocessableEntity, "id", "A-1", "confirm", "a-1")
	b.post("/request/cancel", http.StatusNotFound, "id", "A-9", "confirm", "A-9")
	audited()
	h.ExpectState("A-1", "queued")
	b.follow(b.post("/request/cancel", http.StatusSeeOther, "id", "A-1", "confirm", "A-1"), "The request was cancelled.")
	h.ExpectState("A-1", "cancelled")
	expectAudited(t, audited(), "Mara links.cancel A-1")
	b.follow(b.post("/request/cancel", http.StatusSeeOther, "id", "A-2", "confirm", "A-2"), "cancelled when the call is answered")
	h.ExpectState("A-2", "calling")
	audited()

	b.post("/request/forget", http.StatusUnprocessableEntity, "id", "A-1")
	h.ExpectState("A-1", "cancelled")
	b.follow(b.post("/request/forget", http.StatusSeeOther, "id", "A-1", "confirm", "A-1"), "was erased")
	h.ExpectState("A-1", "none")
	if left := fmt.Sprint(h.changes()); strings.Contains(left, "A-1") || !strings.Contains(left, "links.erase 1 id") {
		t.Errorf("the audit trail has %s", left)
	}
	b.get("/request?id=A-1", http.StatusNotFound)
	b.post("/request/cancel", http.StatusNotFound, "id", "A-1", "confirm", "A-1")
	if left := fmt.Sprint(h.changes()); strings.Contains(left, "A-1") {
		t.Errorf("after another change of the erased request the audit trail has %s", left)
	}
	b.post("/request/forget", http.StatusConflict, "id", "A-2", "confirm", "A-2") // it is being called
}

func TestBatch_IsPausedResumedRetriedAndCancelled(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	for _, ref := range h.Feed()[:2] {
		h.Do(ref.ApplicationID, "admit", "fail")
	}
	b, audited := h.operator()
	for _, step := range []struct{ path, audited, says string }{
		{"/batch/pause", "batches.pause", "The batch is paused."},
		{"/batch/resume", "batches.resume", "The batch continues."},
	} {
		b.follow(b.post(step.path, http.StatusSeeOther, "name", "spring"), step.says)
		expectAudited(t, audited(), "Mara "+step.audited+" spring")
		b.post(step.path, http.StatusNotFound, "name", "summer")
		expectAudited(t, audited(), "")
	}
	b.start(b.plan(append(b.get("/batch?name=spring", http.StatusOK).hidden("/actions/plan"), "rate", "1000/s")...)...)
	if got := audited(); !strings.HasPrefix(got, "Mara failed.retry --batch spring --before ") {
		t.Errorf("audited: %q", got)
	}
	h.runActions()
	h.Eventually("the action is done", func() bool { return h.action().State == action.Done })
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Waiting: 2, request.Queued: 3})
	b.post("/batch/cancel", http.StatusUnprocessableEntity, "name", "spring")
	b.follow(b.post("/batch/cancel", http.StatusSeeOther, "name", "spring", "confirm", "spring"), "The batch was cancelled.")
	expectAudited(t, audited(), "Mara batches.cancel spring")
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 5})
	for _, path := range []string{"/batch/pause", "/batch/resume"} {
		b.post(path, http.StatusConflict, "name", "spring")
	}
	b.post("/actions/plan", http.StatusConflict, "kind", "retry_failed", "batch", "spring")
}

func TestAccount_IsPausedResumedAndItsRateChanged(t *testing.T) {
	h := newHarness(t)
	b, audited := h.operator()
	name := h.Keys.Account
	state := func() string {
		s, err := h.Stores.Account.Status(t.Context())
		h.Must(err)
		return fmt.Sprintf("%s %s %s %v", s.Gate.State, s.Gate.Reason, s.Rate.Limit, s.Rate.Overridden)
	}
	before := state()
	b.post("/account/pause", http.StatusUnprocessableEntity)
	b.post("/account/rate", http.StatusUnprocessableEntity, "rate", "many")
	expectAudited(t, audited(), "")
	if state() != before {
		t.Errorf("got %s, want %s", state(), before)
	}
	b.post("/account/pause", http.StatusUnprocessableEntity, "confirm", name, "reason", "a\u202eb")
	expectAudited(t, audited(), "")
	b.follow(b.post("/account/pause", http.StatusSeeOther, "confirm", name, "reason", " <b>new</b> workflow "), "The account is paused")
	expectAudited(t, audited(), "Mara account.pause <b>new</b> workflow")
	if got := state(); !strings.HasPrefix(got, "closed paused") {
		t.Errorf("got %s, want a pause", got)
	}
	b.follow(b.post("/account/resume", http.StatusSeeOther), "The account continues.")
	expectAudited(t, audited(), "Mara account.resume")
	const resumed, paused = `<td class="why"></td><td>Mara</td>`, `<td class="why">paused: &lt;b&gt;new&lt;/b&gt; workflow</td><td>Mara</td>`
	if text := b.get("/account", http.StatusOK).text; !strings.Contains(text, resumed) || !strings.Contains(text, paused) {
		t.Errorf("the history does not say who paused and resumed, and why:\n%s", text)
	}
	b.follow(b.post("/account/rate", http.StatusSeeOther, "rate", " 90/m "), "The rate was changed")
	expectAudited(t, audited(), "Mara account.rate 90/m")
	if got := state(); !strings.HasSuffix(got, "90/m true") {
		t.Errorf("got %s, want 90/m", got)
	}
	b.follow(b.post("/account/rate", http.StatusSeeOther, "reset", "1"), "own rate is in force")
	expectAudited(t, audited(), "Mara account.rate reset")
	if state() != before {
		t.Errorf("got %s, want %s", state(), before)
	}
}

func TestRequests_AreListedOnceOverAllPages(t *testing.T) {
	h := newHarness(t)
	const n = 3*pageSize - 10
	h.Import("spring", ledgertest.Rows(1, n))
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	b := h.signedIn(apikey.Read)
	var got []string
	for path, pages := "/requests?batch=spring&since=2h", 0; path != ""; pages++ {
		p := b.get(path, http.StatusOK)
		links := findAll(p.text, `href="/request?id=`)
		if pages < 2 && len(links) != pageSize {
			t.Fatalf("page %d has %d requests, want %d", pages, len(links), pageSize)
		}
		got = append(got, links...)
		path = ""
		if next := findAll(p.text, `rel="next" href="`); len(next) == 1 {
			path = strings.ReplaceAll(next[0], "&amp;", "&")
		}
	}
	slices.Sort(got)
	if len(got) != n || len(slices.Compact(got)) != n {
		t.Errorf("got %d requests, want each of %d once", len(got), n)
	}
	if to := b.get("/requests?id=A-1", http.StatusSeeOther).Header.Get("Location"); to != "/request?id=A-1" {
		t.Errorf("a known ID leads to %s", to)
	}
	if p := b.get("/requests?id=A-", http.StatusOK); len(findAll(p.text, `href="/request?id=`)) != 1 {
		t.Error("the beginning of an ID does not find the request")
	}
	for _, wrong := range []string{"since=x", "batch=summer", "cursor=x", "before=1+day"} {
		b.get("/requests?"+wrong, http.StatusUnprocessableEntity)
	}
}

func TestLists_HavePages(t *testing.T) {
	h := newHarness(t)
	const n = 2*pageSize + 5
	for i := range n {
		h.Import(fmt.Sprint("batch-", i), ledgertest.Rows(i+1, i+1))
	}
	b, _ := h.operator()
	for range 2*pageSize + 1 {
		h.Must(h.console.record(t.Context(), &visit{w: discard{}}, "x.y", "z"))
	}
	hosts := slices.Repeat([]string{strings.Repeat("h", 63) + ".example"}, 100)
	for range n - 1 { // one is the browser's
		_, _, err := h.keys.Create(t.Context(), strings.Repeat("k", 64), apikey.Scopes(), hosts...)
		h.Must(err)
	}
	for path, want := range map[string]struct {
		entry string
		n     int
	}{
		"/batches": {`class="id" href="/batch?name=`, n}, "/audit": {`<th scope="row">`, 2*pageSize + 2}, "/keys": {`<th scope="row">`, n},
	} {
		total := 0
		for path != "" {
			p := b.get(path, http.StatusOK)
			if len(p.text) > 100_000 {
				t.Errorf("%s has %d bytes, want at most 100,000", path, len(p.text))
			}
			total += len(findAll(p.text, want.entry))
			path = ""
			if next := findAll(p.text, `rel="next" href="`); len(next) == 1 {
				path = next[0]
			}
		}
		if total != want.n {
			t.Errorf("%s: got %d entries, want %d", want.entry, total, want.n)
		}
	}
	b.get("/batches?before=x", http.StatusUnprocessableEntity)
	b.get("/audit?after=x", http.StatusUnprocessableEntity)
	b.get("/keys?after=x", http.StatusUnprocessableEntity)
}

// findAll returns what follows each occurrence of a text, up to the next quote or tag.
func findAll(text, before string) (found []string) {
	for _, part := range strings.Split(text, before)[1:] {
		end := strings.IndexAny(part, `"<`)
		found = append(found, part[:max(0, end)])
	}
	return found
}

// discard is a response that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
