package account_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/tasks"
)

// acceptedAgo makes a request look as if it was accepted some time ago.
func acceptedAgo(h *ledgertest.Harness, id string, ago time.Duration) {
	h.Helper()
	key, column := h.Keys.Record(id), int64(41)
	raw, err := h.Redis.Get(h.Context(), key).Result()
	h.Must(err)
	if raw[0] == 'n' { // the header of a request that has not been fed
		column = 7
	}
	h.Must(h.Redis.SetRange(h.Context(), key, column, fmt.Sprintf("%013d", time.Now().Add(-ago).UnixMilli())).Err())
}

func TestGauges_ReportTheAgeOfWhatIsCalledNext(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	expect := func(when string, interactive, bulk time.Duration) {
		t.Helper()
		got := h.Gauges().Oldest
		if got.Interactive.Round(time.Hour) != interactive || got.Bulk.Round(time.Hour) != bulk {
			t.Errorf("%s: the oldest requests are %v and %v old, want %v and %v", when, got.Interactive, got.Bulk, interactive, bulk)
		}
	}
	expect("without requests", 0, 0)
	h.Import("spring", ledgertest.Rows(1, 250))
	acceptedAgo(h, "R-1", 2*time.Hour)
	expect("with a waiting row", 0, 2*time.Hour)
	h.FeedUpTo(h.Stores, 120)
	expect("with a queued row", 0, 2*time.Hour)
	acceptedAgo(h, "R-121", 5*time.Hour)
	expect("with an older one that waits in the second chunk", 0, 5*time.Hour)
	_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	acceptedAgo(h, "A-1", 9*time.Hour)
	expect("with an interactive request", 9*time.Hour, 5*time.Hour)
	h.Control("spring", batch.Pause)
	h.FeedUpTo(h.Stores, 200) // a paused batch is not fed
	expect("with a paused batch", 9*time.Hour, 2*time.Hour)
}
