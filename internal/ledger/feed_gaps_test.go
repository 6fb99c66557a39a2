package ledger_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var errKilled = errors.New("the importer was killed")

// kill says when an importer is killed at one chunk.
type kill string

const (
	killNever   kill = "never"
	killBefore  kill = "before the script runs"
	killAfter   kill = "before the script's reply comes"
	killWaiting kill = "while it waits for room in the lane"
)

// importer is a hook of a producer's connection that lets only one chunk of a batch reach
// Redis. The chunks before it, which have no rows, count as accepted.
type importer struct {
	only int
	kill kill
}

func (importer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (importer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (i importer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		chunk, ok := acceptedChunk(cmd)
		switch {
		case !ok:
			return next(ctx, cmd)
		case chunk >= 0 && chunk < i.only:
			cmd.(*redis.Cmd).SetVal([]any{int64(2), "0"})
			return nil
		case i.kill == killBefore:
			return errKilled
		}
		if err := next(ctx, cmd); err != nil || i.kill != killAfter {
			return err
		}
		return errKilled
	}
}

// acceptedChunk returns the number of the chunk that an accept script writes, -1 if it
// writes none.
func acceptedChunk(cmd redis.Cmder) (int, bool) {
	args := cmd.Args()
	if !strings.HasPrefix(cmd.Name(), "eval") || len(args) < 6 {
		return 0, false
	}
	if _, ok := args[4].(int); !ok {
		return 0, false // opens the batch by its name
	}
	if chunk, ok := args[5].(int); ok {
		return chunk, true
	}
	return -1, true
}

// importChunk imports the first n rows of one chunk of a batch.
func (h *harness) importChunk(name string, chunk, n, limit int, k kill) error {
	rdb := redis.NewClient(h.Redis.Options())
	defer func() { _ = rdb.Close() }()
	rdb.AddHook(importer{chunk, k})
	ctx, cancel := context.WithCancelCause(h.Context())
	defer cancel(nil)
	client := tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account, MaxBacklog: limit, OnFull: func(*tasks.BacklogError) {
		cancel(errKilled) // no room is made while the importer waits for it
	}})
	rows := func(yield func(tasks.Row, error) bool) {
		for i := range n {
			number := chunk*order.ChunkRows + i + 1
			if !yield(tasks.Row{Number: number, Request: tasks.Request{ApplicationID: fmt.Sprint(name, "-", number)}}, nil) {
				return
			}
		}
	}
	err := client.EnqueueAll(ctx, tasks.Batch{Name: name}, rows, func(r tasks.Result) { h.Must(r.Err) })
	if err != nil && context.Cause(ctx) == nil && !errors.Is(err, errKilled) {
		h.Fatal(err)
	}
	return err
}

// Each accepted row is fed, and each row in the order of a batch is found, whichever
// chunks of the batch reach Redis, in whatever order, however full the lane is and
// wherever the importer is killed.
func TestFeed_FeedsEveryAcceptedRow(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t) // finding an account's requests scans all keys of a server
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarnessOn(t, own)
		defer func() { h.Must(h.Redis.FlushDB(t.Context()).Err()) }()
		chunk := rapid.OneOf(rapid.IntRange(0, 12), rapid.IntRange(0, 300))
		names := rapid.SampledFrom([]string{"spring", "autumn"})
		written := map[string]map[int]int{"spring": {}, "autumn": {}} // the least number of rows by chunk
		rt.Repeat(map[string]func(*rapid.T){
			"import": func(rt *rapid.T) {
				name, number, rows := names.Draw(rt, "batch"), chunk.Draw(rt, "chunk"), rapid.IntRange(1, 4).Draw(rt, "rows")
				k := rapid.SampledFrom([]kill{killNever, killNever, killBefore, killAfter, killWaiting}).Draw(rt, "kill")
				limit := 0
				if k == killWaiting {
					limit = rapid.IntRange(1, 8).Draw(rt, "limit")
				}
				if err := h.importChunk(name, number, rows, limit, k); err == nil {
					written[name][number] = max(written[name][number], rows)
				}
			},
			"feed": func(rt *rapid.T) { h.FinishFed(rapid.IntRange(1, 10).Draw(rt, "room")) },
			"pause": func(rt *rapid.T) {
				name := names.Draw(rt, "batch")
				h.Control(name, batch.Pause)
				h.FinishFed(rapid.IntRange(1, 10).Draw(rt, "room"))
				h.Control(name, batch.Resume)
			},
		})
		h.FinishAll()
		for _, r := range h.Records() {
			if r.State != request.Created {
				rt.Fatalf("%s of batch %d was accepted as row %d, but is %s", r.ApplicationID, r.Batch, r.Content.Row, r.State)
			}
		}
		h.ExpectCounters()
		for name, chunks := range written {
			h.expectOrder(name, chunks)
		}
	})
}

