package batch_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// longAgo makes a batch look as if nothing was imported into it for two days.
func (h *harness) longAgo(batch string) {
	h.Helper()
	number, at := h.BatchNumber(batch), time.Now().Add(-48*time.Hour).UnixMilli()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Batch(number), "written", at, "created_at", at).Err())
	if h.Redis.ZScore(h.Context(), h.Keys.PerhapsEmpty(), strconv.Itoa(number)).Err() == nil {
		h.Must(h.Redis.ZAdd(h.Context(), h.Keys.PerhapsEmpty(), redis.Z{Score: 1, Member: number}).Err())
	}
}

// listed waits until batches that were listed just now are examined: their time has passed.
func (h *harness) listed() {
	h.Helper()
	now := func() int64 {
		at, err := h.Redis.Time(h.Context()).Result()
		h.Must(err)
		return at.UnixMilli()
	}
	began := now()
	h.Eventually("the next millisecond", func() bool { return now() > began })
}

// dropEmpty deletes the batches without rows that are listed, once a pass over all batches
// has shown that no others are needed.
func (h *harness) dropEmpty() int {
	h.Helper()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.State(), "indexes_since", 0, "emptied", fmt.Sprint(0, time.Now().UnixMilli())).Err())
	h.listed()
	n, err := h.Stores.Batches.DropEmpty(h.Context())
	h.Must(err)
	return n
}

// dropEmptyUnlisted deletes the batches without rows that an earlier version left, which
// listed none.
func (h *harness) dropEmptyUnlisted() int {
	h.Helper()
	h.Must(h.Redis.Del(h.Context(), h.Keys.PerhapsEmpty()).Err())
	h.Must(h.Redis.HDel(h.Context(), h.Keys.State(), "emptied").Err()) // as an hour later
	n, err := h.Stores.Batches.DropEmpty(h.Context())
	h.Must(err)
	return n
}

// A batch without rows is deleted with everything that names it, and its name is free.
// A batch that has a row, or into which something is being imported, is kept.
func TestDropEmpty_DeletesBatchesWithoutRows(t *testing.T) {
	for name, dropEmpty := range map[string]func(*harness) int{"listed": (*harness).dropEmpty, "of an earlier version": (*harness).dropEmptyUnlisted} {
		t.Run(name, func(t *testing.T) { expectDeletedWithoutRows(newHarness(t), dropEmpty) })
	}
}

func expectDeletedWithoutRows(h *harness, dropEmpty func(*harness) int) {
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Import("autumn", ledgertest.Rows(1, 3)) // which joined
	h.Import("winter", nil)
	for _, name := range []string{"spring", "autumn", "winter"} {
		h.longAgo(name)
	}
	if n := dropEmpty(h); n != 1 || !slices.Equal(h.names(), []string{"spring", "autumn"}) {
		h.Errorf("%d batches were deleted, %v are left", n, h.names())
	}
	h.CancelBatch("spring")
	h.Erase("R-1", "R-2", "R-3")
	h.Import("autumn", nil) // an import into it begins
	if n := dropEmpty(h); n != 1 || !slices.Equal(h.names(), []string{"autumn"}) {
		h.Errorf("%d batches were deleted, %v are left; want autumn, into which something is being imported", n, h.names())
	}
	h.longAgo("autumn")
	if n := dropEmpty(h); n != 1 || len(h.names()) > 0 {
		h.Errorf("%d batches were deleted, %v are left", n, h.names())
	}
	for key, value := range h.Dump() {
		for _, part := range []string{":batch:1", ":batch:2", ":batch:3", ":order:", ":joined:", ":again:", ":off:", ":perhaps-empty"} {
			if strings.Contains(key, part) {
				h.Errorf("key %s was not deleted: %s", key, value)
			}
		}
	}
	h.Import("spring", ledgertest.Rows(1, 3))
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Waiting: 3})
}

