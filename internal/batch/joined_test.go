package batch_test

import (
	"maps"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// expectJoined compares the status of a batch and the states of its joined rows, as any
// process reads them.
func (h *harness) expectJoined(batch string, status batch.Status, want map[request.State]int) {
	h.Helper()
	stores := storage.Of(h.Redis, h.Keys.Account)
	got, _, err := stores.Batches.Get(h.Context(), h.BatchNumber(batch))
	h.Must(err)
	none := func(_ request.State, n int) bool { return n == 0 }
	maps.DeleteFunc(got.JoinedCounts, none)
	if !maps.Equal(got.JoinedCounts, want) || got.Status != status {
		h.Errorf("batch %s is %s, its joined rows are %v; want %s, %v", batch, got.Status, got.JoinedCounts, status, want)
	}
	listed, err := stores.Batches.All(h.Context())
	h.Must(err)
	for _, l := range listed {
		maps.DeleteFunc(l.JoinedCounts, none)
		if l.Batch == batch && (!maps.Equal(l.JoinedCounts, want) || l.Status != status) {
			h.Errorf("batch %s is listed as %s with the joined rows %v", batch, l.Status, l.JoinedCounts)
		}
	}
}

// A batch is done when all its rows have ended, joined rows included.
func TestBatch_IsDoneWhenItsJoinedRowsAre(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	all := append(ledgertest.Rows(1, 5), ledgertest.Rows(1, 2)...) // two of them twice
	h.Import("autumn", all)
	h.expectJoined("autumn", batch.Running, map[request.State]int{request.Waiting: 7})
	if got := h.Batch("autumn"); got.Rows != 7 || got.Open() != 7 || got.OpenOwn() != 0 || !got.ETA.IsZero() {
		t.Errorf("the batch is %+v", got)
	}
	refs := h.Feed()
	finish := func(i int) {
		_, err := h.Stores.Requests.Created(t.Context(), h.Admit(h.Stores, refs[i], attempt.Call), ledgertest.Link())
		h.Must(err)
	}
	finish(0)
	finish(1)
	h.Admit(h.Stores, refs[2], attempt.Call)
	h.Admit(h.Stores, refs[3], attempt.Call)
	h.Fault(refs[3].ApplicationID, fault.Unusable, attempt.Hold)
	h.expectJoined("autumn", batch.Running, map[request.State]int{request.Created: 4, request.Calling: 1, request.Held: 1, request.Queued: 1})
	h.Fault(refs[2].ApplicationID, fault.BadRequest, attempt.Fail)
	finish(4)
	h.expectJoined("autumn", batch.Done, map[request.State]int{request.Created: 5, request.Failed: 1, request.Held: 1})
	h.expectJoined("spring", batch.Done, map[request.State]int{})

	// An erased request counts as erased, and a retried one is open again.
	h.Erase(refs[0].ApplicationID)
	r, _ := h.Get(refs[2].ApplicationID)
	_, _, err := h.Stores.Requests.Retry(t.Context(), r)
	h.Must(err)
	want := map[request.State]int{batch.Erased: 2, request.Created: 3, request.Waiting: 1, request.Held: 1}
	h.expectJoined("autumn", batch.Running, want)
	_, err = h.Stores.Erasure.EraseRows(t.Context(), false)
	h.Must(err)
	h.expectJoined("autumn", batch.Running, want)

	h.Import("winter", append(ledgertest.Rows(1, 5), tasks.Request{ApplicationID: "W-1"}))
	h.CancelBatch("winter")
	if got := h.Batch("winter"); got.Status != batch.Cancelled || !got.Finished() || got.Open() != 1 {
		t.Errorf("the cancelled batch is %+v, want the joined row left open", got)
	}
}

// Joined rows are found among many others, also in a batch that an older version
// imported, and in chunks that were imported again.
func TestBatch_FindsJoinedRowsAmongOthers(t *testing.T) {
	h := newHarness(t)
	for _, n := range []int{1, 450, 451, 1200} {
		_, err := h.Client.Enqueue(t.Context(), ledgertest.Row(n))
		h.Must(err)
	}
	h.Import("spring", ledgertest.Rows(1, 1500))
	want := map[request.State]int{request.Queued: 4}
	h.expectJoined("spring", batch.Running, want)
	index := h.Keys.Joined(h.BatchNumber("spring"))
	before := h.Redis.HGetAll(t.Context(), index).Val()
	if len(before) != 3 {
		t.Errorf("the index of joined rows names the chunks %v, want 3", before)
	}
	h.Must(h.Redis.Del(t.Context(), index).Err())
	h.expectJoined("spring", batch.Running, want)
	if after := h.Redis.HGetAll(t.Context(), index).Val(); !maps.Equal(before, after) {
		t.Errorf("the index was rebuilt as %v, want %v", after, before)
	}
	h.Import("spring", ledgertest.Rows(1, 1500))
	h.expectJoined("spring", batch.Running, want)
	h.ExpectCounters()
}
