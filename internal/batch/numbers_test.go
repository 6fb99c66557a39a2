package batch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// names returns the names of all batches.
func (h *harness) names() []string {
	h.Helper()
	all, err := h.Stores.Batches.All(h.Context())
	h.Must(err)
	names := make([]string, len(all))
	for i, batch := range all {
		names[i] = batch.Batch
	}
	return names
}

// longAgo makes a batch look as if nothing was imported into it for two days.
func (h *harness) longAgo(batch string) {
	h.Helper()
	at := time.Now().Add(-48 * time.Hour).UnixMilli()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Batch(h.BatchNumber(batch)), "written", at, "created_at", at).Err())
}

// dropEmpty deletes the batches without rows, as if an hour had passed since the last
// time.
func (h *harness) dropEmpty() int {
	h.Helper()
	h.Must(h.Redis.HDel(h.Context(), h.Keys.State(), "emptied").Err()) // as an hour later
	n, err := h.Stores.Batches.DropEmpty(h.Context())
	h.Must(err)
	return n
}

// A batch without rows is deleted with everything that names it, and its name is free.
// A batch that has a row, or into which something is being imported, is kept.
func TestDropEmpty_DeletesBatchesWithoutRows(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Import("autumn", ledgertest.Rows(1, 3)) // which joined
	h.Import("winter", nil)
	for _, name := range []string{"spring", "autumn", "winter"} {
		h.longAgo(name)
	}
	if n := h.dropEmpty(); n != 1 || !slices.Equal(h.names(), []string{"spring", "autumn"}) {
		t.Errorf("%d batches were deleted, %v are left", n, h.names())
	}
	h.CancelBatch("spring")
	h.Erase("R-1", "R-2", "R-3")
	h.Import("autumn", nil) // an import into it begins
	if n := h.dropEmpty(); n != 1 || !slices.Equal(h.names(), []string{"autumn"}) {
		t.Errorf("%d batches were deleted, %v are left; want autumn, into which something is being imported", n, h.names())
	}
	h.longAgo("autumn")
	if n := h.dropEmpty(); n != 1 || len(h.names()) > 0 {
		t.Errorf("%d batches were deleted, %v are left", n, h.names())
	}
	for key := range h.Dump() {
		for _, part := range []string{":batch:1", ":batch:2", ":batch:3", ":order:", ":joined:", ":again:", ":off:"} {
			if strings.Contains(key, part) {
				t.Errorf("key %s was not deleted", key)
			}
		}
	}
	h.Import("spring", ledgertest.Rows(1, 3))
	h.ExpectBatch("spring", batch.Running, map[request.State]int{request.Waiting: 3})
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

// costly is a hook that records the commands that read something of all batches.
type costly struct{ found *[]string }

func (costly) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c costly) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.record(cmd)
		return next(ctx, cmd)
	}
}

func (c costly) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.record(cmd)
		}
		return next(ctx, cmds)
	}
}

func (c costly) record(cmd redis.Cmder) {
	if args := cmd.Args(); len(args) > 1 && strings.HasSuffix(fmt.Sprint(args[1]), ":batches") && slices.Contains([]string{"hvals", "hkeys", "hgetall"}, cmd.Name()) {
		*c.found = append(*c.found, cmd.String())
	}
}

// No step of recovery, no page of the list and no unknown name reads all batches with
// one command. Batches of an older version are found too, in their order.
func TestBatches_AreNeverReadAllAtOnce(t *testing.T) {
	h := newHarness(t)
	const n = 1203
	for i := range n {
		h.Import(fmt.Sprint("batch-", i), ledgertest.Rows(i+1, i+1))
	}
	h.Must(h.Redis.Del(t.Context(), h.Keys.Numbered()).Err()) // as an older version left it
	var found []string
	rdb := redis.NewClient(h.Redis.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(costly{&found})
	h.Stores = storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	names := h.names()
	if len(names) != n || names[0] != "batch-0" || names[n-1] != fmt.Sprint("batch-", n-1) {
		t.Errorf("%d batches, from %s to %s", len(names), names[0], names[len(names)-1])
	}
	page, more, err := h.Stores.Batches.After(t.Context(), 1000, 203)
	if h.Must(err); len(page) != 203 || more || page[0].Number != 1001 {
		t.Errorf("the last page has %d batches, more: %v", len(page), more)
	}
	if page, more, err = h.Stores.Batches.After(t.Context(), 1000, 202); err != nil || len(page) != 202 || !more {
		t.Errorf("the page before the end has %d batches, more: %v, %v", len(page), more, err)
	}
	var numbers []int
	for before, pages := 0, 0; ; pages++ {
		page, next, err := h.Stores.Batches.Before(t.Context(), before, 500)
		h.Must(err)
		for _, b := range page {
			numbers = append(numbers, b.Number)
		}
		if before = next; next == 0 {
			if pages != 2 {
				t.Errorf("the list backwards has %d more pages, want 2", pages)
			}
			break
		}
	}
	slices.Reverse(numbers)
	if len(numbers) != n || numbers[0] != 1 || numbers[n-1] != n || !slices.IsSorted(numbers) {
		t.Errorf("the list backwards has %d batches", len(numbers))
	}
	if names, err := h.Stores.Batches.Names(t.Context()); err != nil || len(names) != n {
		t.Errorf("%d names, %v", len(names), err)
	}
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "retention", "0 true true 0 0").Err())
	for range 20 {
		_, err := h.Stores.Erasure.EraseExpired(t.Context(), time.Second)
		h.Must(err)
		h.dropEmpty()
	}
	if len(found) > 0 {
		t.Errorf("%d commands read all batches: %.200s", len(found), found[0])
	}
}