// A batch that was examined and is not empty is examined again when it lost the id of a
// row, or when an import into it begins.
func TestDropEmpty_ExaminesABatchAgainThatChanged(t *testing.T) {
	for name, change := range map[string]func(*harness){
		"its joined rows were erased": func(h *harness) { h.CancelBatch("spring"); h.Erase("R-1", "R-2") },
		"its order was erased":        func(h *harness) { h.Must(h.Stores.Erasure.EraseOrder(h.Context(), h.BatchNumber("autumn"))) },
		"its rows lost ids that an earlier version left": func(h *harness) {
			h.Must(h.Redis.Del(h.Context(), h.Keys.Record("R-1"), h.Keys.Record("R-2")).Err())
			_, err := h.Stores.Erasure.EraseRows(h.Context(), true)
			h.Must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.Import("spring", ledgertest.Rows(1, 2))
			h.Import("autumn", ledgertest.Rows(1, 2)) // which joined
			h.later(48 * time.Hour)
			if n := h.dropEmpty(); n != 0 || len(h.perhapsEmpty()) > 0 {
				t.Errorf("%d batches were deleted, %v are still listed", n, h.perhapsEmpty())
			}
			h.Import("spring", nil)
			if listed := h.perhapsEmpty(); !slices.Equal(listed, []string{"1"}) {
				t.Errorf("an import into spring began, and %v are listed", listed)
			}
			change(h)
			h.later(48 * time.Hour)
			h.dropEmpty()
			if slices.Contains(h.names(), "autumn") {
				t.Errorf("autumn was not deleted; %v are listed", h.perhapsEmpty())
			}
		})
	}
}

// perhapsEmpty returns the numbers of the batches that are listed to be examined.
func (h *harness) perhapsEmpty() []string {
	h.Helper()
	return h.Redis.ZRange(h.Context(), h.Keys.PerhapsEmpty(), 0, -1).Val()
}

// A row that is erased while the rows of its batch are read is not overlooked.
func TestDropEmpty_SeesRowsThatAreErasedMeanwhile(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 1))
	h.Import("autumn", ledgertest.Rows(1, 1)) // which joined
	h.CancelBatch("spring")
	h.dropEmpty() // from now on without a pass
	h.later(48 * time.Hour)
	erased := h.InterruptedAfter("hmget", func() { h.Erase("R-1") })
	_, err := erased.Batches.DropEmpty(t.Context())
	h.Must(err)
	h.later(time.Second)
	if h.dropEmpty(); len(h.names()) > 0 {
		t.Errorf("%v were not deleted; %v are listed", h.names(), h.perhapsEmpty())
	}
}

// When an account has had as many batches as there are numbers, the numbers of deleted
// batches are used again after a day, and mean the new batches everywhere.
func TestDropEmpty_FreesNumbersForLaterBatches(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.CancelBatch("spring")
	h.Erase("R-1", "R-2")
	h.longAgo("spring")
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "batches", 999_999).Err())
	if n := h.dropEmpty(); n != 1 {
		t.Fatalf("%d batches were deleted", n)
	}
	open := func() error {
		return h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "autumn"}, tasks.Rows(ledgertest.Rows(1, 2)), func(r tasks.Result) { h.Must(r.Err) })
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "999999 batches") {
		t.Errorf("a number that was freed a moment ago was used: %v", err)
	}
	free := h.Keys.Tag() + ":free-numbers"
	h.Must(h.Redis.ZAdd(t.Context(), free, redis.Z{Score: float64(time.Now().Add(-25 * time.Hour).UnixMilli()), Member: 1}).Err())
	h.Must(open())
	if n := h.BatchNumber("autumn"); n != 1 {
		t.Errorf("the number of the new batch is %d, want 1", n)
	}
	h.FinishAll()
	h.ExpectBatch("autumn", batch.Done, map[request.State]int{request.Created: 2})
}

// An import whose batch was deleted meanwhile fails, and accepts nothing.
func TestImport_FailsWhenItsBatchIsDeleted(t *testing.T) {
	h := newHarness(t)
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		h.longAgo("spring")
		if n := h.dropEmpty(); n != 1 {
			t.Errorf("%d batches were deleted", n)
		}
		tasks.Rows(ledgertest.Rows(1, 2))(yield)
	}, func(r tasks.Result) { t.Errorf("row %+v was reported", r) })
	if err == nil || !strings.Contains(err.Error(), "import it again") {
		t.Errorf("the import returned %v", err)
	}
	if left := h.Records(); len(left) > 0 {
		t.Errorf("%v were accepted", left)
	}
}

