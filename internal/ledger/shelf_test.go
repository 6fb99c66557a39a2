package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// fail puts n failed requests on the shelf; when gives each its moment.
func (b *bench) fail(n int, when func(i int) time.Time) {
	b.t.Helper()
	records := make([]request.Record, n)
	for i := range records {
		records[i] = request.Record{
			ApplicationID: fmt.Sprintf("F-%05d", i), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: day, ChangedAt: when(i), Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "invalid_request"},
		}
	}
	for page := range slices.Chunk(records, 200) {
		b.must(b.ledger.Restore(b.t.Context(), "spring", page))
	}
}

// Requests are retried, by this walk and by others, and fail anew while it goes
// on; more of them share a moment than a page holds.
func TestAWalkPassesOverNothing(t *testing.T) {
	const n = 3000
	b := newBench(t)
	b.fail(n, func(i int) time.Time { return day.Add(time.Duration(max(0, i-1400)/3) * time.Millisecond) })
	retry := func(id string) {
		r, _ := b.get(id)
		_, _, err := b.ledger.Again(t.Context(), r)
		b.must(err)
	}
	given, retried := map[string]bool{}, map[string]bool{}
	last := ""
	for page, err := range b.ledger.Shelved(t.Context(), request.Failed, time.Time{}, day.Add(time.Hour)) {
		b.must(err)
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
		b.must(b.rdb.HDel(t.Context(), b.keys.Batch(1), "refused").Err()) // or the batch is paused in the end
		b.fault(b.mark(b.ledger, b.feedUpTo(b.ledger, 1).Refs[0], attempt.Call).ApplicationID, fault.BadRequest, attempt.Fail)
	}
	for i := range n {
		if id := fmt.Sprintf("F-%05d", i); !given[id] && !retried[id] {
			t.Errorf("%s was passed over", id)
		}
	}
	if len(retried) < 100 {
		t.Errorf("only %d were retried ahead of the walk", len(retried))
	}
	b.expectCounters()
	b.expectShelves(nil)
}

func TestAWalkKeepsToItsTime(t *testing.T) {
	b := newBench(t)
	b.fail(10, func(i int) time.Time { return day.Add(time.Duration(i) * time.Second) })
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
		if got := b.walk(tt.since, tt.before); got != tt.want {
			t.Errorf("%d from %v to %v, want %d", got, tt.since, tt.before, tt.want)
		}
	}
}

func (b *bench) walk(since, before time.Time) (given int) {
	b.t.Helper()
	for page, err := range b.ledger.Shelved(b.t.Context(), request.Failed, since, before) {
		b.must(err)
		given += len(page)
	}
	return given
}

func TestManyFailAtOneMoment(t *testing.T) {
	b := newBench(t)
	b.fail(1700, func(i int) time.Time { return day.Add(time.Duration(i/1600) * time.Second) })
	if got := b.walk(time.Time{}, day.Add(time.Hour)); got != 1700 {
		t.Errorf("%d of 1700 are given", got)
	}
}

// What a person decided of a request as it was says nothing of it as it is now.
func TestAStaleDecisionIsNone(t *testing.T) {
	b, a := started(t)
	b.fault("A-1", fault.Unusable, attempt.Hold)
	first, _ := b.get("A-1")
	if _, ok, err := b.ledger.Again(t.Context(), first); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := b.ledger.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("one that went on was dropped: %v, %v", ok, err)
	}
	b.mark(b.ledger, b.feed()[0], attempt.Call)
	b.fault("A-1", fault.Unusable, attempt.Hold)
	again, _ := b.get("A-1")
	if again.Run != a.Run || again.Attempts != 2 || again.PossibleDuplicates != 2 || again.Charged > 1 || len(again.Past) != 1 || again.Past[0].Status != request.Held {
		t.Errorf("held again it is %+v", again)
	}
	if ok, err := b.ledger.Drop(t.Context(), first); ok || err != nil {
		t.Errorf("one that is held anew was dropped: %v, %v", ok, err)
	}
	if _, ok, err := b.ledger.Again(t.Context(), first); ok || err != nil {
		t.Errorf("one that is held anew was retried: %v, %v", ok, err)
	}
	if ok, err := b.ledger.Hide(t.Context(), again); ok || err != nil {
		t.Errorf("a held one was hidden: %v, %v", ok, err)
	}
	if ok, err := b.ledger.Drop(t.Context(), again); !ok || err != nil {
		t.Errorf("it was not dropped: %v, %v", ok, err)
	}
	if r, _ := b.get("A-1"); r.State != request.Cancelled || len(r.Past) != 2 {
		t.Errorf("dropped it is %+v", r)
	}
}

