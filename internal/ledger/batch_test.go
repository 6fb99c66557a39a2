package ledger_test

import (
	"context"
	"errors"
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

// number is a batch's, 0 where there is none.
func (b *bench) number(batch string) int {
	b.t.Helper()
	number, _, err := b.ledger.BatchNumber(b.t.Context(), batch)
	b.must(err)
	return number
}

func (b *bench) batch(name string) ledger.Batch {
	b.t.Helper()
	got, ok, err := b.ledger.Batch(b.t.Context(), b.number(name))
	b.must(err)
	if !ok {
		b.t.Fatalf("there is no batch %q", name)
	}
	sum := got.Joined
	for _, n := range got.Counts {
		sum += n
	}
	if got.Rows != sum || len(got.Counts) != 8 {
		b.t.Errorf("%d rows; the counts of %d states and what joined are %d", got.Rows, len(got.Counts), sum)
	}
	return got
}

// steer may be of a batch that there is not yet, or that is cancelled.
func (b *bench) steer(name string, c ledger.Control) {
	b.t.Helper()
	number := b.number(name)
	if number == 0 {
		return
	}
	before := b.batch(name).Status
	err := b.ledger.Steer(b.t.Context(), ledger.Batch{Number: number, Batch: name}, c)
	if _, over := errors.AsType[*tasks.CancelledError](err); over && before == ledger.BatchCancelled && c != ledger.CancelBatch {
		return
	}
	b.must(err)
}

func (b *bench) callOff(name string) {
	b.t.Helper()
	if b.number(name) > 0 {
		b.steer(name, ledger.CancelBatch)
		b.must(b.ledger.CallOff(b.t.Context(), b.number(name), func(int) {}))
	}
}

// brokenOff begins to end the requests of a cancelled batch.
func (b *bench) brokenOff(name string, pages int) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	defer cancel()
	err := b.ledger.CallOff(ctx, b.number(name), func(int) {
		if pages--; pages <= 0 {
			cancel()
		}
	})
	if err != nil && ctx.Err() == nil {
		b.t.Fatal(err)
	}
}

// importInto imports a row into a batch that may be cancelled.
func (b *bench) importInto(name, id string) {
	b.t.Helper()
	err := b.client.EnqueueAll(b.t.Context(), tasks.Batch{Name: name}, tasks.Rows([]tasks.Request{{ApplicationID: id}}),
		func(r tasks.Result) { b.must(r.Err) })
	if _, over := errors.AsType[*tasks.CancelledError](err); over && b.batch(name).Status == ledger.BatchCancelled {
		return
	}
	b.must(err)
}

// markPaused asks for a request whose batch is paused, and lets that go on then.
func (b *bench) markPaused(id string) {
	b.t.Helper()
	before, known := b.get(id)
	b.steer("spring", ledger.PauseBatch)
	if known {
		answer := b.tryMark(b.another(), before.Ref())
		if paused := answer.Admission == attempt.Paused; paused != (before.State == request.Queued) {
			b.t.Errorf("%s: %s", before.State, answer.Admission)
		}
	}
	if len(b.feed()) > 0 {
		b.t.Error("a paused batch was fed")
	}
	b.steer("spring", ledger.ResumeBatch)
}

func (b *bench) expectBatch(name string, status ledger.BatchStatus, counts map[request.State]int) {
	b.t.Helper()
	got := b.batch(name)
	for state, n := range got.Counts {
		if n != counts[state] {
			b.t.Errorf("%d are %s, want %d", n, state, counts[state])
		}
	}
	if got.Status != status {
		b.t.Errorf("batch %s is %s, want %s", name, got.Status, status)
	}
	b.expectCounters()
}

