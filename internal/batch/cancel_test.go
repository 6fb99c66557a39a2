package batch_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// What became another run, or ended, between the look and the end is looked at
// again: each run has one end.
func TestACancelLooksAgain(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 60))
	refs := h.FeedUpTo(h.Stores, 20).Refs
	failing, succeeding := h.Admit(h.Stores, refs[0], attempt.Call), h.Admit(h.Stores, refs[1], attempt.Call)
	h.Control("spring", batch.Cancel)
	seen := false
	canceller := h.InterruptedAfter("mget", func() {
		seen = true
		_, err := h.Stores.Requests.Cancel(t.Context(), h.Record(refs[2].ApplicationID))
		h.Must(err)
		h.Fault(failing.ApplicationID, fault.BadRequest, attempt.Fail)
		_, _, err = h.Stores.Requests.Retry(t.Context(), h.Record(failing.ApplicationID))
		h.Must(err)
		_, err = h.Stores.Requests.Created(t.Context(), succeeding, ledgertest.Link())
		h.Must(err)
		_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: succeeding.ApplicationID, Generation: 2, Lane: tasks.Bulk})
		h.Must(err)
	})
	h.Must(canceller.Batches.CancelRequests(t.Context(), h.BatchNumber("spring"), func(int) {}))
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 60})
	events, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	h.Must(err)
	distinct := map[string]bool{}
	for _, e := range events {
		distinct[fmt.Sprint(e.Values["id"])] = true
	}
	if !seen || len(events) != 62 || len(distinct) != 62 {
		t.Errorf("%d events with %d ids, want 62", len(events), len(distinct))
	}
}

// What is retried while a batch is being cancelled, after its turn to be
// cancelled, goes on when that is over.
func TestARetryDuringACancelGoesOn(t *testing.T) {
	h, _ := cancellable(t)
	h.Control("spring", batch.Cancel)
	retried := false
	canceller := h.InterruptedAfter("hset", func() { // it notes that all five chunks are through
		_, ok, err := h.Stores.Requests.Retry(t.Context(), h.Record("R-2"))
		if h.Must(err); !ok || len(h.Feed()) != 0 {
			t.Error("it was not retried, or was fed while the batch is being cancelled")
		}
		retried = true
	})
	h.Must(canceller.Batches.CancelRequests(t.Context(), h.BatchNumber("spring"), func(int) {}))
	if !retried {
		t.Error("it was not retried in between")
	}
	if fed := h.Feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("fed %v, want the one that was retried", fed)
	}
	h.ExpectCounters()
}

// What a newer version wrote keeps the cancel open, and is ended when it can be read.
func TestACancelComesBackToWhatItCannotRead(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "2").Err())
	h.Control("spring", batch.Cancel)
	if err := h.Stores.Batches.CancelRequests(t.Context(), 1, func(int) {}); err == nil {
		t.Error("nothing is said of what cannot be read")
	}
	if far, err := h.Stores.Batches.Cancelling(t.Context()); err != nil || len(far) != 1 {
		t.Errorf("the cancel is over: %v, %v", far, err)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "1").Err())
	h.Must(h.Stores.Batches.CancelRequests(t.Context(), 1, func(int) {}))
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 5})
}

// Chunks that an import never wrote hide none of those after them.
func TestACancelReachesChunksAfterGaps(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 200))
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Order(1), "70", h.Redis.HGet(t.Context(), h.Keys.Order(1), "1").Val()).Err())
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Order(1), "1").Err())
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Batch(1), "last", 70).Err())
	h.CancelBatch("spring")
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 200})
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
