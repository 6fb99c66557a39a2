package ledger_test

import (
	"slices"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Rows that joined are fed by their own batch alone, or by none.
func TestFeed_FeedsAJoinedRowWithItsOwnBatchOnly(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 10))
	h.Control("spring", batch.Pause)
	h.Import("summer", ledgertest.Rows(1, 12))
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "B-1", Lane: tasks.Bulk})
	h.Must(err)
	var fed []string
	for range 5 {
		for _, ref := range h.Feed() {
			fed = append(fed, ref.ApplicationID)
		}
	}
	slices.Sort(fed)
	if !slices.Equal(fed, []string{"B-1", "R-11", "R-12"}) {
		t.Errorf("fed %v, want summer's own and the one without a batch", fed)
	}
	h.ExpectBatch("spring", batch.Paused, map[request.State]int{request.Waiting: 10})
	h.ExpectBatch("summer", batch.Running, map[request.State]int{request.Queued: 2})
}

// A row that only a newer version can read is passed over, and fed once it can be
// read.
func TestFeed_FeedsARowOfANewerVersionOnceItIsReadable(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "2").Err())
	if fed := len(h.Feed()) + len(h.Feed()); fed != 2 {
		t.Errorf("fed %d, want the other two", fed)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "1").Err())
	if n, err := h.Stores.Requests.RequeueNewer(t.Context()); n != 1 || err != nil {
		t.Errorf("%d can be read now, %v", n, err)
	}
	if fed := h.Feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("fed %v", fed)
	}
}

// Each running batch gets its share of the room, whatever its size.
func TestFeed_SharesTheRoomAmongBatches(t *testing.T) {
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
