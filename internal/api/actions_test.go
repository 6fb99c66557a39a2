package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
)

// failRange restores failed requests A-from to A-(to-1) of a batch.
func (s *harness) failRange(batch string, from, to int) {
	s.Helper()
	s.failRangeAt(batch, from, to, time.Now().Add(-time.Hour))
}

// failRangeAt is failRange of requests that failed at a time.
func (s *harness) failRangeAt(batch string, from, to int, at time.Time) {
	s.Helper()
	at = at.Truncate(time.Millisecond)
	var records []request.Record
	for i := from; i < to; i++ {
		records = append(records, request.Record{
			ApplicationID: fmt.Sprintf("A-%d", i), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: at, ChangedAt: at, Content: request.Content{Row: i}, Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "timeout"},
		})
	}
	s.Must(s.ledger.Requests.Restore(s.Context(), batch, records))
}

// dryRun returns the answer to an action with dry_run.
func (s *harness) dryRun(body string) action.Plan {
	s.Helper()
	return decode[action.Plan](s, s.expect(s.send("POST", "/v1/actions", strings.TrimSuffix(body, "}")+`,"dry_run":true}`), http.StatusOK, ""))
}

// startAction starts an action with a token.
func (s *harness) startAction(body, token string) answer {
	s.Helper()
	return s.send("POST", "/v1/actions", fmt.Sprintf(`%s,"token":%q}`, strings.TrimSuffix(body, "}"), token))
}

func TestActions_RunInTheWorkers(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 40)
	s.failRange("autumn", 40, 50)
	const retry = `{"kind":"retry_failed","filter":{"batch":"spring"}}`
	plan := s.dryRun(retry)
	if plan.Count != 40 {
		t.Fatalf("%d match, want 40", plan.Count)
	}
	got := s.expect(s.startAction(retry, plan.Token), http.StatusCreated, "")
	started := decode[action.Action](t, got)
	path := "/v1/actions/" + started.ID
	if got.Header.Get("Location") != path || started.State != action.Running || started.By != "name of "+allScopes || started.Counts.Matched != 40 {
		t.Errorf("it starts at %s as %+v", got.Header.Get("Location"), started)
	}
	if want := []string{"failed.retry --batch spring"}; !slices.Equal(s.trail.actions(), want) {
		t.Errorf("the audit trail has %v, want %v", s.trail.actions(), want)
	}
	s.startWorker(simulator.Script{}, 200)
	s.Eventually("the action is done", func() bool {
		return decode[action.Action](t, s.expect(s.send("GET", path, ""), http.StatusOK, "")).State == action.Done
	})
	now := decode[action.Action](t, s.expect(s.send("GET", path, ""), http.StatusOK, ""))
	if now.Counts.Done != 40 || now.Counts.Skipped != (action.Skipped{}) {
		t.Errorf("it has counted %+v", now.Counts)
	}
	count := func(name string, state request.State) int {
		return decode[batch.Batch](t, s.expect(s.send("GET", "/v1/batches/"+name, ""), http.StatusOK, "")).Counts[state]
	}
	s.Eventually("the links are created", func() bool { return count("spring", request.Created) == 40 })
	if n := count("autumn", request.Failed); n != 10 {
		t.Errorf("%d requests of the other batch are failed, want 10", n)
	}
	s.expect(s.send("POST", path+"/abort", ""), http.StatusConflict, "ended")
}

// A batch is retried without a worker. A request that comes while its action is running waits
// for that action instead of starting another one.
func TestRetryBatch_WaitsForTheActionThatIsRunning(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 40)
	s.failRange("autumn", 40, 50)
	const body = `{"kind":"retry_failed","filter":{"batch":"spring"}}`
	started := decode[action.Action](t, s.expect(s.startAction(body, s.dryRun(body).Token), http.StatusCreated, ""))
	got := decode[retried](t, s.expect(s.send("POST", "/v1/batches/spring/retry", ""), http.StatusOK, ""))
	if want := (retried{40, false, started.ID}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got = decode[retried](t, s.expect(s.send("POST", "/v1/batches/autumn/retry", ""), http.StatusOK, ""))
	if got.Retried != 10 || got.More || got.Action == started.ID {
		t.Errorf("got %+v, want another action that has retried 10", got)
	}
}

// The running action leaves out what failed later, which is retried after it.
func TestRetryBatch_RetriesWhatTheRunningActionLeavesOut(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 20)
	s.failRangeAt("spring", 20, 30, time.Now().Add(-time.Minute))
	body := fmt.Sprintf(`{"kind":"retry_failed","filter":{"batch":"spring","before":%q}}`, time.Now().Add(-30*time.Minute).UTC().Format(time.RFC3339))
	started := decode[action.Action](t, s.expect(s.startAction(body, s.dryRun(body).Token), http.StatusCreated, ""))
	got := decode[retried](t, s.expect(s.send("POST", "/v1/batches/spring/retry", ""), http.StatusOK, ""))
	if got.Retried != 30 || got.More || got.Action == started.ID {
		t.Errorf("got %+v, want another action after the running one, and 30 retried by both", got)
	}
}

