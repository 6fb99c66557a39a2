package ledger_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// An operator action does nothing to a request that has changed since it was read.
func TestOperatorAction_IgnoresARequestThatHasChanged(t *testing.T) {
	h, a := started(t)
	h.Fault("A-1", fault.Unusable, attempt.Hold)
	first, _ := h.Get("A-1")
	if _, ok, err := h.Stores.Requests.Retry(t.Context(), first); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("a retried request was dropped: %v, %v", ok, err)
	}
	h.Admit(h.Stores, h.Feed()[0], attempt.Call)
	h.Fault("A-1", fault.Unusable, attempt.Hold)
	again, _ := h.Get("A-1")
	if again.Run != a.Run || again.Attempts != 2 || again.PossibleDuplicates != 2 || again.Charged > 1 || len(again.Past) != 1 || again.Past[0].Status != request.Held {
		t.Errorf("the request held again is %+v", again)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("a request that was held again was dropped: %v, %v", ok, err)
	}
	if _, ok, err := h.Stores.Requests.Retry(t.Context(), first); ok || err != nil {
		t.Errorf("a request that was held again was retried: %v, %v", ok, err)
	}
	if ok, err := h.Stores.DeadLetters.DropRequest(t.Context(), again); ok || err != nil {
		t.Errorf("a held request was dropped from the failed ones: %v, %v", ok, err)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), again); !ok || err != nil {
		t.Errorf("the held request was not dropped: %v, %v", ok, err)
	}
	if r, _ := h.Get("A-1"); r.State != request.Cancelled || len(r.Past) != 2 {
		t.Errorf("the dropped request is %+v", r)
	}
}

// heldEvent is the data of the event of a held request.
const heldEvent = `{"application_id":"A-1","generation":1,"run":1,"batch":"spring","reason":"unknown_outcome",` +
	`"message":"FaceKi did not answer in time","attempts":1,"possible_duplicates":1}`

func TestFault_HoldsAnUncertainOutcome(t *testing.T) {
	h, _ := started(t)
	h.Fault("A-1", fault.TimedOut, attempt.Hold)
	entries, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	if err != nil || len(entries) != 1 || entries[0].Values["type"] != "link.held" || entries[0].Values["data"] != heldEvent {
		t.Fatalf("the events are %v, %v; want %s", entries, err, heldEvent)
	}
	if e, err := tasks.ParseEvent(entries[0].Values); err != nil || e.Data.Reason != "unknown_outcome" {
		t.Errorf("the event is %+v, %v", e, err)
	}
}

func TestHold_HoldsTheCallOfADeadWorker(t *testing.T) {
	h, a := started(t)
	observer := h.ImpatientWorker()
	dead := h.Admit(observer, a.Ref(), attempt.Dead)
	h.ExpectState("A-1", "calling") // the observer may die, too
	dead = h.Admit(observer, dead.Ref(), attempt.Dead)
	begun, err := h.Redis.Time(t.Context()).Result()
	h.Must(err)
	for _, want := range []request.State{request.Held, request.Held} { // the second time as after a lost reply
		if state, err := observer.Requests.Hold(t.Context(), dead.Record); err != nil || state != want {
			t.Fatalf("the held request is %q, %v", state, err)
		}
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 1 || r.PossibleDuplicates != 1 || r.Outcome.Reason != "unknown_outcome" || r.Outcome.EndedAt.Before(begun.Truncate(time.Millisecond)) {
		t.Errorf("the held request is %+v", r)
	}
	if n := h.EventCount(); n != 1 {
		t.Errorf("%d events were published", n)
	}
	h.Admit(observer, a.Ref(), attempt.Stale)
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Errorf("a late link makes the request %q, %v", state, err)
	}
	h.ExpectOperatorLists(nil)
}

func TestCancel_WinsOverAHold(t *testing.T) {
	h, a := started(t)
	_, err := h.Stores.Requests.Cancel(t.Context(), a.Record)
	h.Must(err)
	dead := h.Admit(h.ImpatientWorker(), a.Ref(), attempt.Cancel)
	if state, err := h.Stores.Requests.Cancel(t.Context(), dead.Record); err != nil || state != request.Cancelled {
		t.Errorf("the cancelled request is %q, %v", state, err)
	}
	if r, _ := h.Get("A-1"); r.PossibleDuplicates != 1 {
		t.Errorf("the cancelled request is %+v", r)
	}
}

func TestRestore_HoldsRequestsThatWereBeingCalled(t *testing.T) {
	h := newHarness(t)
	held := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}, Ledger: ledger.Config{HoldUncertain: true}})
	calling := request.Record{
		ApplicationID: "A-1", State: request.Calling, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 3, PossibleDuplicates: 1,
		AcceptedAt: day, ChangedAt: day, Holder: 7,
	}
	cancelled := calling
	cancelled.ApplicationID, cancelled.CancelAsked = "A-2", true
	for range 2 {
		h.Must(held.Requests.Restore(t.Context(), "spring", []request.Record{calling, cancelled}))
	}
	if r, _ := h.Get("A-1"); r.State != request.Held || r.PossibleDuplicates != 2 || r.Attempts != 3 {
		t.Errorf("the restored request is %+v", r)
	}
	h.ExpectState("A-2", "cancelled")
	if n := h.EventCount(); n != 2 {
		t.Errorf("%d events were published", n)
	}
	if refs := h.Feed(); len(refs) != 0 {
		t.Errorf("%v were fed", refs)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
}
