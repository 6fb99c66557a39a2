package ledger_test

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
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// drain takes a batch's requests one after the other to all kinds of ends, some
// over a pause, a retry or a promotion, until ctx ends.
func (b *bench) drain(ctx context.Context, steps *atomic.Int64) {
	for n := 0; ctx.Err() == nil; n++ {
		for i, ref := range b.feedUpTo(b.ledger, 20).Refs {
			if ctx.Err() != nil {
				return
			}
			b.step(ref, n+i)
			steps.Add(1)
		}
	}
}

func (b *bench) step(ref request.Ref, n int) {
	b.t.Helper()
	if n%13 == 0 {
		_, err := b.client.Enqueue(b.t.Context(), tasks.Request{ApplicationID: ref.ApplicationID})
		b.must(err)
		ref = b.record(ref.ApplicationID).Ref()
	} else if n%7 == 0 {
		b.steer("spring", ledger.PauseBatch)
		b.mark(b.ledger, ref, attempt.Paused)
		b.steer("spring", ledger.ResumeBatch)
		return
	}
	a := b.mark(b.ledger, ref, attempt.Call)
	switch n % 5 {
	case 0:
		b.fault(ref.ApplicationID, fault.Unusable, attempt.Hold)
	case 1:
		b.fault(ref.ApplicationID, fault.BadRequest, attempt.Fail)
		_, _, err := b.ledger.Again(b.t.Context(), b.record(ref.ApplicationID))
		b.must(err)
	default:
		_, err := b.ledger.Created(b.t.Context(), a, link)
		b.must(err)
	}
}

func (b *bench) check(batch string) map[string]int {
	b.t.Helper()
	c, err := b.ledger.Check(b.t.Context(), b.number(batch))
	b.must(err)
	return c.Differs()
}

func TestABatchIsCountedWhileItMoves(t *testing.T) {
	b := newBench(t)
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-7"})
	b.must(err)
	b.enqueueAll("spring", append(rows(1, 2000), rows(1, 30)...)) // some of them twice
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var steps atomic.Int64
	var draining sync.WaitGroup
	draining.Go(func() { b.drain(ctx, &steps) })
	for steps.Load() < 300 {
		if differs := b.check("spring"); len(differs) > 0 {
			t.Fatalf("it differs: %v", differs)
		}
	}
	for field, n := range map[string]int{"waiting": 1, "created": -1, "possible_duplicates": 3, "joined": 1} {
		b.must(b.rdb.HIncrBy(t.Context(), b.keys.Batch(b.number("spring")), field, int64(n)).Err())
	}
	want := map[string]int{"waiting": 1, "created": -1, "possible_duplicates": 3, "joined": 1}
	if differs := b.check("spring"); !maps.Equal(differs, want) {
		t.Errorf("it differs: %v, want %v", differs, want)
	}
	cancel()
	draining.Wait()
}

func TestACheckFindsWhatIsNotThere(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 250))
	b.must(b.rdb.Del(t.Context(), b.keys.Record("R-101"), b.keys.Record("R-2")).Err())
	want := map[string]int{"waiting": 2}
	if differs := b.check("spring"); !maps.Equal(differs, want) {
		t.Errorf("it differs: %v, want %v", differs, want)
	}
	b.must(b.rdb.HSet(t.Context(), b.keys.Order(1), "1", "nonsense").Err())
	if _, err := b.ledger.Check(t.Context(), 1); err == nil || errors.Is(err, ledger.ErrMoves) {
		t.Errorf("an order that cannot be read: %v", err)
	}
}

// What was erased is no difference: neither in the batch that accepted it, nor in
// one that it joined, nor where its row is another's by now.
func TestErasedRowsAreNoDifference(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 10))
	b.enqueueAll("summer", rows(1, 12))
	expect := func(when string, counted int) {
		t.Helper()
		for _, batch := range []string{"spring", "summer"} {
			if differs := b.check(batch); len(differs) > 0 {
				t.Errorf("%s, %s differs: %v", when, batch, differs)
			}
		}
		if got := b.batch("spring"); got.Rows != counted {
			t.Errorf("%s, spring has %d rows, want %d", when, got.Rows, counted)
		}
	}
	_, err := b.ledger.Cancel(t.Context(), b.record("R-4"))
	b.must(err)
	b.erase("R-4")
	expect("after one was erased", 10)
	b.enqueueAll("spring", rows(1, 10))
	expect("after it was accepted again", 11)
	b.enqueueAll("spring", []tasks.Request{{ApplicationID: "S-1"}})
	expect("after another file", 12)
	b.must(b.ledger.DropOrder(b.t.Context(), b.number("summer")))
	if differs := b.check("summer"); differs["waiting"] != 2 || len(differs) != 1 {
		t.Errorf("without its order it differs: %v", differs)
	}
}

// Doubt is counted on the batch, over all generations.
func TestPossibleDuplicatesOfABatch(t *testing.T) {
	b, a := started(t)
	for n := range 3 {
		b.fault("A-1", fault.ServerError, attempt.Retry)
		a = b.mark(b.ledger, a.Ref(), attempt.Call)
		if got := b.batch("spring").PossibleDuplicates; got != n+1 {
			t.Errorf("%d are counted after %d", got, n+1)
		}
	}
	_, err := b.ledger.Created(t.Context(), a, link)
	b.must(err)
	_, err = b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 2})
	b.must(err)
	if got := b.batch("spring").PossibleDuplicates; got != 3 {
		t.Errorf("%d are counted after the next generation", got)
	}
	if differs := b.check("spring"); len(differs) > 0 {
		t.Errorf("it differs: %v", fmt.Sprint(differs))
	}
}

// held notes how much one transaction reads, for which Redis is held.
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

// before does something before each step that reads the counters of a batch.
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

// A call with an uncertain outcome just before the counters are read is no difference.
func TestAPossibleDuplicateAtTheLastMomentIsCounted(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 10))
	refs := b.feed()
	fault := func() {
		b.mark(b.ledger, refs[0], attempt.Call)
		b.fault(refs[0].ApplicationID, fault.Lost, attempt.Retry)
		refs = refs[1:]
	}
	other := redis.NewClient(b.rdb.Options())
	t.Cleanup(func() { _ = other.Close() })
	other.AddHook(before{fault})
	c, err := ledger.New(other, ledger.Config{Account: b.keys.Account}).Check(t.Context(), b.number("spring"))
	if b.must(err); len(c.Differs()) > 0 || len(refs) == 10 {
		t.Errorf("it differs: %v after %d calls", c.Differs(), 10-len(refs))
	}
}

// However much is queued, to be fed again or has ended: what is read in one step is
// little, and the count is exact.
func TestACheckHoldsRedisForAMoment(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 9000))
	for range 6 {
		b.feedUpTo(b.ledger, 6000)
	}
	b.must(b.rdb.Del(t.Context(), b.keys.Running()).Err())
	for i := 6001; i <= 9000; i++ {
		b.must(b.rdb.RPush(t.Context(), b.keys.Again(1), fmt.Sprint("R-", i)).Err())
	}
	most := 0
	rdb := redis.NewClient(b.rdb.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(held{&most})
	b.ledger = ledger.New(rdb, ledger.Config{Account: b.keys.Account})
	if differs := b.check("spring"); len(differs) > 0 || most > 3000 {
		t.Errorf("it differs: %v; %d were read in one step", differs, most)
	}
	b.must(b.rdb.HIncrBy(t.Context(), b.keys.Batch(1), "queued", 1).Err())
	if differs := b.check("spring"); !maps.Equal(differs, map[string]int{"queued": 1}) {
		t.Errorf("it differs: %v", differs)
	}
}
