package ledger_test

import (
	"slices"
	"testing"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Rows that joined are fed by their own batch alone, or by none.
func TestARowIsFedByItsOwnBatch(t *testing.T) {
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
func TestANewerRowIsFedLater(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "2").Err())
	if fed := len(h.Feed()) + len(h.Feed()); fed != 2 {
		t.Errorf("fed %d, want the other two", fed)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "1").Err())
	if n, err := h.Stores.Requests.Readable(t.Context()); n != 1 || err != nil {
		t.Errorf("%d can be read now, %v", n, err)
	}
	if fed := h.Feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("fed %v", fed)
	}
}
