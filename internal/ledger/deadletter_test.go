package ledger_test

import (
	"fmt"
	"slices"
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

// fail puts n failed requests on the shelf; when gives each its moment.
func (h *harness) fail(n int, when func(i int) time.Time) {
	h.Helper()
	records := make([]request.Record, n)
	for i := range records {
		records[i] = request.Record{
			ApplicationID: fmt.Sprintf("F-%05d", i), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: day, ChangedAt: when(i), Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "invalid_request"},
		}
	}
	for page := range slices.Chunk(records, 200) {
		h.Must(h.Stores.Requests.Restore(h.Context(), "spring", page))
	}
}

// Requests are retried, by this walk and by others, and fail again while it goes
// on; more of them share a moment than a page holds.
func TestAWalkPassesOverNothing(t *testing.T) {
	const n = 3000
	h := newHarness(t)
	h.fail(n, func(i int) time.Time { return day.Add(time.Duration(max(0, i-1400)/3) * time.Millisecond) })
	retry := func(id string) {
		r, _ := h.Get(id)
		_, _, err := h.Stores.Requests.Retry(t.Context(), r)
		h.Must(err)
	}
	given, retried := map[string]bool{}, map[string]bool{}
	last := ""
	for page, err := range h.Stores.DeadLetters.Requests(t.Context(), request.Failed, time.Time{}, day.Add(time.Hour)) {
		h.Must(err)
		for i, r := range page {
			if given[r.ApplicationID] || retried[r.ApplicationID] || r.ApplicationID <= last {
				t.Fatalf("%s is given after %s; before: %v, retried before: %v", r.ApplicationID, last, given[r.ApplicationID], retried[r.ApplicationID])
			}
			given[r.ApplicationID], last = true, r.ApplicationID
			if i%3 == 0 {
				retry(r.ApplicationID)
			}
		}
		for i := len(given) + 7; i < n && i < len(given)+700; i += 50 { // somebody else's, ahead of this walk
			id := fmt.Sprintf("F-%05d", i)
			if !retried[id] {
				retry(id)
				retried[id] = true
			}
		}
		h.Must(h.Redis.HDel(t.Context(), h.Keys.Batch(1), "refused").Err()) // or the batch is paused in the end
		h.Fault(h.Admit(h.Stores, h.FeedUpTo(h.Stores, 1).Refs[0], attempt.Call).ApplicationID, fault.BadRequest, attempt.Fail)
	}
	for i := range n {
		if id := fmt.Sprintf("F-%05d", i); !given[id] && !retried[id] {
			t.Errorf("%s was passed over", id)
		}
	}
	if len(retried) < 100 {
		t.Errorf("only %d were retried ahead of the walk", len(retried))
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
}

func TestAWalkKeepsToItsTime(t *testing.T) {
	h := newHarness(t)
	h.fail(10, func(i int) time.Time { return day.Add(time.Duration(i) * time.Second) })
	for _, tt := range []struct {
		since, before time.Time
		want          int
	}{
		{time.Time{}, day.Add(time.Hour), 10},
		{day.Add(3 * time.Second), day.Add(time.Hour), 7},
		{day.Add(3*time.Second + time.Millisecond), day.Add(time.Hour), 6},
		{day.Add(3 * time.Second), day.Add(5 * time.Second), 2},
		{day.Add(5 * time.Second), day.Add(5 * time.Second), 0},
	} {
		if got := h.walk(tt.since, tt.before); got != tt.want {
			t.Errorf("%d from %v to %v, want %d", got, tt.since, tt.before, tt.want)
		}
	}
}

func (h *harness) walk(since, before time.Time) (given int) {
	h.Helper()
	for page, err := range h.Stores.DeadLetters.Requests(h.Context(), request.Failed, since, before) {
		h.Must(err)
		given += len(page)
	}
	return given
}

func TestManyFailAtOneMoment(t *testing.T) {
	h := newHarness(t)
	h.fail(1700, func(i int) time.Time { return day.Add(time.Duration(i/1600) * time.Second) })
	if got := h.walk(time.Time{}, day.Add(time.Hour)); got != 1700 {
		t.Errorf("%d of 1700 are given", got)
	}
}

// What a person decided of a request as it was says nothing of it as it is now.
func TestAStaleDecisionIsNone(t *testing.T) {
	h, a := started(t)
	h.Fault("A-1", fault.Unusable, attempt.Hold)
	first, _ := h.Get("A-1")
	if _, ok, err := h.Stores.Requests.Retry(t.Context(), first); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("one that went on was dropped: %v, %v", ok, err)
	}
	h.Admit(h.Stores, h.Feed()[0], attempt.Call)
	h.Fault("A-1", fault.Unusable, attempt.Hold)
	again, _ := h.Get("A-1")
	if again.Run != a.Run || again.Attempts != 2 || again.PossibleDuplicates != 2 || again.Charged > 1 || len(again.Past) != 1 || again.Past[0].Status != request.Held {
		t.Errorf("held again it is %+v", again)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("a request that was held again was dropped: %v, %v", ok, err)
	}
	if _, ok, err := h.Stores.Requests.Retry(t.Context(), first); ok || err != nil {
		t.Errorf("a request that was held again was retried: %v, %v", ok, err)
	}
	if ok, err := h.Stores.DeadLetters.DropRequest(t.Context(), again); ok || err != nil {
		t.Errorf("a held one was hidden: %v, %v", ok, err)
	}
	if ok, err := h.Stores.Requests.Drop(t.Context(), again); !ok || err != nil {
		t.Errorf("it was not dropped: %v, %v", ok, err)
	}
	if r, _ := h.Get("A-1"); r.State != request.Cancelled || len(r.Past) != 2 {
		t.Errorf("dropped it is %+v", r)
	}
}