func TestAPausedBatchWaitsAndGoesOnWhereItWas(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 300))
	b.expectBatch("spring", ledger.BatchRunning, map[request.State]int{request.Waiting: 300})
	refs := b.feedUpTo(b.ledger, 150).Refs
	called := b.mark(b.ledger, refs[0], attempt.Call)
	b.steer("spring", ledger.PauseBatch)
	b.steer("spring", ledger.PauseBatch)
	for _, ref := range refs[1:100] {
		b.mark(b.ledger, ref, attempt.Paused)
		b.mark(b.ledger, ref, attempt.Stale)
	}
	b.expectBatch("spring", ledger.BatchPaused, map[request.State]int{request.Waiting: 249, request.Queued: 50, request.Calling: 1})
	if fed := b.feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}

	// What is called is seen through, and who looks at the page is served.
	_, err := b.ledger.Created(t.Context(), called, link)
	b.must(err)
	_, err = b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-300"})
	b.must(err)
	promoted, _ := b.get("R-300")
	b.mark(b.ledger, promoted.Ref(), attempt.Call)

	b.steer("spring", ledger.ResumeBatch)
	fed := b.feedUpTo(b.ledger, 150).Refs
	back := map[string]bool{}
	for _, ref := range refs[1:100] {
		back[ref.ApplicationID] = true
	}
	for _, ref := range fed[:99] {
		if !back[ref.ApplicationID] {
			t.Errorf("%s came before what was put back", ref.ApplicationID)
		}
	}
	b.mark(b.ledger, fed[0], attempt.Call)
	b.feed()
	b.expectBatch("spring", ledger.BatchRunning, map[request.State]int{request.Queued: 297, request.Calling: 2, request.Created: 1})
}

// A fault's pause goes on while the batch is paused: whoever resumes it does not
// call at once what was to wait.
func TestAPausedBatchKeepsPausesAfterFaults(t *testing.T) {
	b, a := started(t)
	_, err := b.ledger.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Hour})
	b.must(err)
	b.steer("spring", ledger.PauseBatch)
	b.mark(b.ledger, a.Ref(), attempt.Early)
	b.expectBatch("spring", ledger.BatchPaused, map[request.State]int{request.Queued: 1})
}

// cancellable is a batch of 400: one created, one failed, one held, two being
// called, 145 queued and 250 waiting; and one that joined it.
func cancellable(t *testing.T) (*bench, []attempt.Attempt) {
	b := newBench(t)
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-401"})
	b.must(err)
	b.enqueueAll("spring", rows(1, 401))
	var calls []attempt.Attempt
	for _, ref := range b.feedUpTo(b.ledger, 150).Refs[:5] {
		calls = append(calls, b.mark(b.ledger, ref, attempt.Call))
	}
	_, err = b.ledger.Created(t.Context(), calls[0], link)
	b.must(err)
	b.fault(calls[1].ApplicationID, fault.BadRequest, attempt.Fail)
	b.fault(calls[2].ApplicationID, fault.Unusable, attempt.Hold)
	b.expectBatch("spring", ledger.BatchRunning, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Held: 1, request.Calling: 2, request.Queued: 145, request.Waiting: 250})
	return b, calls[3:]
}

func TestACancelledBatchEnds(t *testing.T) {
	b, calls := cancellable(t)
	next, _ := b.get("R-100")
	events := b.events()
	b.steer("spring", ledger.CancelBatch)
	// At once, before any of it has ended:
	if fed := b.feed(); len(fed) != 0 {
		t.Errorf("%d were fed", len(fed))
	}
	b.mark(b.ledger, next.Ref(), attempt.Cancel)
	err := b.client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(rows(402, 410)), func(r tasks.Result) { t.Error(r) })
	if over, ok := errors.AsType[*tasks.CancelledError](err); !ok || over.Batch != "spring" {
		t.Errorf("rows are added to a cancelled batch: %v", err)
	}

	total := 0
	for range 2 {
		b.must(b.ledger.CallOff(t.Context(), b.number("spring"), func(n int) { total += n }))
	}
	if total != 396 || b.events()-events != 396 {
		t.Errorf("%d ended, with %d events", total, b.events()-events)
	}
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	if joined, _ := b.get("R-401"); joined.State != request.Queued {
		t.Errorf("one that joined is %s", joined.State)
	}
	if state, err := b.ledger.Created(t.Context(), calls[0], request.Link{LinkID: "link-2", URL: "https://simulator.invalid/2"}); err != nil || state != request.Created {
		t.Errorf("%s, %v", state, err)
	}
	b.fault(calls[1].ApplicationID, fault.ServerError, attempt.Retry)
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Created: 2, request.Failed: 1, request.Cancelled: 397})
	if far, err := b.ledger.Cancelling(t.Context()); err != nil || len(far) != 0 {
		t.Errorf("%v, %v", far, err)
	}

	// A single request of it can be tried again.
	r, _ := b.get("R-2")
	if r.State != request.Failed {
		t.Fatalf("R-2 is %s", r.State)
	}
	_, ok, err := b.ledger.Again(t.Context(), r)
	b.must(err)
	if refs := b.feed(); !ok || len(refs) != 1 {
		t.Fatalf("%v; fed %v", ok, refs)
	}
	b.steer("spring", ledger.ResumeBatch) // which is refused
	b.steer("spring", ledger.PauseBatch)
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Created: 2, request.Queued: 1, request.Cancelled: 397})
	again, _ := b.get("R-2")
	b.mark(b.ledger, again.Ref(), attempt.Call)
}

