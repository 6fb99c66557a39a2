package console

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/request"
)

// restore stores requests from-0, from-1 … of a batch that failed or are held since an hour.
func (h *harness) restore(batch, prefix string, n int, state request.State, reason, message string) {
	h.Helper()
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var records []request.Record
	for i := range n {
		records = append(records, request.Record{
			ApplicationID: fmt.Sprintf("%s-%d", prefix, i), State: state, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: at, ChangedAt: at.Add(time.Duration(i) * time.Millisecond), Content: request.Content{Row: i},
			Outcome: request.Outcome{Run: 1, Status: state, Reason: reason, Message: message},
		})
	}
	h.Must(h.Stores.Requests.Restore(h.Context(), batch, records))
}

// hidden returns the hidden fields of the form of a page whose action is as given.
func (p page) hidden(action string) (fields []string) {
	_, form, _ := strings.Cut(p.text, `action="`+action+`">`)
	form, _, _ = strings.Cut(form, "</form>")
	for _, field := range strings.Split(form, `<input type="hidden" name="`)[1:] {
		name, rest, _ := strings.Cut(field, `" value="`)
		value, _, _ := strings.Cut(rest, `"`)
		fields = append(fields, name, strings.NewReplacer("&#43;", "+", "&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&").Replace(value))
	}
	return fields
}

// plan makes the dry run of an action, and returns the fields that start it.
func (b *browser) plan(fields ...string) []string {
	b.h.Helper()
	return b.post("/actions/plan", http.StatusOK, fields...).hidden("/actions/start")
}

// start starts an action, and returns its ID.
func (b *browser) start(fields ...string) string {
	b.h.Helper()
	to, err := url.Parse(b.post("/actions/start", http.StatusSeeOther, fields...).Header.Get("Location"))
	b.h.Must(err)
	if to.Path != "/action" {
		b.h.Fatalf("the start leads to %s", to)
	}
	return to.Query().Get("id")
}

// waitFor opens a page until it contains a text.
func (b *browser) waitFor(path, text string) page {
	b.h.Helper()
	var p page
	b.h.Eventually("the page "+path+" contains "+text, func() bool {
		p = b.get(path, http.StatusOK)
		return strings.Contains(p.text, text)
	})
	return p
}

// action reads the only action.
func (h *harness) action() action.Action {
	h.Helper()
	list, _, err := h.console.actions.List(h.Context(), "", 10)
	if h.Must(err); len(list) != 1 {
		h.Fatalf("there are %d actions, want 1", len(list))
	}
	return list[0]
}

func TestBulk_RetriesWhatMatchesAfterADryRun(t *testing.T) {
	h := newHarness(t)
	h.Must(h.Stores.Fleet.Leave(t.Context())) // no worker runs then
	h.restore("spring", "S", 40, request.Failed, "timeout", "no answer")
	h.restore("spring", "W", 7, request.Failed, "workflow_rules", "")
	h.restore("autumn", "A", 10, request.Failed, "timeout", "")
	b, audited := h.operator()
	p := b.waitFor("/failed?batch=spring&reason=timeout", "Retry 40 requests")
	plan := b.post("/actions/plan", http.StatusOK, append(p.hidden("/actions/plan"), "kind", "retry_failed", "rate", "1000/s")...)
	for _, want := range []string{"40 failed requests", "FaceKi is called again", "No worker runs", "reason <b>timeout</b>", "batch <b>spring</b>", "at 1000/s</dd>"} {
		if !strings.Contains(plan.text, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, plan.text)
		}
	}
	expectAudited(t, audited(), "")
	id := b.start(append(plan.hidden("/actions/start"), "rate", "1000/s")...)
	if got := audited(); !strings.HasPrefix(got, "Mara failed.retry --reason timeout --batch spring --before ") {
		t.Errorf("audited: %q", got)
	}
	if a := h.action(); a.By != "Mara" || a.Counts.Matched != 40 || a.State != action.Running {
		t.Errorf("started as %+v", a)
	}
	b.waitFor("/action?id="+id, "No worker runs, so that the action waits.")
	h.runActions()
	if p := b.waitFor("/action?id="+id, `data-state="done"`); strings.Contains(p.text, "hx-trigger") || strings.Contains(p.text, "/action/abort") || !strings.Contains(p.text, "40 <span class=\"of\">of 40") {
		t.Errorf("the page of the action that is done:\n%s", p.text)
	}
	h.ExpectState("S-39", "waiting")
	h.ExpectState("W-0", "failed")
	h.ExpectState("A-0", "failed")
	if p := b.get("/actions", http.StatusOK); !strings.Contains(p.text, "/action?id="+id) || !strings.Contains(p.text, "40 of 40 done") {
		t.Errorf("the list of actions:\n%s", p.text)
	}
	b.post("/action/abort", http.StatusConflict, "id", id)
}

