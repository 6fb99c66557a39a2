package ledger_test

import (
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