// heldEvent pins what others read of a request that is held.
const heldEvent = `{"application_id":"A-1","generation":1,"run":1,"batch":"spring","reason":"unknown_outcome",` +
	`"message":"FaceKi did not answer in time","attempts":1,"possible_duplicates":1}`

func TestWhatMayHaveMadeALinkIsHeld(t *testing.T) {
	b, _ := started(t)
	b.fault("A-1", fault.TimedOut, attempt.Hold)
	entries, err := b.rdb.XRange(t.Context(), b.keys.Results(), "-", "+").Result()
	if err != nil || len(entries) != 1 || entries[0].Values["type"] != "link.held" || entries[0].Values["data"] != heldEvent {
		t.Fatalf("%v, %v; want %s", entries, err, heldEvent)
	}
	if e, err := tasks.ParseEvent(entries[0].Values); err != nil || e.Data.Reason != "unknown_outcome" {
		t.Errorf("the event is %+v, %v", e, err)
	}
}

// judge is a worker that finds every other process dead, and holds what they called.
func (b *bench) judge() *ledger.Ledger {
	judge := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, DeadAfter: time.Nanosecond, HoldUnknown: true})
	b.must(judge.Join(b.t.Context()))
	return judge
}

func TestADeadAttemptIsHeld(t *testing.T) {
	b, a := started(t)
	judge := b.judge()
	dead := b.mark(judge, a.Ref(), attempt.Dead)
	b.expectState("A-1", "calling") // the judge may die, too
	dead = b.mark(judge, dead.Ref(), attempt.Dead)
	begun, err := b.rdb.Time(t.Context()).Result()
	b.must(err)
	for _, want := range []request.State{request.Held, request.Held} { // the second as after a lost reply
		if state, err := judge.Hold(t.Context(), dead.Record); err != nil || state != want {
			t.Fatalf("%q, %v", state, err)
		}
	}
	r, _ := b.get("A-1")
	if r.Attempts != 1 || r.PossibleDuplicates != 1 || r.Outcome.Reason != "unknown_outcome" || r.Outcome.EndedAt.Before(begun.Truncate(time.Millisecond)) {
		t.Errorf("held it is %+v", r)
	}
	if n := b.events(); n != 1 {
		t.Errorf("%d events", n)
	}
	b.mark(judge, a.Ref(), attempt.Stale)
	if state, err := b.ledger.Created(t.Context(), a, link); err != nil || state != request.Created {
		t.Errorf("its late link: %q, %v", state, err)
	}
	b.expectShelves(nil)
}

func TestACancelWinsOverAHold(t *testing.T) {
	b, a := started(t)
	_, err := b.ledger.Cancel(t.Context(), a.Record)
	b.must(err)
	dead := b.mark(b.judge(), a.Ref(), attempt.Cancel)
	if state, err := b.ledger.Cancel(t.Context(), dead.Record); err != nil || state != request.Cancelled {
		t.Errorf("%q, %v", state, err)
	}
	if r, _ := b.get("A-1"); r.PossibleDuplicates != 1 {
		t.Errorf("cancelled it is %+v", r)
	}
}

func TestRestoreHoldsWhatWasCalled(t *testing.T) {
	b := newBench(t)
	held := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, HoldUnknown: true})
	calling := request.Record{
		ApplicationID: "A-1", State: request.Calling, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 3, PossibleDuplicates: 1,
		AcceptedAt: day, ChangedAt: day, Holder: 7,
	}
	cancelled := calling
	cancelled.ApplicationID, cancelled.CancelAsked = "A-2", true
	for range 2 {
		b.must(held.Restore(t.Context(), "spring", []request.Record{calling, cancelled}))
	}
	if r, _ := b.get("A-1"); r.State != request.Held || r.PossibleDuplicates != 2 || r.Attempts != 3 {
		t.Errorf("what was being called is %+v", r)
	}
	b.expectState("A-2", "cancelled")
	if n := b.events(); n != 2 {
		t.Errorf("%d events", n)
	}
	if refs := b.feed(); len(refs) != 0 {
		t.Errorf("fed %v", refs)
	}
	b.expectCounters()
	b.expectShelves(nil)
}
