package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestAPausedBatchWaitsAndGoesOnWhereItWas(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 300))
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Waiting: 300})
	refs := h.FeedUpTo(h.Stores, 150).Refs
	called := h.Admit(h.Stores, refs[0], attempt.Call)
	h.Control("spring", batch.Pause)
	h.Control("spring", batch.Pause)
	for _, ref := range refs[1:100] {
		h.Admit(h.Stores, ref, attempt.Paused)
		h.Admit(h.Stores, ref, attempt.Stale)
	}
	h.ExpectBatch("spring", batch.Paused, map[request.State]int{request.Waiting: 249, request.Queued: 50, request.Calling: 1})
	if fed := h.Feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}

	// Calls in flight are finished, and interactive requests are served.
	_, err := h.Stores.Requests.Created(t.Context(), called, ledgertest.Link())
	h.Must(err)
	_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-300"})
	h.Must(err)
	promoted, _ := h.Get("R-300")
	h.Admit(h.Stores, promoted.Ref(), attempt.Call)

	h.Control("spring", batch.Resume)
	fed := h.FeedUpTo(h.Stores, 150).Refs
	back := map[string]bool{}
	for _, ref := range refs[1:100] {
		back[ref.ApplicationID] = true
	}
	for _, ref := range fed[:99] {
		if !back[ref.ApplicationID] {
			t.Errorf("%s came before what was put back", ref.ApplicationID)
		}
	}
	h.Admit(h.Stores, fed[0], attempt.Call)
	h.Feed()
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Queued: 297, request.Calling: 2, request.Created: 1})
}

// A fault's pause goes on while the batch is paused: whoever resumes it does not
// call at once what was to wait.
func TestAPausedBatchKeepsPausesAfterFaults(t *testing.T) {
	h, a := started(t)
	_, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Hour})
	h.Must(err)
	h.Control("spring", batch.Pause)
	h.Admit(h.Stores, a.Ref(), attempt.Early)
	h.ExpectBatch("spring", batch.Paused, map[request.State]int{request.Queued: 1})
}

// cancellable is a batch of 400: one created, one failed, one held, two being
// called, 145 queued and 250 waiting; and one that joined it.
func cancellable(t *testing.T) (*harness, []attempt.Attempt) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-401"})
	h.Must(err)
	h.Import("spring", ledgertest.Rows(1, 401))
	var calls []attempt.Attempt
	for _, ref := range h.FeedUpTo(h.Stores, 150).Refs[:5] {
		calls = append(calls, h.Admit(h.Stores, ref, attempt.Call))
	}
	_, err = h.Stores.Requests.Created(t.Context(), calls[0], ledgertest.Link())
	h.Must(err)
	h.Fault(calls[1].ApplicationID, fault.BadRequest, attempt.Fail)
	h.Fault(calls[2].ApplicationID, fault.Unusable, attempt.Hold)
	h.ExpectBatch("spring", batch.Running, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Held: 1, request.Calling: 2, request.Queued: 145, request.Waiting: 250})
	return h, calls[3:]
}

func TestACancelledBatchEnds(t *testing.T) {
	h, calls := cancellable(t)
	next, _ := h.Get("R-100")
	events := h.EventCount()
	h.Control("spring", batch.Cancel)
	// At once, before any of it has ended:
	if fed := h.Feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}
	h.Admit(h.Stores, next.Ref(), attempt.Cancel)
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(ledgertest.Rows(402, 410)), func(r tasks.Result) { t.Error(r) })
	if over, ok := errors.AsType[*tasks.CancelledError](err); !ok || over.Batch != "spring" {
		t.Errorf("rows are added to a cancelled batch: %v", err)
	}

	total := 0
	for range 2 {
		h.Must(h.Stores.Batches.CancelRequests(t.Context(), h.BatchNumber("spring"), func(n int) { total += n }))
	}
	if total != 396 || h.EventCount()-events != 396 {
		t.Errorf("%d ended, with %d events", total, h.EventCount()-events)
	}
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	if joined, _ := h.Get("R-401"); joined.State != request.Queued {
		t.Errorf("one that joined is %s", joined.State)
	}
	if state, err := h.Stores.Requests.Created(t.Context(), calls[0], request.Link{LinkID: "link-2", URL: "https://simulator.invalid/2"}); err != nil || state != request.Created {
		t.Errorf("%s, %v", state, err)
	}
	h.Fault(calls[1].ApplicationID, fault.ServerError, attempt.Retry)
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Failed: 1, request.Cancelled: 397})
	if far, err := h.Stores.Batches.Cancelling(t.Context()); err != nil || len(far) != 0 {
		t.Errorf("%v, %v", far, err)
	}

	// A single request of it can be tried again.
	r, _ := h.Get("R-2")
	if r.State != request.Failed {
		t.Fatalf("R-2 is %s", r.State)
	}
	_, ok, err := h.Stores.Requests.Retry(t.Context(), r)
	h.Must(err)
	if refs := h.Feed(); !ok || len(refs) != 1 {
		t.Fatalf("%v; fed %v", ok, refs)
	}
	h.Control("spring", batch.Resume) // which is refused
	h.Control("spring", batch.Pause)
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Queued: 1, request.Cancelled: 397})
	again, _ := h.Get("R-2")
	h.Admit(h.Stores, again.Ref(), attempt.Call)
}

