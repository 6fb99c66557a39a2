package batch_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// drain brings the requests of batch spring to all kinds of ends until ctx ends, some of
// them after a pause, a retry or a promotion.
func (h *harness) drain(ctx context.Context, steps *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		for i, ref := range h.FeedUpTo(h.Stores, 20).Refs {
			if ctx.Err() != nil {
				return
			}
			h.step(ref, n+i)
			steps.Add(1)
		}
	}
}

// step calls and ends one request, or pauses its batch, depending on n.
func (h *harness) step(ref request.Ref, n int) {
	h.Helper()
	if n%13 == 0 {
		_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: ref.ApplicationID})
		h.Must(err)
		ref = h.Record(ref.ApplicationID).Ref()
	} else if n%7 == 0 {
		h.Control("spring", batch.Pause)
		h.Admit(h.Stores, ref, attempt.Paused)
		h.Control("spring", batch.Resume)
		return
	}
	a := h.Admit(h.Stores, ref, attempt.Call)
	switch n % 5 {
	case 0:
		h.Fault(ref.ApplicationID, fault.Unusable, attempt.Hold)
	case 1:
		h.Fault(ref.ApplicationID, fault.BadRequest, attempt.Fail)
		_, _, err := h.Stores.Requests.Retry(h.Context(), h.Record(ref.ApplicationID))
		h.Must(err)
	default:
		_, err := h.Stores.Requests.Created(h.Context(), a, ledgertest.Link())
		h.Must(err)
	}
}

// check recounts a batch, and returns by how much its counters differ.
func (h *harness) check(batch string) map[string]int {
	h.Helper()
	c, err := h.Stores.Batches.Recount(h.Context(), h.BatchNumber(batch))
	h.Must(err)
	return c.Differences()
}

func TestRecount_IsExactWhileRequestsMove(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), ledgertest.Row(7))
	h.Must(err)
	h.Import("spring", append(ledgertest.Rows(1, 2000), ledgertest.Rows(1, 30)...)) // 30 rows twice
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var steps atomic.Int64
	var draining sync.WaitGroup
	draining.Go(func() { h.drain(ctx, &steps) })
	for steps.Load() < 300 {
		if differs := h.check("spring"); len(differs) > 0 {
			t.Fatalf("the counters differ by %v", differs)
		}
	}
	for field, n := range map[string]int{"waiting": 1, "created": -1, "possible_duplicates": 3, "joined": 1} {
		h.Must(h.Redis.HIncrBy(t.Context(), h.Keys.Batch(h.BatchNumber("spring")), field, int64(n)).Err())
	}
	want := map[string]int{"waiting": 1, "created": -1, "possible_duplicates": 3, "joined": 1}
	if differs := h.check("spring"); !maps.Equal(differs, want) {
		t.Errorf("the counters differ by %v, want %v", differs, want)
	}
	cancel()
	draining.Wait()
}

func TestRecount_FindsMissingRecords(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 250))
	h.Must(h.Redis.Del(t.Context(), h.Keys.Record("R-101"), h.Keys.Record("R-2")).Err())
	want := map[string]int{"waiting": 2}
	if differs := h.check("spring"); !maps.Equal(differs, want) {
		t.Errorf("the counters differ by %v, want %v", differs, want)
	}
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Order(1), "1", "nonsense").Err())
	if _, err := h.Stores.Batches.Recount(t.Context(), 1); err == nil || errors.Is(err, batch.ErrChanging) {
		t.Errorf("an unreadable order returned %v", err)
	}
}

// An erased request makes no difference: neither in the batch that accepted it, nor in
// one that it joined, nor where its row has been given to another request.
func TestRecount_AllowsForErasedRows(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 10))
	h.Import("summer", ledgertest.Rows(1, 12))
	expect := func(when string, counted int) {
		t.Helper()
		for _, batch := range []string{"spring", "summer"} {
			if differs := h.check(batch); len(differs) > 0 {
				t.Errorf("%s, the counters of %s differ by %v", when, batch, differs)
			}
		}
		if got := h.Batch("spring"); got.Rows != counted {
			t.Errorf("%s, spring has %d rows, want %d", when, got.Rows, counted)
		}
	}
	_, err := h.Stores.Requests.Cancel(t.Context(), h.Record("R-4"))
	h.Must(err)
	h.Erase("R-4")
	expect("after one was erased", 10)
	h.Import("spring", ledgertest.Rows(1, 10))
	expect("after it was accepted again", 11)
	h.Import("spring", []tasks.Request{{ApplicationID: "S-1"}})
	expect("after another file", 12)
	h.Must(h.Stores.Erasure.EraseOrder(h.Context(), h.BatchNumber("summer")))
	if differs := h.check("summer"); differs["waiting"] != 2 || len(differs) != 1 {
		t.Errorf("without its order, the counters differ by %v", differs)
	}
}

