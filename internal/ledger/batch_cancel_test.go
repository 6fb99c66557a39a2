package ledger_test

import (
	"fmt"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// What became another run, or ended, between the look and the end is looked at
// again: each run has one end.
func TestACancelLooksAgain(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 60))
	refs := b.feedUpTo(b.ledger, 20).Refs
	failing, succeeding := b.mark(b.ledger, refs[0], attempt.Call), b.mark(b.ledger, refs[1], attempt.Call)
	b.steer("spring", ledger.CancelBatch)
	seen := false
	canceller := b.overtaken("mget", func() {
		seen = true
		_, err := b.ledger.Cancel(t.Context(), b.record(refs[2].ApplicationID))
		b.must(err)
		b.fault(failing.ApplicationID, fault.BadRequest, attempt.Fail)
		_, _, err = b.ledger.Again(t.Context(), b.record(failing.ApplicationID))
		b.must(err)
		_, err = b.ledger.Created(t.Context(), succeeding, link)
		b.must(err)
		_, err = b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: succeeding.ApplicationID, Generation: 2, Lane: tasks.Bulk})
		b.must(err)
	})
	b.must(canceller.CallOff(t.Context(), b.number("spring"), func(int) {}))
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Cancelled: 60})
	events, err := b.rdb.XRange(t.Context(), b.keys.Results(), "-", "+").Result()
	b.must(err)
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
	b, _ := cancellable(t)
	b.steer("spring", ledger.CancelBatch)
	retried := false
	canceller := b.overtaken("hset", func() { // it notes that all five chunks are through
		_, ok, err := b.ledger.Again(t.Context(), b.record("R-2"))
		if b.must(err); !ok || len(b.feed()) != 0 {
			t.Error("it was not retried, or was fed while the batch is being cancelled")
		}
		retried = true
	})
	b.must(canceller.CallOff(t.Context(), b.number("spring"), func(int) {}))
	if !retried {
		t.Error("it was not retried in between")
	}
	if fed := b.feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("fed %v, want the one that was retried", fed)
	}
	b.expectCounters()
}

// What a newer version wrote keeps the cancel open, and is ended when it can be read.
func TestACancelComesBackToWhatItCannotRead(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 5))
	b.must(b.rdb.SetRange(t.Context(), b.keys.Record("R-2"), 0, "2").Err())
	b.steer("spring", ledger.CancelBatch)
	if err := b.ledger.CallOff(t.Context(), 1, func(int) {}); err == nil {
		t.Error("nothing is said of what cannot be read")
	}
	if far, err := b.ledger.Cancelling(t.Context()); err != nil || len(far) != 1 {
		t.Errorf("the cancel is over: %v, %v", far, err)
	}
	b.must(b.rdb.SetRange(t.Context(), b.keys.Record("R-2"), 0, "1").Err())
	b.must(b.ledger.CallOff(t.Context(), 1, func(int) {}))
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Cancelled: 5})
}

// Chunks that an import never wrote hide none of those after them.
func TestACancelReachesChunksAfterGaps(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 200))
	b.must(b.rdb.HSet(t.Context(), b.keys.Order(1), "70", b.rdb.HGet(t.Context(), b.keys.Order(1), "1").Val()).Err())
	b.must(b.rdb.HDel(t.Context(), b.keys.Order(1), "1").Err())
	b.must(b.rdb.HSet(t.Context(), b.keys.Batch(1), "last", 70).Err())
	b.callOff("spring")
	b.expectBatch("spring", ledger.BatchCancelled, map[request.State]int{request.Cancelled: 200})
}
