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
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// number is a batch's, 0 where there is none.
func (h *harness) number(batch string) int {
	h.Helper()
	number, _, err := h.ledger.Batches.Number(h.Context(), batch)
	h.Must(err)
	return number
}

func (h *harness) batch(name string) batch.Batch {
	h.Helper()
	got, ok, err := h.ledger.Batches.Get(h.Context(), h.number(name))
	h.Must(err)
	if !ok {
		h.Fatalf("there is no batch %q", name)
	}
	sum := got.Joined
	for _, n := range got.Counts {
		sum += n
	}
	if got.Rows != sum || len(got.Counts) != 8 {
		h.Errorf("%d rows; the counts of %d states and what joined are %d", got.Rows, len(got.Counts), sum)
	}
	return got
}

// steer may be of a batch that there is not yet, or that is cancelled.
func (h *harness) steer(name string, c batch.Control) {
	h.Helper()
	number := h.number(name)
	if number == 0 {
		return
	}
	before := h.batch(name).Status
	err := h.ledger.Batches.Control(h.Context(), batch.Batch{Number: number, Batch: name}, c)
	if _, over := errors.AsType[*tasks.CancelledError](err); over && before == batch.Cancelled && c != batch.Cancel {
		return
	}
	h.Must(err)
}

func (h *harness) callOff(name string) {
	h.Helper()
	if h.number(name) > 0 {
		h.steer(name, batch.Cancel)
		h.Must(h.ledger.Batches.CancelRequests(h.Context(), h.number(name), func(int) {}))
	}
}

// brokenOff begins to end the requests of a cancelled batch.
func (h *harness) brokenOff(name string, pages int) {
	h.Helper()
	ctx, cancel := context.WithCancel(h.Context())
	defer cancel()
	err := h.ledger.Batches.CancelRequests(ctx, h.number(name), func(int) {
		if pages--; pages <= 0 {
			cancel()
		}
	})
	if err != nil && ctx.Err() == nil {
		h.Fatal(err)
	}
}

// importInto imports a row into a batch that may be cancelled.
func (h *harness) importInto(name, id string) {
	h.Helper()
	err := h.Client.EnqueueAll(h.Context(), tasks.Batch{Name: name}, tasks.Rows([]tasks.Request{{ApplicationID: id}}),
		func(r tasks.Result) { h.Must(r.Err) })
	if _, over := errors.AsType[*tasks.CancelledError](err); over && h.batch(name).Status == batch.Cancelled {
		return
	}
	h.Must(err)
}

// markPaused asks for a request whose batch is paused, and lets that go on then.
func (h *harness) markPaused(id string) {
	h.Helper()
	before, known := h.get(id)
	h.steer("spring", batch.Pause)
	if known {
		answer := h.tryMark(h.another(), before.Ref())
		if paused := answer.Admission == attempt.Paused; paused != (before.State == request.Queued) {
			h.Errorf("%s: %s", before.State, answer.Admission)
		}
	}
	if len(h.feed()) > 0 {
		h.Error("a paused batch was fed")
	}
	h.steer("spring", batch.Resume)
}

func (h *harness) expectBatch(name string, status batch.Status, counts map[request.State]int) {
	h.Helper()
	got := h.batch(name)
	for state, n := range got.Counts {
		if n != counts[state] {
			h.Errorf("%d are %s, want %d", n, state, counts[state])
		}
	}
	if got.Status != status {
		h.Errorf("batch %s is %s, want %s", name, got.Status, status)
	}
	h.expectCounters()
}

func TestAPausedBatchWaitsAndGoesOnWhereItWas(t *testing.T) {
	h := newHarness(t)
	h.enqueueAll("spring", rows(1, 300))
	h.expectBatch("spring", batch.Running, map[request.State]int{request.Waiting: 300})
	refs := h.feedUpTo(h.ledger, 150).Refs
	called := h.mark(h.ledger, refs[0], attempt.Call)
	h.steer("spring", batch.Pause)
	h.steer("spring", batch.Pause)
	for _, ref := range refs[1:100] {
		h.mark(h.ledger, ref, attempt.Paused)
		h.mark(h.ledger, ref, attempt.Stale)
	}
	h.expectBatch("spring", batch.Paused, map[request.State]int{request.Waiting: 249, request.Queued: 50, request.Calling: 1})
	if fed := h.feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}

	// Calls in flight are finished, and interactive requests are served.
	_, err := h.ledger.Requests.Created(t.Context(), called, link)
	h.Must(err)
	_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-300"})
	h.Must(err)
	promoted, _ := h.get("R-300")
	h.mark(h.ledger, promoted.Ref(), attempt.Call)

	h.steer("spring", batch.Resume)
	fed := h.feedUpTo(h.ledger, 150).Refs
	back := map[string]bool{}
	for _, ref := range refs[1:100] {
		back[ref.ApplicationID] = true
	}
	for _, ref := range fed[:99] {
		if !back[ref.ApplicationID] {
			t.Errorf("%s came before what was put back", ref.ApplicationID)
		}
	}
	h.mark(h.ledger, fed[0], attempt.Call)
	h.feed()
	h.expectBatch("spring", batch.Running, map[request.State]int{request.Queued: 297, request.Calling: 2, request.Created: 1})
}