func TestActions_AreRefusedWhenTheSetHasChanged(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 3)
	const retry = `{"kind":"retry_failed","filter":{"all":true}}`
	plan := s.dryRun(retry)
	s.failRange("spring", 3, 5)
	refused := decode[problem](t, s.expect(s.startAction(retry, plan.Token), http.StatusConflict, "set_changed"))
	if refused.Count == nil || *refused.Count != 5 {
		t.Errorf("the answer has the count %v, want 5", refused.Count)
	}
	s.expect(s.startAction(`{"kind":"drop_failed","filter":{"all":true}}`, s.dryRun(retry).Token), http.StatusConflict, "set_changed")
	if list := decode[actionPage](t, s.expect(s.send("GET", "/v1/actions", ""), http.StatusOK, "")); len(list.Actions) > 0 || len(s.trail.actions()) > 0 {
		t.Errorf("the actions are %+v, the audit trail is %v; want none", list.Actions, s.trail.actions())
	}
	s.expect(s.startAction(retry, s.dryRun(retry).Token), http.StatusCreated, "")
}

// A request that is repeated, such as after a lost answer, starts nothing more.
func TestActions_AreStartedOnceByAToken(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 5)
	const retry = `{"kind":"retry_failed","filter":{"batch":"spring"}}`
	plan := s.dryRun(retry)
	started := decode[action.Action](t, s.expect(s.startAction(retry, plan.Token), http.StatusCreated, ""))
	audited := len(s.trail.actions())
	expectSame := func(state action.State) {
		t.Helper()
		again := s.expect(s.startAction(retry, plan.Token), http.StatusOK, "")
		if a := decode[action.Action](t, again); a.ID != started.ID || a.State != state || again.Header.Get("Location") != "/v1/actions/"+started.ID {
			t.Errorf("the same token is answered at %s with %+v, want %s that is %s", again.Header.Get("Location"), a, started.ID, state)
		}
	}
	expectSame(action.Running)
	s.startWorker(simulator.Script{}, 200)
	s.Eventually("the action is done", func() bool {
		return decode[action.Action](t, s.expect(s.send("GET", "/v1/actions/"+started.ID, ""), http.StatusOK, "")).State == action.Done
	})
	expectSame(action.Done) // although the set has changed
	s.expect(s.startAction(strings.Replace(retry, "retry_", "drop_", 1), plan.Token), http.StatusConflict, "set_changed")
	if list := decode[actionPage](t, s.expect(s.send("GET", "/v1/actions", ""), http.StatusOK, "")); len(list.Actions) != 1 || len(s.trail.actions()) != audited {
		t.Errorf("the actions are %+v, the audit trail is %v; want one of each", list.Actions, s.trail.actions())
	}
}

// Two dry runs of the same entries do not start two actions.
func TestActions_AreNotStartedOnTheSameEntries(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 5)
	const retry, all = `{"kind":"retry_failed","filter":{"batch":"spring"}}`, `{"kind":"retry_failed","filter":{"all":true}}`
	first, second := s.dryRun(retry), s.dryRun(all)
	started := decode[action.Action](t, s.expect(s.startAction(retry, first.Token), http.StatusCreated, ""))
	if p := decode[problem](t, s.expect(s.startAction(all, second.Token), http.StatusConflict, "already_running")); p.Action != started.ID {
		t.Errorf("the answer names the action %q, want %s", p.Action, started.ID)
	}
	s.expect(s.send("POST", "/v1/actions/"+started.ID+"/abort", ""), http.StatusOK, "")
	s.expect(s.startAction(all, second.Token), http.StatusCreated, "")
}

// An action that a newer version has started hides no other, and can be aborted.
func TestActions_OfANewerVersionAreListed(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 2)
	const retry = `{"kind":"retry_failed","filter":{"batch":"spring"}}`
	started := decode[action.Action](t, s.expect(s.startAction(retry, s.dryRun(retry).Token), http.StatusCreated, ""))
	s.Must(s.Redis.HSet(t.Context(), s.Keys.Action(started.ID), "kind", "retry_cancelled", "filter", `{"country":"DE"}`).Err())
	list := decode[actionPage](t, s.expect(s.send("GET", "/v1/actions", ""), http.StatusOK, "")).Actions
	if len(list) != 1 || list[0].State != action.Unreadable || list[0].Kind != "retry_cancelled" || !strings.Contains(list[0].Message, "newer version") {
		t.Errorf("the list has %+v", list)
	}
	s.expect(s.send("POST", "/v1/actions/"+started.ID+"/abort", ""), http.StatusOK, "")
	if state := s.Redis.HGet(t.Context(), s.Keys.Action(started.ID), "state").Val(); state != string(action.Aborted) {
		t.Errorf("the action is %s", state)
	}
}

