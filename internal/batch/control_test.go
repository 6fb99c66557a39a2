package batch_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestPause_KeepsRequestsUntilResume(t *testing.T) {
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
		t.Errorf("%d requests of a paused batch were fed", len(fed))
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
			t.Errorf("%s was fed before the requests that were fed before the pause", ref.ApplicationID)
		}
	}
	h.Admit(h.Stores, fed[0], attempt.Call)
	h.Feed()
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Queued: 297, request.Calling: 2, request.Created: 1})
}

// A delay after a fault continues while the batch is paused, so that resuming the batch
// does not call a request early.
func TestPause_KeepsDelaysAfterFaults(t *testing.T) {
	h, a := newCalling(t)
	_, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8, Delay: time.Hour})
	h.Must(err)
	h.Control("spring", batch.Pause)
	h.Admit(h.Stores, a.Ref(), attempt.Early)
	h.ExpectBatch("spring", batch.Paused, map[request.State]int{request.Queued: 1})
}

// Pausing a batch that does not exist does not create it.
func TestControl_RefusesABatchThatDoesNotExist(t *testing.T) {
	h := newHarness(t)
	err := h.Stores.Batches.Control(t.Context(), batch.Batch{Number: 7, Batch: "spring"}, batch.Pause)
	if err == nil || tasks.ReasonOf(err) != "" || h.Redis.Exists(t.Context(), h.Keys.Batch(7)).Val() != 0 {
		t.Errorf("pausing a batch that does not exist returned %v, and may have created it", err)
	}
}