// The possible duplicates of a batch are counted over all generations of its requests.
func TestBatch_CountsPossibleDuplicatesOfAllGenerations(t *testing.T) {
	h, a := newCalling(t)
	for n := range 3 {
		h.Fault("A-1", fault.ServerError, attempt.Retry)
		a = h.Admit(h.Stores, a.Ref(), attempt.Call)
		if got := h.Batch("spring").PossibleDuplicates; got != n+1 {
			t.Errorf("%d possible duplicates are counted, want %d", got, n+1)
		}
	}
	_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	h.Must(err)
	_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 2})
	h.Must(err)
	if got := h.Batch("spring").PossibleDuplicates; got != 3 {
		t.Errorf("%d possible duplicates are counted after the next generation, want 3", got)
	}
	if differs := h.check("spring"); len(differs) > 0 {
		t.Errorf("the counters differ by %v", differs)
	}
}

// held is a hook that records how much one transaction reads at most. Redis serves
// nobody else meanwhile.
type held struct{ most *int }

func (held) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (held) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h held) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		read := 0
		for _, cmd := range cmds {
			switch cmd := cmd.(type) {
			case *redis.StringSliceCmd:
				read += len(cmd.Val())
			case *redis.XMessageSliceCmd:
				read += len(cmd.Val())
			case *redis.StringCmd:
				read++
			}
		}
		if cmds[0].Name() == "multi" {
			*h.most = max(*h.most, read)
		}
		return err
	}
}

// before is a hook that calls do before each step that reads the counters of a batch.
type before struct{ do func() }

func (before) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" {
			h.do()
		}
		return next(ctx, cmd)
	}
}

func (h before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "multi" {
			h.do()
		}
		return next(ctx, cmds)
	}
}

// A call whose outcome becomes uncertain just before the counters are read makes no
// difference.
func TestRecount_CountsAPossibleDuplicateOfTheLastMoment(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 10))
	refs := h.Feed()
	fault := func() {
		h.Admit(h.Stores, refs[0], attempt.Call)
		h.Fault(refs[0].ApplicationID, fault.Lost, attempt.Retry)
		refs = refs[1:]
	}
	other := redis.NewClient(h.Redis.Options())
	t.Cleanup(func() { _ = other.Close() })
	other.AddHook(before{fault})
	c, err := storage.Of(other, h.Keys.Account).Batches.Recount(t.Context(), h.BatchNumber("spring"))
	if h.Must(err); len(c.Differences()) > 0 || len(refs) == 10 {
		t.Errorf("the counters differ by %v after %d calls", c.Differences(), 10-len(refs))
	}
}

// However many requests are queued, requeued or ended, one step reads few of them, and
// the count is exact.
func TestRecount_ReadsLittleAtATime(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 9000))
	for range 6 {
		h.FeedUpTo(h.Stores, 6000)
	}
	h.Must(h.Redis.Del(t.Context(), h.Keys.Running()).Err())
	for i := 6001; i <= 9000; i++ {
		h.Must(h.Redis.RPush(t.Context(), h.Keys.Requeued(1), fmt.Sprint("R-", i)).Err())
	}
	most := 0
	rdb := redis.NewClient(h.Redis.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(held{&most})
	h.Stores = storage.Of(rdb, h.Keys.Account)
	if differs := h.check("spring"); len(differs) > 0 || most > 3000 {
		t.Errorf("the counters differ by %v; %d values were read in one step", differs, most)
	}
	h.Must(h.Redis.HIncrBy(t.Context(), h.Keys.Batch(1), "queued", 1).Err())
	if differs := h.check("spring"); !maps.Equal(differs, map[string]int{"queued": 1}) {
		t.Errorf("the counters differ by %v", differs)
	}
}