func TestBulk_ASecondClickStartsNothing(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 5, request.Failed, "timeout", "")
	b, audited := h.operator()
	fields := b.plan("kind", "retry_failed")
	ids := make([]string, 4)
	var clicks sync.WaitGroup
	for i := range ids {
		clicks.Go(func() { ids[i] = b.start(fields...) })
	}
	clicks.Wait()
	id := h.action().ID
	for _, got := range ids {
		if got != id {
			t.Errorf("a click leads to action %s, want %s", got, id)
		}
	}
	audited()
	h.runActions()
	b.waitFor("/action?id="+id, `data-state="done"`)
	if again := b.start(fields...); again != id || h.action().ID != id {
		t.Errorf("a click after the end of action %s leads to %s", id, again)
	}
	expectAudited(t, audited(), "")
}

func TestBulk_ASecondDryRunStartsNothing(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 5, request.Failed, "timeout", "")
	b, audited := h.operator()
	first, second := b.plan("kind", "retry_failed"), b.plan("kind", "retry_failed", "batch", "spring")
	id := b.start(first...)
	p := b.post("/actions/start", http.StatusSeeOther, second...)
	b.follow(p, "Nothing was started: this action changes the same entries already.")
	if got := h.action().ID; got != id || !strings.Contains(p.Header.Get("Location"), id) {
		t.Errorf("the second start leads to %s, want action %s", p.Header.Get("Location"), id)
	}
	audited()
}

func TestBulk_ShowsAnActionOfANewerVersion(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 5, request.Failed, "timeout", "")
	b, audited := h.operator()
	id := b.start(b.plan("kind", "retry_failed")...)
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Action(id), "kind", "retry_<b>", "filter", `{"country":"DE"}`).Err())
	if p := b.get("/actions", http.StatusOK); !strings.Contains(p.text, "retry &lt;b&gt;</a>") || !strings.Contains(p.text, "cannot be decoded") {
		t.Errorf("the list:\n%s", p.text)
	}
	if p := b.get("/action?id="+id, http.StatusOK); !strings.Contains(p.text, "written by a newer version") || len(forbidden(t, p.text)) > 0 {
		t.Errorf("the page of the action has %v:\n%s", forbidden(t, p.text), p.text)
	}
	b.follow(b.post("/action/abort", http.StatusSeeOther, "id", id), "The action was aborted.")
	audited()
}

func TestBulk_AsksAgainIfTheSetHasChanged(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 5, request.Failed, "timeout", "")
	b, audited := h.operator()
	fields := b.plan("kind", "retry_failed", "reason", "timeout")
	_, changed, err := h.console.operator.Retry(t.Context(), h.Record("S-3"))
	if h.Must(err); !changed {
		t.Fatal("the request is not retried")
	}
	p := b.post("/actions/start", http.StatusConflict, fields...)
	for _, want := range []string{"Nothing was started", "in which 5 matched", "Now 4 entries match"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the page does not say %q:\n%s", want, p.text)
		}
	}
	expectAudited(t, audited(), "")
	h.restore("spring", "late", 1, request.Failed, "timeout", "") // an hour ago
	b.post("/actions/start", http.StatusConflict, p.hidden("/actions/start")...)
	p = b.post("/actions/plan", http.StatusOK, "kind", "retry_failed")
	h.Do("N-1", "accept", "feed", "admit", "fail") // it came after the dry run
	b.start(p.hidden("/actions/start")...)
	if a := h.action(); a.Counts.Matched != 5 {
		t.Errorf("%d match, want 5", a.Counts.Matched)
	}
}

func TestBulk_DropsOnlyIfConfirmed(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "H", 6, request.Held, "unknown_outcome", "")
	b, audited := h.operator()
	fields := b.plan("kind", "drop_held")
	for _, confirm := range []string{"", "spring", strings.ToUpper(h.Keys.Account)} {
		b.post("/actions/start", http.StatusUnprocessableEntity, append(slices.Clone(fields), "confirm", confirm)...)
	}
	expectAudited(t, audited(), "")
	h.runActions()
	id := b.start(append(fields, "confirm", h.Keys.Account)...)
	b.waitFor("/action?id="+id, `data-state="done"`)
	h.ExpectState("H-5", "cancelled")
	if got := audited(); !strings.HasPrefix(got, "Mara held.drop --before ") {
		t.Errorf("audited: %q", got)
	}
	b.waitFor("/held", "No request is held.")
}