// later makes everything look as if it had happened so much earlier.
func (h *harness) later(d time.Duration) {
	h.Helper()
	for _, name := range h.names() {
		key := h.Keys.Batch(h.BatchNumber(name))
		for _, field := range []string{"written", "created_at"} {
			h.Must(h.Redis.HIncrBy(h.Context(), key, field, -d.Milliseconds()).Err())
		}
	}
	for _, entry := range h.Redis.ZRange(h.Context(), h.Keys.PerhapsEmpty(), 0, -1).Val() {
		h.Must(h.Redis.ZIncrBy(h.Context(), h.Keys.PerhapsEmpty(), -float64(d.Milliseconds()), entry).Err())
	}
}

// Whatever happens to batches, those that are not listed are not empty: a pass over all
// of them finds nothing more to delete.
func TestDropEmpty_ListsEachEmptyBatch(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t) // what a case leaves is flushed
	rapid.Check(t, func(rt *rapid.T) {
		h := &harness{ledgertest.NewOn(t, own)}
		defer func() { h.Must(h.Redis.FlushDB(t.Context()).Err()) }()
		row := rapid.IntRange(1, 3)
		id := rapid.Map(row, func(n int) string { return fmt.Sprintf("G-%d", n) })
		name := rapid.SampledFrom([]string{"spring", "autumn", "winter"})
		rt.Repeat(map[string]func(*rapid.T){
			"import a row": func(rt *rapid.T) { h.ImportInto(name.Draw(rt, "batch"), id.Draw(rt, "id")) },
			"open":         func(rt *rapid.T) { h.openBatch(name.Draw(rt, "batch")) },
			"cancel batch": func(rt *rapid.T) { h.CancelBatch(name.Draw(rt, "batch")) },
			"restore": func(rt *rapid.T) {
				h.RestoreEnded(name.Draw(rt, "batch"), time.Hour, row.Draw(rt, "row"), 1, request.Failed)
			},
			"erase": func(rt *rapid.T) {
				if r, ok := h.Get(id.Draw(rt, "id")); ok {
					_, err := h.Stores.Requests.Cancel(t.Context(), r)
					h.Must(err)
					h.Erase(r.ApplicationID)
				}
			},
			"erase the order": func(rt *rapid.T) {
				if number := h.BatchNumber(name.Draw(rt, "batch")); number > 0 {
					h.Must(h.Stores.Erasure.EraseOrder(t.Context(), number))
				}
			},
			"hours pass": func(rt *rapid.T) {
				h.later(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour)
				h.dropEmpty()
			},
		})
		h.later(25 * time.Hour)
		h.dropEmpty()
		if left := h.perhapsEmpty(); len(left) > 0 {
			rt.Errorf("the batches %v are still listed", left)
		}
		if n := h.dropEmptyUnlisted(); n > 0 {
			rt.Errorf("a pass over all batches deleted %d that were not listed", n)
		}
	})
}

// openBatch begins an import without rows. A cancelled batch refuses it.
func (h *harness) openBatch(name string) {
	h.Helper()
	err := h.Client.EnqueueAll(h.Context(), tasks.Batch{Name: name}, tasks.Rows(nil), func(tasks.Result) {})
	if _, cancelled := errors.AsType[*tasks.CancelledError](err); !cancelled {
		h.Must(err)
	}
}

// All batches are passed over hourly until a day after the first worker of this version
// joined.
func TestDropEmpty_PassesOverAllBatchesUntilAllWorkersListThem(t *testing.T) {
	h := newHarness(t)
	pass := func(since, last time.Duration) bool {
		t.Helper()
		now := time.Now()
		before := fmt.Sprint(0, now.Add(-last).UnixMilli())
		h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "indexes_since", now.Add(-since).UnixMilli(), "emptied", before).Err())
		_, err := h.Stores.Batches.DropEmpty(t.Context())
		h.Must(err)
		return h.Redis.HGet(t.Context(), h.Keys.State(), "emptied").Val() != before
	}
	for _, tt := range []struct {
		since, last time.Duration
		want        bool
	}{
		{time.Hour, time.Minute, false},
		{23 * time.Hour, 61 * time.Minute, true},
		{25 * time.Hour, 61 * time.Minute, true}, // the last one began too early
		{25 * time.Hour, 59 * time.Minute, false},
		{27 * time.Hour, 2 * time.Hour, false},
		{1000 * time.Hour, 900 * time.Hour, false},
		{time.Hour, -time.Hour, true}, // Redis' clock was set back
	} {
		if got := pass(tt.since, tt.last); got != tt.want {
			t.Errorf("listed for %v, the last pass began %v ago: another pass: %v, want %v", tt.since, tt.last, got, tt.want)
		}
	}
}