// heldEvent pins what others read of a request that is held.
const heldEvent = `{"application_id":"A-1","generation":1,"run":1,"batch":"spring","reason":"unknown_outcome",` +
	`"message":"FaceKi did not answer in time","attempts":1,"possible_duplicates":1}`

func TestWhatMayHaveMadeALinkIsHeld(t *testing.T) {
	h, _ := started(t)
	h.Fault("A-1", fault.TimedOut, attempt.Hold)
	entries, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	if err != nil || len(entries) != 1 || entries[0].Values["type"] != "link.held" || entries[0].Values["data"] != heldEvent {
		t.Fatalf("%v, %v; want %s", entries, err, heldEvent)
	}
	if e, err := tasks.ParseEvent(entries[0].Values); err != nil || e.Data.Reason != "unknown_outcome" {
		t.Errorf("the event is %+v, %v", e, err)
	}
}

func TestADeadAttemptIsHeld(t *testing.T) {
	h, a := started(t)
	judge := h.ImpatientWorker()
	dead := h.Admit(judge, a.Ref(), attempt.Dead)
	h.ExpectState("A-1", "calling") // the judge may die, too
	dead = h.Admit(judge, dead.Ref(), attempt.Dead)
	begun, err := h.Redis.Time(t.Context()).Result()
	h.Must(err)
	for _, want := range []request.State{request.Held, request.Held} { // the second as after a lost reply
		if state, err := judge.Requests.Hold(t.Context(), dead.Record); err != nil || state != want {
			t.Fatalf("%q, %v", state, err)
		}
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 1 || r.PossibleDuplicates != 1 || r.Outcome.Reason != "unknown_outcome" || r.Outcome.EndedAt.Before(begun.Truncate(time.Millisecond)) {
		t.Errorf("held it is %+v", r)
	}
	if n := h.EventCount(); n != 1 {
		t.Errorf("%d events", n)
	}
	h.Admit(judge, a.Ref(), attempt.Stale)
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Errorf("its late link: %q, %v", state, err)
	}
	h.ExpectOperatorLists(nil)
}

func TestACancelWinsOverAHold(t *testing.T) {
	h, a := started(t)
	_, err := h.Stores.Requests.Cancel(t.Context(), a.Record)
	h.Must(err)
	dead := h.Admit(h.ImpatientWorker(), a.Ref(), attempt.Cancel)
	if state, err := h.Stores.Requests.Cancel(t.Context(), dead.Record); err != nil || state != request.Cancelled {
		t.Errorf("%q, %v", state, err)
	}
	if r, _ := h.Get("A-1"); r.PossibleDuplicates != 1 {
		t.Errorf("cancelled it is %+v", r)
	}
}

func TestRestoreHoldsWhatWasCalled(t *testing.T) {
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
		t.Errorf("what was being called is %+v", r)
	}
	h.ExpectState("A-2", "cancelled")
	if n := h.EventCount(); n != 2 {
		t.Errorf("%d events", n)
	}
	if refs := h.Feed(); len(refs) != 0 {
		t.Errorf("fed %v", refs)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
}
