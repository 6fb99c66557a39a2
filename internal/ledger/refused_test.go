package ledger_test

import (
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// refusing feeds a batch one request at a time, and lets FaceKi refuse each call as
// invalid.
type refusing struct {
	*harness
	paused []string // what RowsRefused was called with
}

func newRefusing(t *testing.T) *refusing {
	r := &refusing{harness: newHarness(t)}
	r.Stores = storage.New(r.Redis, storage.Config{
		Fleet:  fleet.Config{Account: r.Keys.Account, Simulated: true},
		Ledger: ledger.Config{RowsRefused: func(batch, message string) { r.paused = append(r.paused, batch+": "+message) }},
	})
	r.Must(r.Stores.Fleet.Join(t.Context()))
	return r
}

// call feeds one request, and ends its call with a fault, or with a link if kind is 0.
func (r *refusing) call(kind fault.Kind, follows attempt.Action) {
	r.Helper()
	refs := r.FeedUpTo(r.Stores, 1).Refs
	if len(refs) != 1 {
		r.Fatalf("%d requests were fed, want 1", len(refs))
	}
	a := r.Admit(r.Stores, refs[0], attempt.Call)
	var err error
	if kind == 0 {
		_, err = r.Stores.Requests.Created(r.Context(), a, ledgertest.Link())
	} else {
		var state request.State
		state, err = r.Stores.Requests.Fault(r.Context(), a, &fault.Fault{Kind: kind, Detail: "HTTP 422"}, attempt.Next{Action: follows, MaxCharged: 8})
		if follows == attempt.Fail && state != request.Failed {
			r.Errorf("a refused request is %q, want failed", state)
		}
	}
	r.Must(err)
}

// refuse lets FaceKi refuse the next n calls.
func (r *refusing) refuse(n int) {
	r.Helper()
	for range n {
		r.call(fault.BadRequest, attempt.Fail)
	}
}

func TestBatch_IsPausedWhenItsRowsAreRefused(t *testing.T) {
	r := newRefusing(t)
	r.Import("spring", ledgertest.Rows(1, 100))
	r.refuse(batch.MaxRefused - 1)
	r.call(0, "") // a success in between
	r.refuse(10)
	r.call(fault.ServerError, attempt.Hold) // does not prove anything about the rows
	r.refuse(batch.MaxRefused - 11)
	if b := r.Batch("spring"); b.Status != batch.Running || b.RefusedMessage() != "" || len(r.paused) > 0 {
		t.Fatalf("the batch is %+v after %d refused rows in a row", b, batch.MaxRefused-1)
	}
	r.refuse(1)
	b := r.Batch("spring")
	if b.Status != batch.Paused || b.Reason != fault.RowsRefused || !strings.Contains(b.RefusedMessage(), "invalid (HTTP 422)") {
		t.Errorf("the batch is %+v", b)
	}
	if len(r.paused) != 1 || !strings.HasPrefix(r.paused[0], "spring: FaceKi refused") {
		t.Errorf("the reported batches are %q", r.paused)
	}
	if fed := r.Feed(); len(fed) > 0 {
		t.Errorf("%v were fed from a paused batch", fed)
	}
	// Other batches and interactive requests continue.
	r.Import("autumn", []tasks.Request{{ApplicationID: "B-1"}})
	r.call(0, "")
	r.succeed("A-1")

	r.Control("spring", batch.Resume)
	if b := r.Batch("spring"); b.Status != batch.Running || b.Reason != "" || b.Message != "" {
		t.Errorf("the resumed batch is %+v", b)
	}
	r.refuse(batch.MaxRefused - 1)
	if b := r.Batch("spring"); b.Status != batch.Running {
		t.Errorf("the batch is %+v, although the count restarted when it was resumed", b)
	}
	r.refuse(1)
	if b := r.Batch("spring"); b.Status != batch.Paused || len(r.paused) != 2 {
		t.Errorf("the batch is %+v, the reported batches are %q", b, r.paused)
	}
	r.CancelBatch("spring")
	if b := r.Batch("spring"); b.Status != batch.Cancelled || b.Reason != "" {
		t.Errorf("the cancelled batch is %+v", b)
	}
}

// A batch that a person has paused keeps that reason when its rows are refused.
func TestBatch_KeepsThePauseOfAPersonWhenItsRowsAreRefused(t *testing.T) {
	r := newRefusing(t)
	r.Import("spring", ledgertest.Rows(1, 100))
	r.refuse(batch.MaxRefused - 1)
	refs := r.FeedUpTo(r.Stores, 1).Refs
	a := r.Admit(r.Stores, refs[0], attempt.Call)
	r.Control("spring", batch.Pause)
	_, err := r.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail})
	r.Must(err)
	if b := r.Batch("spring"); b.Status != batch.Paused || b.Reason != fault.Paused || b.RefusedMessage() != "" || len(r.paused) > 0 {
		t.Errorf("the batch is %+v, the reported batches are %q", b, r.paused)
	}
}
