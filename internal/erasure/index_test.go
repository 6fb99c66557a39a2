package erasure_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// dropIndex leaves the account as an earlier version does, without an index of mentions.
func (h *harness) dropIndex() {
	h.Helper()
	for key := range h.Dump() {
		if strings.Contains(key, ":mentions:") {
			h.Must(h.Redis.Del(h.Context(), key).Err())
		}
	}
	h.Must(h.Redis.HDel(h.Context(), h.Keys.State(), "rows_indexed", "events_indexed").Err())
}

// Rows that an earlier version wrote are found by the first erasure, or by a worker's pass,
// which is done once.
func TestErase_FindsRowsOfEarlierVersions(t *testing.T) {
	for _, pass := range []bool{false, true} {
		h := newHarness(t)
		for i := range 30 { // the pass takes several parts
			h.Import(fmt.Sprintf("b-%d", i), ledgertest.Rows(1, 3))
		}
		h.Finish(h.Feed(), "created", "created", "created")
		h.dropIndex()
		if pass {
			for range 40 {
				h.Must(h.Stores.Erasure.IndexRows(t.Context()))
			}
			if !h.Redis.HExists(t.Context(), h.Keys.State(), "rows_indexed").Val() {
				t.Error("the pass over the rows does not end")
			}
		}
		rows := h.Erase("R-1")[0].Rows
		n, err := h.Stores.Erasure.EraseRows(t.Context(), false)
		if h.Must(err); rows+n != 30 || pass != (n == 0) {
			t.Errorf("after a pass (%v): %d rows were erased at once, and %d by reading all", pass, rows, n)
		}
		h.expectNoTrace("R-1")
		if e := h.Erase("R-2")[0]; e.Rows != 30 {
			t.Errorf("after a pass (%v): the second erasure is %+v, want 30 rows", pass, e)
		}
		h.expectNoTrace("R-2")
	}
}

// A pass over all rows is done once, and once more when an earlier version no longer writes
// beside this one. No other process repeats it.
func TestIndexRows_EndsADayAfterTheFirstWorkerJoined(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Import("autumn", ledgertest.Rows(1, 3)) // which joined
	now := time.Now()
	for _, tt := range []struct {
		since   time.Duration // ago, that the first worker joined
		indexed int64         // the stored time; 0: none
		want    bool
	}{
		{time.Hour, 0, true},
		{time.Hour, 1, false},
		{25 * time.Hour, 1, true},
		{25 * time.Hour, now.Add(-2 * time.Hour).UnixMilli(), true}, // it began before the day was over
		{25 * time.Hour, now.Add(-30 * time.Minute).UnixMilli(), false},
		{1000 * time.Hour, now.Add(-900 * time.Hour).UnixMilli(), false},
	} {
		h.dropIndex()
		h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "indexes_since", now.Add(-tt.since).UnixMilli()).Err())
		if tt.indexed > 0 {
			h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "rows_indexed", tt.indexed).Err())
		}
		worker := h.InterruptedAfter("none", nil) // another process
		for range 10 {
			h.Must(worker.Erasure.IndexRows(t.Context()))
		}
		found := false
		for key := range h.Dump() {
			found = found || strings.Contains(key, ":mentions:")
		}
		began, err := h.Redis.HGet(t.Context(), h.Keys.State(), "rows_indexed").Int64()
		if h.Must(err); found != tt.want || tt.want == (began < now.Add(-time.Minute).UnixMilli()) {
			t.Errorf("joined %v ago, indexed at %d: a pass found rows: %v, want %v; it is indexed at %d now", tt.since, tt.indexed, found, tt.want, began)
		}
	}
}

// Events count as indexed if a worker of this version joined before the first of them, or a
// day before the oldest that is left.
func TestEventsIndexed_UntilTheEventsOfEarlierVersionsAreTrimmed(t *testing.T) {
	h := newHarness(t)
	indexed := func(want bool) {
		t.Helper()
		if got, err := h.Stores.Erasure.EventsIndexed(t.Context()); err != nil || got != want {
			t.Errorf("the events are indexed: %v, %v; want %v", got, err, want)
		}
	}
	h.Import("spring", ledgertest.Rows(1, 1))
	h.Finish(h.Feed(), "created")
	indexed(true)
	h.dropIndex()
	indexed(false)
	h.AnotherWorker()
	indexed(false)
	old := time.Now().Add(-25 * time.Hour).UnixMilli()
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "events_indexed", old).Err())
	indexed(true)
}

// Replayed events are erased, and so are the events of an earlier generation that retention
// has erased.
func TestErase_RemovesReplayedEventsAndThoseOfErasedGenerations(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.Finish(h.Feed(), "created", "created")
	replay := func() {
		_, err := h.Stores.Results.Replay(t.Context(), results.ReplaySelection{IDs: []string{"R-1"}}, results.ReplayProgress{}, func(int) error { return nil })
		h.Must(err)
	}
	replay()
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-1", Generation: 2, Lane: tasks.Bulk})
	h.Must(err)
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Nanosecond})
	for h.Redis.Exists(t.Context(), h.Keys.Old("R-1", 1)).Val() == 1 {
		_, err := keeper.Erasure.EraseExpired(t.Context(), time.Hour)
		h.Must(err)
	}
	h.Finish(h.Feed(), "created")
	replay()
	if e := h.Erase("R-1")[0]; e.Events != 4 || e.Generations != 1 {
		t.Errorf("the erasure is %+v, want four events and a generation", e)
	}
	h.expectNoTrace("R-1")
}

// A list of requeued requests that is too long for one script is searched page by page.
func TestErase_SearchesLongListsPageByPage(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.CancelBatch("spring")
	ids := make([]any, 21_000)
	for i := range ids {
		ids[i] = "R-2"
	}
	ids[500] = "R-1"
	for _, list := range []string{h.Keys.Requeued(1), h.Keys.CancelledRequeued(1)} {
		h.Must(h.Redis.Del(t.Context(), list).Err())
		h.Must(h.Redis.RPush(t.Context(), list, ids...).Err())
	}
	if e := h.Erase("R-1")[0]; e.Rows != 1 {
		t.Errorf("the erasure is %+v, want its own row only", e)
	}
	if n, err := h.Stores.Erasure.EraseRows(t.Context(), false); n != 2 || err != nil {
		t.Errorf("%d ids were erased, %v; want one in each list", n, err)
	}
	h.expectNoTrace("R-1")
}
