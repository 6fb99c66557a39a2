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

// A request that starts another run, or ends, after it was read is read again: each run
// has one end.
func TestCancelRequests_ReadsAgainWhatChangedMeanwhile(t *testing.T) {
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
		t.Errorf("%d events with %d different ids were published, want 62", len(events), len(distinct))
	}
}

// A request that is retried while its batch is being cancelled, after it was cancelled
// itself, is fed once the batch is cancelled.
func TestCancelRequests_LeavesRequestsThatAreRetriedMeanwhile(t *testing.T) {
	h, _ := cancellable(t)
	h.Control("spring", batch.Cancel)
	retried := false
	canceller := h.InterruptedAfter("hset", func() { // it records that all five chunks are done
		_, ok, err := h.Stores.Requests.Retry(t.Context(), h.Record("R-2"))
		if h.Must(err); !ok || len(h.Feed()) != 0 {
			t.Error("the request was not retried, or was fed while its batch was being cancelled")
		}
		retried = true
	})
	h.Must(canceller.Batches.CancelRequests(t.Context(), h.BatchNumber("spring"), func(int) {}))
	if !retried {
		t.Error("the request was not retried during the cancellation")
	}
	if fed := h.Feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("%v were fed, want only the retried request", fed)
	}
	h.ExpectCounters()
}

// A record of a newer version keeps the cancellation open, and is ended once it can be
// read.
func TestCancelRequests_StaysOpenForRecordsOfANewerVersion(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "9").Err())
	h.Control("spring", batch.Cancel)
	if err := h.Stores.Batches.CancelRequests(t.Context(), 1, func(int) {}); err == nil {
		t.Error("an unreadable record was not reported")
	}
	if far, err := h.Stores.Batches.Cancelling(t.Context()); err != nil || len(far) != 1 {
		t.Errorf("%v is still being cancelled, want the batch; %v", far, err)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "n").Err())
	h.Must(h.Stores.Batches.CancelRequests(t.Context(), 1, func(int) {}))
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 5})
}

// Chunks that an import never wrote do not hide the chunks after them.
func TestCancelRequests_ReachesChunksAfterMissingOnes(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 200))
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Order(1), "70", h.Redis.HGet(t.Context(), h.Keys.Order(1), "1").Val()).Err())
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Order(1), "1").Err())
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Batch(1), "last", 70).Err())
	h.CancelBatch("spring")
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 200})
}

// cancellable returns an account with a batch of 400 requests: one is created, one
// failed, one held, two are being called, 145 queued and 250 waiting. One more row
// joined the batch. It returns the two calls in flight.
func cancellable(t *testing.T) (*harness, []attempt.Attempt) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), ledgertest.Row(401))
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

func TestCancel_EndsTheBatch(t *testing.T) {
	h, calls := cancellable(t)
	next, _ := h.Get("R-100")
	events := h.EventCount()
	h.Control("spring", batch.Cancel)
	// Before any of its requests has ended:
	if fed := h.Feed(); len(fed) != 0 {
		t.Errorf("%d requests of a cancelled batch were fed", len(fed))
	}
	h.Admit(h.Stores, next.Ref(), attempt.Cancel)
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(ledgertest.Rows(402, 410)), func(r tasks.Result) { t.Error(r) })
	if over, ok := errors.AsType[*tasks.CancelledError](err); !ok || over.Batch != "spring" {
		t.Errorf("an import into a cancelled batch returned %v", err)
	}

	total := 0
	for range 2 {
		h.Must(h.Stores.Batches.CancelRequests(t.Context(), h.BatchNumber("spring"), func(n int) { total += n }))
	}
	if total != 396 || h.EventCount()-events != 396 {
		t.Errorf("%d requests ended, with %d events; want 396 of each", total, h.EventCount()-events)
	}
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{
		request.Created: 1, request.Failed: 1, request.Calling: 2, request.Cancelled: 396})
	if joined, _ := h.Get("R-401"); joined.State != request.Queued {
		t.Errorf("the row that joined is %s", joined.State)
	}
	if state, err := h.Stores.Requests.Created(t.Context(), calls[0], request.Link{LinkID: "link-2", URL: "https://simulator.invalid/2"}); err != nil || state != request.Created {
		t.Errorf("a link that came after the cancellation makes its request %s, %v", state, err)
	}
	h.Fault(calls[1].ApplicationID, fault.ServerError, attempt.Retry)
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Failed: 1, request.Cancelled: 397})
	if far, err := h.Stores.Batches.Cancelling(t.Context()); err != nil || len(far) != 0 {
		t.Errorf("%v is still being cancelled, %v", far, err)
	}

	// One of its requests can be retried.
	r, _ := h.Get("R-2")
	if r.State != request.Failed {
		t.Fatalf("R-2 is %s, want failed", r.State)
	}
	_, ok, err := h.Stores.Requests.Retry(t.Context(), r)
	h.Must(err)
	if refs := h.Feed(); !ok || len(refs) != 1 {
		t.Fatalf("retried: %v; %v were fed", ok, refs)
	}
	h.Control("spring", batch.Resume) // which is refused
	h.Control("spring", batch.Pause)
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Created: 2, request.Queued: 1, request.Cancelled: 397})
	again, _ := h.Get("R-2")
	h.Admit(h.Stores, again.Ref(), attempt.Call)
}

// A cancellation that is interrupted after each of its pages is finished by two
// processes at once.
func TestCancelRequests_ContinuesAfterAnInterruption(t *testing.T) {
	h, _ := cancellable(t)
	h.Import("other", ledgertest.Rows(1001, 1010))
	h.Control("spring", batch.Cancel)
	before := h.EventCount()
	for n := range 4 {
		h.CancelPages("spring", n+1)
		h.ExpectCounters()
	}
	if h.EventCount() == before {
		t.Error("no request ended before the interruption")
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
		t.Errorf("%d events were published, want 396", got)
	}
}

// An import that was killed may have accepted rows of a chunk that it never wrote, and
// may have left gaps. These rows are cancelled too.
func TestCancelRequests_FindsRowsWithoutAChunk(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 500))
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Order(1), "1", "3").Err())
	for n := 101; n <= 400; n++ {
		if n > 200 && n <= 300 {
			continue
		}
		h.Must(h.Redis.RPush(t.Context(), h.Keys.Requeued(1), fmt.Sprint("R-", n)).Err()) // as accept does
	}
	h.FeedUpTo(h.Stores, 40)
	h.CancelBatch("spring")
	h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 500})
}