func TestBulk_ChangesSelectedRequests(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 6, request.Failed, "timeout", "")
	b, audited := h.operator()
	b.post("/actions/plan", http.StatusUnprocessableEntity, "kind", "retry_failed", "selected", "1")
	form := url.Values{"kind": {"retry_failed"}, "selected": {"1"}, "ids": {"S-1", "S-4", "S-9"}}
	p := b.expect(b.do(b.values("/actions/plan", form)), http.StatusOK)
	for _, want := range []string{"2 failed requests", "3 selected entries", "1 selected entry is no longer in the list"} {
		if !strings.Contains(p.text, want) {
			t.Errorf("the dry run does not say %q:\n%s", want, p.text)
		}
	}
	start := url.Values{}
	for field := range slices.Chunk(p.hidden("/actions/start"), 2) {
		start.Add(field[0], field[1])
	}
	b.expect(b.do(b.values("/actions/start", start)), http.StatusSeeOther)
	expectAudited(t, audited(), "Mara failed.retry S-1, Mara failed.retry S-4, Mara failed.retry S-9")
	h.runActions()
	h.Eventually("the action is done", func() bool { return h.action().State == action.Done })
	for i, want := range []string{"failed", "waiting", "failed", "failed", "waiting", "failed"} {
		h.ExpectState(fmt.Sprint("S-", i), want)
	}
}

func TestBulk_IsAborted(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 6, request.Failed, "timeout", "")
	b, audited := h.operator()
	id := b.start(append(b.plan("kind", "drop_failed"), "confirm", h.Keys.Account)...)
	audited()
	b.follow(b.post("/action/abort", http.StatusSeeOther, "id", id), "The action was aborted.")
	expectAudited(t, audited(), "Mara actions.abort "+id)
	h.runActions()
	if p := b.get("/action?id="+id, http.StatusOK); !strings.Contains(p.text, `data-state="aborted"`) || strings.Contains(p.text, "/action/abort") || strings.Contains(p.text, "hx-trigger") {
		t.Errorf("the page of the aborted action:\n%s", p.text)
	}
	if a := h.action(); a.State != action.Aborted || a.Counts.Done != 0 {
		t.Errorf("the action is %+v", a)
	}
	h.ExpectState("S-0", "failed")
}

func TestBulk_RefusesWhatMakesNoSense(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 6, request.Failed, "timeout", "")
	b, audited := h.operator()
	for _, fields := range [][]string{
		{"kind", "retry"},
		{},
		{"kind", "retry_failed", "rate", "fast"},
		{"kind", "retry_failed", "rate", "100000/s"},
		{"kind", "retry_failed", "reason", "unknown_outcome"},
		{"kind", "retry_failed", "since", "yesterday"},
		{"kind", "retry_deliveries", "lane", "bulk"},
	} {
		p := b.post("/actions/plan", http.StatusUnprocessableEntity, fields...)
		if !strings.Contains(p.text, "was not started") {
			t.Errorf("%v: the page does not say that nothing was started:\n%s", fields, p.text)
		}
	}
	if p := b.post("/actions/plan", http.StatusOK, "kind", "retry_failed", "since", "1m"); !strings.Contains(p.text, "No entry of the list matches.") || strings.Contains(p.text, "/actions/start") {
		t.Errorf("the dry run of nothing:\n%s", p.text)
	}
	b.post("/actions/plan", http.StatusNotFound, "kind", "retry_failed", "batch", "summer")
	b.get("/action?id=none", http.StatusNotFound)
	b.post("/action/abort", http.StatusNotFound, "id", "none")
	expectAudited(t, audited(), "")
}

func TestBulk_NeedsTheScope(t *testing.T) {
	h := newHarness(t)
	h.restore("spring", "S", 6, request.Failed, "timeout", "")
	operator, audited := h.operator()
	fields := operator.plan("kind", "retry_failed")
	id := operator.start(fields...)
	reader := h.signedIn(apikey.Read)
	audited()
	for _, path := range []string{"/failed", "/held", "/callbacks", "/actions", "/action?id=" + id, "/action/progress?id=" + id, "/failed/groups", "/callbacks/groups"} {
		if p := reader.get(path, http.StatusOK); strings.Contains(p.text, `action="/actions`) || strings.Contains(p.text, "/abort") || strings.Contains(p.text, "checkbox") {
			t.Errorf("%s offers an action without the scope:\n%s", path, p.text)
		}
	}
	for _, path := range []string{"/actions/plan", "/actions/start", "/action/abort", "/callbacks/test"} {
		reader.post(path, http.StatusForbidden, append(slices.Clone(fields), "id", id, "url", "https://shop.example/")...)
	}
	expectAudited(t, audited(), "")
	if a := h.action(); a.State != action.Running {
		t.Errorf("the action is %s", a.State)
	}
}