// A fault's pause goes on while the batch is paused: whoever resumes it does not
// call at once what was to wait.
func TestAPausedBatchKeepsPausesAfterFaults(t *testing.T) {
	h, a := started(t)
	_, err := h.ledger.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Hour})
	h.Must(err)
	h.steer("spring", batch.Pause)
	h.mark(h.ledger, a.Ref(), attempt.Early)
	h.expectBatch("spring", batch.Paused, map[request.State]int{request.Queued: 1})
}

// cancellable is a batch of 400: one created, one failed, one held, two being
// called, 145 queued and 250 waiting; and one that joined it.
func cancellable(t *testing.T) (*harness, []attempt.Attempt) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-401"})
	h.Must(err)
	h.enqueueAll("spring", rows(1, 401))
	var calls []attempt.Attempt
	for _, ref := range h.feedUpTo(h.ledger, 150).Refs[:5] {
		calls = append(calls, h.mark(h.ledger, ref, attempt.Call))
	}
	_, err = h.ledger.Requests.Created(t.Context(), calls[0], link)
	h.Must(err)
	h.fault(calls[1].ApplicationID, fault.BadRequest, attempt.Fail)
	h.fault(calls[2].ApplicationID, fault.Unusable, attempt.Hold)
	h.expectBatch("spring", batch.Running, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Held: 1, request.Calling: 2, request.Queued: 145, request.Waiting: 250})
	return h, calls[3:]
}

func TestACancelledBatchEnds(t *testing.T) {
	h, calls := cancellable(t)
	next, _ := h.get("R-100")
	events := h.events()
	h.steer("spring", batch.Cancel)
	// At once, before any of it has ended:
	if fed := h.feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}
	h.mark(h.ledger, next.Ref(), attempt.Cancel)
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(rows(402, 410)), func(r tasks.Result) { t.Error(r) })
	if over, ok := errors.AsType[*tasks.CancelledError](err); !ok || over.Batch != "spring" {
		t.Errorf("rows are added to a cancelled batch: %v", err)
	}

	total := 0
	for range 2 {
		h.Must(h.ledger.Batches.CancelRequests(t.Context(), h.number("spring"), func(n int) { total += n }))
	}
	if total != 396 || h.events()-events != 396 {
		t.Errorf("%d ended, with %d events", total, h.events()-events)
	}
	h.expectBatch("spring", batch.Cancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	if joined, _ := h.get("R-401"); joined.State != request.Queued {
		t.Errorf("one that joined is %s", joined.State)
	}
	if state, err := h.ledger.Requests.Created(t.Context(), calls[0], request.Link{LinkID: "link-2", URL: "https://simulator.invalid/2"}); err != nil || state != request.Created {
		t.Errorf("%s, %v", state, err)
	}
	h.fault(calls[1].ApplicationID, fault.ServerError, attempt.Retry)
	h.expectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Failed: 1, request.Cancelled: 397})
	if far, err := h.ledger.Batches.Cancelling(t.Context()); err != nil || len(far) != 0 {
		t.Errorf("%v, %v", far, err)
	}

	// A single request of it can be tried again.
	r, _ := h.get("R-2")
	if r.State != request.Failed {
		t.Fatalf("R-2 is %s", r.State)
	}
	_, ok, err := h.ledger.Requests.Retry(t.Context(), r)
	h.Must(err)
	if refs := h.feed(); !ok || len(refs) != 1 {
		t.Fatalf("%v; fed %v", ok, refs)
	}
	h.steer("spring", batch.Resume) // which is refused
	h.steer("spring", batch.Pause)
	h.expectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Queued: 1, request.Cancelled: 397})
	again, _ := h.get("R-2")
	h.mark(h.ledger, again.Ref(), attempt.Call)
}

