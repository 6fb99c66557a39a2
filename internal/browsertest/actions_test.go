//go:build browser

package browsertest

import (
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Requests that FaceKi refuses once, and that it answers without a URL once.
var oneFaultEach = simulator.Script{Rules: []simulator.Rule{
	{Match: "bad-*", Fault: simulator.Fault{Name: "code_5002"}, Times: 1},
	{Match: "held-*", Fault: simulator.Fault{Name: "no_url"}, Times: 1},
}}

func TestFailed_AreRetriedOverAFilter(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	worker := s.worker()
	s.importRows("spring", numbered("bad", 1, 9)...)
	s.importRows("autumn", numbered("bad", 101, 104)...)
	for _, id := range []string{"bad-9", "bad-104"} {
		s.await(id, tasks.Failed)
	}
	s.awaitCount("spring", "failed", 9)
	s.awaitCount("autumn", "failed", 4)
	worker.kill() // so that the action can be seen before it is done

	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/failed")
	b.awaitText("#groups", "13")
	b.click("details.fold summary")
	b.fill("input[name=batch]", "spring")
	b.click(".filters button.primary")
	b.await("the list has the batch's requests only", `location.search.includes("batch=spring") && document.querySelectorAll("tbody input[name=ids]").length === 9`)
	b.click(".bulk button[value=retry_failed]")
	b.awaitText("#t-plan + .big", "9 failed requests match")
	b.awaitText("#t-groups + .scroll", "invalid request")
	b.click("#t-start ~ form button.primary")
	b.awaitText(".notice", "No worker runs, so that the action waits.")
	b.awaitText("#t-done + .big", "0 of 9")
	b.run(mark)

	s.worker()
	b.awaitText("#t-state + .big", "done")
	b.awaitText("#t-done + .big", "9 of 9")
	b.stays()
	for _, id := range []string{"bad-1", "bad-9"} {
		s.await(id, tasks.Created)
	}
	s.awaitCount("autumn", "failed", 4)
}

func TestHeld_AreRetriedBySelection(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	s.worker()
	s.importRows("spring", numbered("held", 1, 3)...)
	s.awaitCount("spring", "held", 3)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/held")
	b.click("tbody input[value=held-2]")
	b.click("#selected button[value=retry_held]")
	b.awaitText("#t-plan + .big", "1 held request matches")
	b.click("#t-start ~ form button.primary")
	b.awaitText("#t-state + .big", "done")
	s.await("held-2", tasks.Created)
	s.awaitCount("spring", "held", 2)
}

func TestHeld_AreDroppedOnlyAfterConfirmation(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	s.worker()
	s.importRows("spring", numbered("held", 1, 3)...)
	s.awaitCount("spring", "held", 3)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.expectStatus(http.StatusUnprocessableEntity)
	b.visit("/held")
	b.click(".bulk button[value=drop_held]")
	b.awaitText("#t-plan + .big", "3 held requests match")
	b.fill("input[name=confirm]", "spring")
	b.click("#t-start ~ form button.danger")
	b.awaitText("main", "Nothing was changed.")
	s.awaitCount("spring", "held", 3)

	b.visit("/held")
	b.click(".bulk button[value=drop_held]")
	b.fill("input[name=confirm]", s.Keys.Account)
	b.click("#t-start ~ form button.danger")
	b.awaitText("#t-done + .big", "3 of 3")
	s.awaitCount("spring", "cancelled", 3)
}

func TestPlan_SaysThatTheSetHasChanged(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	s.worker()
	s.importRows("spring", numbered("bad", 1, 3)...)
	s.awaitCount("spring", "failed", 3)
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.expectStatus(http.StatusConflict)
	b.visit("/failed")
	b.click(".bulk button[value=retry_failed]")
	b.awaitText("#t-plan + .big", "3 failed requests match")
	s.run("failed", "retry", "bad-2")
	s.await("bad-2", tasks.Created)
	b.click("#t-start ~ form button.primary")
	b.awaitText("[role=alert]", "Nothing was started: the entries have changed")
	b.awaitText("#t-plan + .big", "2 failed requests match")
}

func TestWithoutJavaScript_FailedRequestsAreRetried(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	s.worker()
	s.enqueue(tasks.Request{ApplicationID: "bad-1"})
	s.await("bad-1", tasks.Failed)
	b := s.open(apikey.Read, apikey.Operate)
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	b.visit("/failed")
	b.mouse("#key")
	b.insert(b.key)
	b.mouse(".door form button")
	b.awaitText("tbody", "bad-1") // the groups may still be counted, and stay so without JavaScript
	b.mouse(".bulk button[value=retry_failed]")
	b.awaitText("#t-plan + .big", "1 failed request matches")
	b.mouse("#t-start ~ form button.primary")
	b.awaitText("h1", "Retry failed requests")
	s.await("bad-1", tasks.Created)
}

func TestAction_IsAbortedWhileItRuns(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	s.worker()
	const rows = 200
	var failed []request.Record
	for _, r := range numbered("A", 1, rows) {
		failed = append(failed, request.Record{
			ApplicationID: r.ApplicationID, State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1, AcceptedAt: time.Now(), ChangedAt: time.Now(),
			Content: request.Content{Row: len(failed)}, Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "timeout"},
		})
	}
	s.Must(s.stores.Requests.Restore(s.Context(), "spring", failed))
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/failed")
	b.click(".bulk button[value=retry_failed]")
	b.fill("input[name=rate]", "2/s")
	b.click("#t-start ~ form button.primary")
	b.awaitText("#t-state + .big", "running")
	b.run(mark)
	b.await("some are done", `parseInt(document.querySelector("#t-done + .big").innerText) > 0`)
	b.stays()
	b.click(`form[action="/action/abort"] button`)
	b.awaitText("[role=status].done", "The action was aborted.")
	b.awaitText("#t-state + .big", "aborted")
	if b.has(`form[action="/action/abort"]`) {
		t.Error("an aborted action is offered to be aborted")
	}
	list, _, err := action.NewStore(s.Redis, s.Keys.Account).List(s.Context(), "", 2)
	if s.Must(err); len(list) != 1 || list[0].State != action.Aborted {
		t.Fatalf("the actions are %+v, want one that is aborted", list)
	}
	s.Eventually("what the action has retried is created, and the rest stays failed", func() bool {
		counts, err := s.stores.Batches.Counts(s.Context(), "spring")
		s.Must(err)
		a, _, err := action.NewStore(s.Redis, s.Keys.Account).Get(s.Context(), list[0].ID)
		s.Must(err)
		return a.Counts.Done > 0 && counts["created"] == a.Counts.Done && counts["failed"] == rows-a.Counts.Done
	})
}