// Broken off after each of its steps in turn, and done by two side by side.
func TestACancelIsBrokenOffAndGoesOn(t *testing.T) {
	b, _ := cancellable(t)
	b.enqueueAll("other", rows(1001, 1010))
	b.steer("spring", ledger.CancelBatch)
	before := b.events()
	for n := range 4 {
		b.brokenOff("spring", n+1)
		b.expectCounters()
	}
	if b.events() == before {
		t.Error("nothing ended before it was broken off")
	}
	done := make(chan error)
	for range 2 {
		go func() { done <- b.ledger.CallOff(context.WithoutCancel(t.Context()), b.number("spring"), func(int) {}) }()
	}
	b.must(errors.Join(<-done, <-done))
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	b.expectBatch("other", ledger.BatchRunning, map[request.State]int{request.Waiting: 10})
	if got := b.events() - before; got != 396 {
		t.Errorf("%d events", got)
	}
}

// An import that was killed may have accepted rows of a chunk that it never
// wrote, and leave gaps: they are called off all the same.
func TestACancelFindsRowsWithoutAChunk(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 500))
	b.must(b.rdb.HDel(t.Context(), b.keys.Order(1), "1", "3").Err())
	for n := 101; n <= 400; n++ {
		if n > 200 && n <= 300 {
			continue
		}
		b.must(b.rdb.RPush(t.Context(), b.keys.Again(1), fmt.Sprint("R-", n)).Err()) // as accept does then
	}
	b.feedUpTo(b.ledger, 40)
	b.callOff("spring")
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Cancelled: 500})
}

// Each running batch gets its share of the room, whatever its size.
func TestFeedSharesTheRoom(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("million", rows(1, 5000))
	b.feedUpTo(b.ledger, 30)
	b.enqueueAll("ten", rows(10001, 10010))
	b.enqueueAll("paused", rows(20001, 20010))
	b.steer("paused", ledger.PauseBatch)
	served := map[string]int{}
	for target := 35; target <= 70; target += 5 {
		for _, ref := range b.feedUpTo(b.ledger, target).Refs {
			r, _ := b.get(ref.ApplicationID)
			name, err := b.ledger.BatchName(t.Context(), r.Batch)
			b.must(err)
			served[name]++
		}
	}
	// Of forty, ten are its: in its share of the time they are all in.
	if served["ten"] != 10 || served["million"] != 30 || served["paused"] != 0 {
		t.Errorf("served %v", served)
	}
	b.expectCounters()

	// Also of the room of one call.
	b.enqueueAll("half", rows(30001, 31000))
	half := 0
	for _, ref := range b.feedUpTo(b.ledger, 110).Refs {
		if r, _ := b.get(ref.ApplicationID); r.Batch == b.number("half") {
			half++
		}
	}
	if half < 13 || half > 27 {
		t.Errorf("%d of 40 are the newest batch's", half)
	}

	// A retry comes before the rest of its batch.
	a := b.mark(b.ledger, b.record("R-1").Ref(), attempt.Call)
	b.fault(a.ApplicationID, fault.BadRequest, attempt.Fail)
	_, _, err := b.ledger.Again(t.Context(), b.record("R-1"))
	b.must(err)
	if refs := b.feedUpTo(b.ledger, 115).Refs; !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1" }) {
		t.Errorf("the retry is not among %v", refs)
	}
	b.expectCounters()
}

func (b *bench) record(id string) request.Record {
	b.t.Helper()
	r, ok := b.get(id)
	if !ok {
		b.t.Fatalf("%s is unknown", id)
	}
	return r
}

func TestBatchesAreListedWithTheirPace(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 20))
	b.enqueueAll("autumn", rows(101, 103))
	for _, ref := range b.feed() {
		if a := b.mark(b.ledger, ref, attempt.Call); a.Batch == 1 && ref.ApplicationID != "R-20" {
			_, err := b.ledger.Created(t.Context(), a, link)
			b.must(err)
		}
	}
	list, err := b.ledger.Batches(t.Context())
	b.must(err)
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