// expectOrder fails the test unless the order of a batch is sorted and has the first rows
// of the given chunks.
func (h *harness) expectOrder(name string, chunks map[int]int) {
	h.Helper()
	if h.BatchNumber(name) == 0 {
		return
	}
	var rows []int
	for page, err := range h.Stores.Batches.Order(h.Context(), h.BatchNumber(name)) {
		h.Must(err)
		for _, entry := range page {
			rows = append(rows, entry.Row)
		}
	}
	if !slices.IsSortedFunc(rows, cmp.Compare[int]) {
		h.Fatalf("the order of %s is %v", name, rows)
	}
	for chunk, n := range chunks {
		for i := range n {
			if row := chunk*order.ChunkRows + i + 1; !slices.Contains(rows, row) {
				h.Fatalf("row %d is not in the order of %s: %v", row, name, rows)
			}
		}
	}
}

// A gap that is wider than one script checks is crossed by several scripts, which each
// check a bounded part of it.
func TestFeed_CrossesAWideGap(t *testing.T) {
	h := newHarness(t)
	h.Must(h.importChunk("spring", 0, 1, 0, killNever))
	h.Must(h.importChunk("spring", 20_000, 1, 0, killNever))
	h.FinishAll()
	h.ExpectBatch("spring", batch.Done, map[request.State]int{request.Created: 2})
	h.expectOrder("spring", map[int]int{0: 1, 20_000: 1})
	h.Must(h.importChunk("spring", 7, 2, 0, killNever))
	h.FinishAll()
	h.ExpectBatch("spring", batch.Done, map[request.State]int{request.Created: 4})
}

// A batch of a version that did not store the number of its last chunk has gaps where
// chunks were on their way when its import was killed. They are crossed, too.
func TestFeed_CrossesAGapOfAnOlderVersion(t *testing.T) {
	h := newHarness(t)
	for _, chunk := range []int{0, 2, 5, 7} {
		h.Must(h.importChunk("spring", chunk, 1, 0, killNever))
	}
	h.Must(h.Redis.HDel(t.Context(), h.Keys.Batch(h.BatchNumber("spring")), "last").Err())
	h.FinishAll()
	h.ExpectBatch("spring", batch.Done, map[request.State]int{request.Created: 4})
	h.expectOrder("spring", map[int]int{0: 1, 2: 1, 5: 1, 7: 1})
}

// Rows after a gap end when their batch reaches its not_after, and when it is cancelled.
func TestBatch_EndsRowsBehindAGap(t *testing.T) {
	t.Run("not_after", func(t *testing.T) {
		h := newHarness(t)
		h.begin(tasks.Options{NotAfter: time.Now().Add(time.Hour)})
		for _, chunk := range []int{3, 700} {
			h.Must(h.importChunk("spring", chunk, 2, 0, killNever))
		}
		number := h.BatchNumber("spring")
		h.Must(h.Redis.HSet(t.Context(), h.Keys.Batch(number), "not_after", 1).Err())
		h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Tag()+":batch-deadlines", redis.Z{Score: 1, Member: number}).Err())
		if ended := h.expireAll(); ended != 4 {
			t.Errorf("%d requests ended, want 4", ended)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		h := newHarness(t)
		for _, chunk := range []int{3, 11_000} {
			h.Must(h.importChunk("spring", chunk, 2, 0, killNever))
		}
		h.CancelBatch("spring")
		h.ExpectBatch("spring", batch.Cancelled, map[request.State]int{request.Cancelled: 4})
	})
}

// A producer of an older version, which does not report it, fills a gap that the feeder
// has passed.
func TestFeed_FeedsAGapThatAnOlderVersionFills(t *testing.T) {
	h := newHarness(t)
	for _, chunk := range []int{0, 2, 4} {
		h.Must(h.importChunk("spring", chunk, 2, 0, killNever))
	}
	h.FinishAll()
	for _, chunk := range []int{3, 1} {
		h.Must(h.importChunk("spring", chunk, 2, 0, killNever))
		h.Must(h.Redis.Del(t.Context(), h.Keys.Requeued(h.BatchNumber("spring"))).Err())
	}
	h.FinishAll()
	h.ExpectBatch("spring", batch.Done, map[request.State]int{request.Created: 10})
}

// A batch that is new, or had nothing left to feed, is fed after the batches that wait.
func TestFeed_FeedsNewBatchesAfterWaitingOnes(t *testing.T) {
	h := newHarness(t)
	h.Import("autumn", ledgertest.Rows(1, 100))
	h.FeedUpTo(h.Stores, 1)
	fed := map[string]int{}
	for i := range 30 {
		h.Must(h.importChunk(fmt.Sprint("spring-", i), 0, 1, 0, killNever))
		for _, ref := range h.FeedUpTo(h.Stores, i+2).Refs {
			fed[ref.ApplicationID[:1]]++
		}
	}
	if fed["R"] < 5 {
		t.Errorf("%v were fed: the waiting batch is kept waiting by new ones", fed)
	}
}