func TestStart_ADoubleClickStartsOneAction(t *testing.T) {
	s := newSystem(t, oneFaultEach)
	worker := s.worker()
	s.importRows("spring", numbered("bad", 1, 3)...)
	s.awaitCount("spring", "failed", 3)
	worker.kill() // so that the set stays as it is
	b := s.signedIn(apikey.Read, apikey.Operate)
	b.visit("/failed")
	b.click(".bulk button[value=retry_failed]")
	b.await("the button is there", `document.querySelector("#t-start ~ form button.primary")`)
	// Two submits of the same form, as of two clicks, or of a reload after a lost answer.
	locations := value[[]string](b, `(() => {
		const form = document.querySelector("#t-start ~ form");
		const send = () => fetch(form.getAttribute("action"), {method: "post", body: new URLSearchParams(new FormData(form))}).then((answer) => answer.url);
		return Promise.all([send(), send()]);
	})()`)
	b.click("#t-start ~ form button.primary")
	b.awaitText("#t-done + .big", "0 of 3")
	list, _, err := action.NewStore(s.Redis, s.Keys.Account).List(s.Context(), "", 9)
	if s.Must(err); len(list) != 1 {
		t.Fatalf("three submits have started %d actions", len(list))
	}
	for _, at := range append(locations, value[string](b, `location.href`)) {
		if want := s.url + "/action?id=" + list[0].ID; at != want {
			t.Errorf("a submit leads to %s, want %s", at, want)
		}
	}
}