// Broken off after each of its steps in turn, and done by two side by side.
func TestACancelIsBrokenOffAndGoesOn(t *testing.T) {
	h, _ := cancellable(t)
	h.Import("other", ledgertest.Rows(1001, 1010))
	h.Control("spring", batch.Cancel)
	before := h.EventCount()
	for n := range 4 {
		h.CancelPages("spring", n+1)
		h.ExpectCounters()
	}
	if h.EventCount() == before {
		t.Error("nothing ended before it was broken off")
	}
	done := make(chan error)
	for range 2 {
		go func() {
			done <- h.Stores.Batches.CancelRequests(context.WithoutCancel(t.Context()), h.BatchNumber("spring"), func(int) {})
		}()
	}
	h.Must(errors.Join(<-done, <-done))
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	h.ExpectBatch("other", batch.Running, map[request.State]int{request.Waiting: 10})
	if got := h.EventCount() - before; got != 396 {
		t.Errorf("%d events", got)
	}
}

// An import that was killed may have accepted rows of a chunk that it never
// wrote, and leave gaps: they are called off all the same.
func TestACancelFindsRowsWithoutAChunk(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 500))
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Order(1), "1", "3").Err())
	for n := 101; n <= 400; n++ {
		if n > 200 && n <= 300 {
			continue
		}
		h.Must(h.Redis.RPush(t.Context(), h.Keys.Requeued(1), fmt.Sprint("R-", n)).Err()) // as accept does then
	}
	h.FeedUpTo(h.Stores, 40)
	h.CancelBatch("spring")
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 500})
}

// Each running batch gets its share of the room, whatever its size.
func TestFeedSharesTheRoom(t *testing.T) {
	h := newHarness(t)
	h.Import("million", ledgertest.Rows(1, 5000))
	h.FeedUpTo(h.Stores, 30)
	h.Import("ten", ledgertest.Rows(10001, 10010))
	h.Import("paused", ledgertest.Rows(20001, 20010))
	h.Control("paused", batch.Pause)
	served := map[string]int{}
	for target := 35; target <= 70; target += 5 {
		for _, ref := range h.FeedUpTo(h.Stores, target).Refs {
			r, _ := h.Get(ref.ApplicationID)
			name, err := h.Stores.Batches.Name(t.Context(), r.Batch)
			h.Must(err)
			served[name]++
		}
	}
	// Of forty, ten are its: in its share of the time they are all in.
	if served["ten"] != 10 || served["million"] != 30 || served["paused"] != 0 {
		t.Errorf("served %v", served)
	}
	h.ExpectCounters()

	// Also of the room of one call.
	h.Import("half", ledgertest.Rows(30001, 31000))
	half := 0
	for _, ref := range h.FeedUpTo(h.Stores, 110).Refs {
		if r, _ := h.Get(ref.ApplicationID); r.Batch == h.BatchNumber("half") {
			half++
		}
	}
	if half < 13 || half > 27 {
		t.Errorf("%d of 40 are the newest batch's", half)
	}

	// A retry comes before the rest of its batch.
	a := h.Admit(h.Stores, h.Record("R-1").Ref(), attempt.Call)
	h.Fault(a.ApplicationID, fault.BadRequest, attempt.Fail)
	_, _, err := h.Stores.Requests.Retry(t.Context(), h.Record("R-1"))
	h.Must(err)
	if refs := h.FeedUpTo(h.Stores, 115).Refs; !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1" }) {
		t.Errorf("the retry is not among %v", refs)
	}
	h.ExpectCounters()
}

func TestBatchesAreListedWithTheirPace(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 20))
	h.Import("autumn", ledgertest.Rows(101, 103))
	for _, ref := range h.Feed() {
		if a := h.Admit(h.Stores, ref, attempt.Call); a.Batch == 1 && ref.ApplicationID != "R-20" {
			_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
			h.Must(err)
		}
	}
	list, err := h.Stores.Batches.All(t.Context())
	h.Must(err)
	if len(list) != 2 || list[0].Batch != "spring" || list[1].Batch != "autumn" || list[1].Throughput != 0 || !list[1].ETA.IsZero() {
		t.Fatalf("%+v", list)
	}
	spring := list[0]
	if spring.Throughput <= 0 || spring.Throughput > 19 || spring.ETA.Before(time.Now().Add(-2*time.Second)) || spring.ETA.After(time.Now().Add(time.Minute)) {
		t.Errorf("%+v", spring)
	}
	if old := time.Since(spring.CreatedAt); old < 0 || old > time.Minute {
		t.Errorf("it was made at %v", spring.CreatedAt)
	}
}