func TestActions_AreReadWithTheScopeRead(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 3)
	const drop = `{"kind":"drop_failed","filter":{"all":true}}`
	path := "/v1/actions/" + decode[action.Action](t, s.expect(s.startAction(drop, s.dryRun(drop).Token), http.StatusCreated, "")).ID
	for _, address := range []string{"/v1/actions", path} {
		s.expect(s.send("GET", address, "", "Authorization", "Bearer read"), http.StatusOK, "")
		s.expect(s.send("GET", address, "", "Authorization", "Bearer enqueue"), http.StatusForbidden, "forbidden")
	}
	s.expect(s.send("POST", path+"/abort", "", "Authorization", "Bearer read"), http.StatusForbidden, "forbidden")
}

func TestActions_AreListedAndAborted(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 6)
	var started []string
	for i := range 5 {
		drop := fmt.Sprintf(`{"kind":"drop_failed","ids":["A-%d","A-%d","A-9"]}`, i+1, i)
		plan := s.dryRun(drop)
		if plan.Count != 2 || !slices.Equal(plan.Unmatched, []string{"A-9"}) {
			t.Fatalf("the dry run says %+v", plan)
		}
		started = append(started, decode[action.Action](t, s.expect(s.startAction(drop, plan.Token), http.StatusCreated, "")).ID)
	}
	slices.Reverse(started)
	var listed []string
	for next := ""; ; {
		a := s.expect(s.send("GET", "/v1/actions?limit=2"+next, ""), http.StatusOK, "")
		if strings.Contains(string(a.body), "A-1") {
			t.Errorf("the list names requests: %s", a.body)
		}
		page := decode[actionPage](t, a)
		for _, found := range page.Actions {
			listed = append(listed, found.ID)
		}
		if next = "&cursor=" + url.QueryEscape(page.Next); page.Next == "" {
			break
		}
	}
	if !slices.Equal(listed, started) {
		t.Errorf("the list has\n%v, want\n%v", listed, started)
	}
	s.expect(s.send("GET", "/v1/actions?cursor=zzz", ""), http.StatusBadRequest, "invalid")
	path := "/v1/actions/" + started[0]
	for range 2 {
		if a := decode[action.Action](t, s.expect(s.send("POST", path+"/abort", ""), http.StatusOK, "")); a.State != action.Aborted || a.EndedAt.IsZero() {
			t.Errorf("it is %+v", a)
		}
	}
	if done := s.trail.actions(); !slices.Contains(done, "failed.drop A-0") || !slices.Contains(done, "actions.abort "+started[0]) {
		t.Errorf("the audit trail has %v", done)
	}
	s.expect(s.send("GET", "/v1/actions/none", ""), http.StatusNotFound, "not_found")
	s.expect(s.send("POST", "/v1/actions/none/abort", ""), http.StatusNotFound, "not_found")
}

func TestActions_RefuseWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	s := newHarness(t)
	s.failRange("spring", 0, 3)
	for body, key := range map[string]string{
		`{"kind":"retry_failed","dry_run":true}`:                                           "filter",
		`{"kind":"retry_failed","filter":{},"dry_run":true}`:                               "filter",
		`{"kind":"retry_failed","filter":{"all":true},"ids":["A-1"],"dry_run":true}`:       "filter",
		`{"kind":"retry","filter":{"all":true},"dry_run":true}`:                            "kind",
		`{"kind":"retry_failed","filter":{"reason":"bad"},"dry_run":true}`:                 "filter.reason",
		`{"kind":"retry_failed","filter":{"batch":"none"},"dry_run":true}`:                 "filter.batch",
		`{"kind":"retry_failed","filter":{"all":true}}`:                                    "token",
		`{"kind":"retry_failed","filter":{"all":true},"dry_run":true,"token":"x"}`:         "token",
		`{"kind":"retry_failed","filter":{"all":true},"dry_run":true,"rate":"0/s"}`:        "rate",
		`{"kind":"retry_failed","filter":{"all":true},"dry_run":true,"colour":1}`:          "",
		`{"kind":"retry_failed","filter":{"all":true,"since":"yesterday"},"dry_run":true}`: "",
		`{"kind":"retry_failed","filter":{"all":true},"dry_run":true}{}`:                   "",
		`[]`: "", `nonsense`: "",
	} {
		var got problem
		s.Must(json.Unmarshal(s.expect(s.send("POST", "/v1/actions", body), http.StatusBadRequest, "invalid").body, &got))
		if len(got.Errors) != 1 || got.Errors[0].Key != key {
			t.Errorf("%s: got %+v, want one error of %q", body, got.Errors, key)
		}
	}
	s.expect(s.send("GET", "/v1/actions?limit=101", ""), http.StatusBadRequest, "invalid")
	s.expect(s.send("POST", "/v1/actions", `{"kind":"retry_failed","filter":{"all":true},"dry_run":true}`, "Authorization", "Bearer read,enqueue"), http.StatusForbidden, "forbidden")
}