// Broken off after each of its steps in turn, and done by two side by side.
func TestACancelIsBrokenOffAndGoesOn(t *testing.T) {
	h, _ := cancellable(t)
	h.enqueueAll("other", rows(1001, 1010))
	h.steer("spring", batch.Cancel)
	before := h.events()
	for n := range 4 {
		h.brokenOff("spring", n+1)
		h.expectCounters()
	}
	if h.events() == before {
		t.Error("nothing ended before it was broken off")
	}
	done := make(chan error)
	for range 2 {
		go func() {
			done <- h.ledger.Batches.CancelRequests(context.WithoutCancel(t.Context()), h.number("spring"), func(int) {})
		}()
	}
	h.Must(errors.Join(<-done, <-done))
	h.expectBatch("spring", batch.Cancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	h.expectBatch("other", batch.Running, map[request.State]int{request.Waiting: 10})
	if got := h.events() - before; got != 396 {
		t.Errorf("%d events", got)
	}
}

// An import that was killed may have accepted rows of a chunk that it never
// wrote, and leave gaps: they are called off all the same.
func TestACancelFindsRowsWithoutAChunk(t *testing.T) {
	h := newHarness(t)
	h.enqueueAll("spring", rows(1, 500))
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Order(1), "1", "3").Err())
	for n := 101; n <= 400; n++ {
		if n > 200 && n <= 300 {
			continue
		}
		h.Must(h.Redis.RPush(t.Context(), h.Keys.Requeued(1), fmt.Sprint("R-", n)).Err()) // as accept does then
	}
	h.feedUpTo(h.ledger, 40)
	h.callOff("spring")
	h.expectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 500})
}

// Each running batch gets its share of the room, whatever its size.
func TestFeedSharesTheRoom(t *testing.T) {
	h := newHarness(t)
	h.enqueueAll("million", rows(1, 5000))
	h.feedUpTo(h.ledger, 30)
	h.enqueueAll("ten", rows(10001, 10010))
	h.enqueueAll("paused", rows(20001, 20010))
	h.steer("paused", batch.Pause)
	served := map[string]int{}
	for target := 35; target <= 70; target += 5 {
		for _, ref := range h.feedUpTo(h.ledger, target).Refs {
			r, _ := h.get(ref.ApplicationID)
			name, err := h.ledger.Batches.Name(t.Context(), r.Batch)
			h.Must(err)
			served[name]++
		}
	}
	// Of forty, ten are its: in its share of the time they are all in.
	if served["ten"] != 10 || served["million"] != 30 || served["paused"] != 0 {
		t.Errorf("served %v", served)
	}
	h.expectCounters()

	// Also of the room of one call.
	h.enqueueAll("half", rows(30001, 31000))
	half := 0
	for _, ref := range h.feedUpTo(h.ledger, 110).Refs {
		if r, _ := h.get(ref.ApplicationID); r.Batch == h.number("half") {
			half++
		}
	}
	if half < 13 || half > 27 {
		t.Errorf("%d of 40 are the newest batch's", half)
	}

	// A retry comes before the rest of its batch.
	a := h.mark(h.ledger, h.record("R-1").Ref(), attempt.Call)
	h.fault(a.ApplicationID, fault.BadRequest, attempt.Fail)
	_, _, err := h.ledger.Requests.Retry(t.Context(), h.record("R-1"))
	h.Must(err)
	if refs := h.feedUpTo(h.ledger, 115).Refs; !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1" }) {
		t.Errorf("the retry is not among %v", refs)
	}
	h.expectCounters()
}

func (h *harness) record(id string) request.Record {
	h.Helper()
	r, ok := h.get(id)
	if !ok {
		h.Fatalf("%s is unknown", id)
	}
	return r
}

func TestBatchesAreListedWithTheirPace(t *testing.T) {
	h := newHarness(t)
	h.enqueueAll("spring", rows(1, 20))
	h.enqueueAll("autumn", rows(101, 103))
	for _, ref := range h.feed() {
		if a := h.mark(h.ledger, ref, attempt.Call); a.Batch == 1 && ref.ApplicationID != "R-20" {
			_, err := h.ledger.Requests.Created(t.Context(), a, link)
			h.Must(err)
		}
	}
	list, err := h.ledger.Batches.All(t.Context())
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
