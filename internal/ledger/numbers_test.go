package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func (b *bench) names() []string {
	b.t.Helper()
	all, err := b.ledger.Batches(b.t.Context())
	b.must(err)
	names := make([]string, len(all))
	for i, batch := range all {
		names[i] = batch.Batch
	}
	return names
}

// longAgo makes as if nothing was imported into a batch for two days.
func (b *bench) longAgo(batch string) {
	b.t.Helper()
	at := time.Now().Add(-48 * time.Hour).UnixMilli()
	b.must(b.rdb.HSet(b.t.Context(), b.keys.Batch(b.number(batch)), "written", at, "created_at", at).Err())
}

func (b *bench) dropEmpty() int {
	b.t.Helper()
	b.must(b.rdb.HDel(b.t.Context(), b.keys.State(), "emptied").Err()) // an hour has passed
	n, err := b.ledger.DropEmpty(b.t.Context())
	b.must(err)
	return n
}

// A batch of which nothing is left is deleted, with everything that names it, and its
// name is free. One that has a row, or into which something is imported, stays.
func TestAnEmptyBatchIsDeleted(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 3))
	b.enqueueAll("autumn", rows(1, 3)) // which joined
	b.enqueueAll("winter", nil)
	for _, name := range []string{"spring", "autumn", "winter"} {
		b.longAgo(name)
	}
	if n := b.dropEmpty(); n != 1 || !slices.Equal(b.names(), []string{"spring", "autumn"}) {
		t.Errorf("%d were deleted; there are %v", n, b.names())
	}
	b.callOff("spring")
	b.erase("R-1", "R-2", "R-3")
	if n := b.dropEmpty(); n != 1 || !slices.Equal(b.names(), []string{"autumn"}) {
		t.Errorf("%d were deleted; there are %v, and autumn's rows still name what is erased", n, b.names())
	}
	_, err := b.ledger.Scrub(t.Context())
	b.must(err)
	b.enqueueAll("autumn", nil) // somebody imports into it
	if n := b.dropEmpty(); n != 0 {
		t.Errorf("%d were deleted while something is imported", n)
	}
	b.longAgo("autumn")
	if n := b.dropEmpty(); n != 1 || len(b.names()) > 0 {
		t.Errorf("%d were deleted; there are %v", n, b.names())
	}
	for key := range b.everything() {
		for _, part := range []string{":batch:1", ":batch:2", ":batch:3", ":order:", ":joined:", ":again:", ":off:"} {
			if strings.Contains(key, part) {
				t.Errorf("%s is left", key)
			}
		}
	}
	b.enqueueAll("spring", rows(1, 3))
	b.expectBatch("spring", ledger.BatchRunning, map[request.State]int{request.Waiting: 3})
}

// An account may have had as many batches as there are numbers: those of deleted ones
// come again, a day later, and stand for the new ones everywhere.
func TestNumbersComeAgain(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 2))
	b.callOff("spring")
	b.erase("R-1", "R-2")
	b.longAgo("spring")
	b.must(b.rdb.HSet(t.Context(), b.keys.State(), "batches", 999_999).Err())
	if n := b.dropEmpty(); n != 1 {
		t.Fatalf("%d were deleted", n)
	}
	open := func() error {
		return b.client.EnqueueAll(t.Context(), tasks.Batch{Name: "autumn"}, tasks.Rows(rows(1, 2)), func(r tasks.Result) { b.must(r.Err) })
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "999999 batches") {
		t.Errorf("a number that was free a moment ago: %v", err)
	}
	free := b.keys.Tag() + ":free-numbers"
	b.must(b.rdb.ZAdd(t.Context(), free, redis.Z{Score: float64(time.Now().Add(-25 * time.Hour).UnixMilli()), Member: 1}).Err())
	b.must(open())
	if n := b.number("autumn"); n != 1 {
		t.Errorf("its number is %d", n)
	}
	b.finishAll()
	b.expectBatch("autumn", ledger.BatchDone, map[request.State]int{request.Created: 2})
}

// An import whose batch was deleted is told so, and accepts nothing.
func TestAnImportIntoADeletedBatch(t *testing.T) {
	b := newBench(t)
	err := b.client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		b.longAgo("spring")
		if n := b.dropEmpty(); n != 1 {
			t.Errorf("%d were deleted", n)
		}
		tasks.Rows(rows(1, 2))(yield)
	}, func(r tasks.Result) { t.Errorf("reported %+v", r) })
	if err == nil || !strings.Contains(err.Error(), "import it again") {
		t.Errorf("got %v", err)
	}
	if left := b.records(); len(left) > 0 {
		t.Errorf("accepted %v", left)
	}
}

// costly notes commands that read something of all batches.
type costly struct{ found *[]string }

func (costly) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c costly) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.note(cmd)
		return next(ctx, cmd)
	}
}

func (c costly) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			c.note(cmd)
		}
		return next(ctx, cmds)
	}
}

func (c costly) note(cmd redis.Cmder) {
	if args := cmd.Args(); len(args) > 1 && strings.HasSuffix(fmt.Sprint(args[1]), ":batches") && slices.Contains([]string{"hvals", "hkeys", "hgetall"}, cmd.Name()) {
		*c.found = append(*c.found, cmd.String())
	}
}

// No pass of recovery, no page of the list and no unknown name reads all batches by
// one command; batches of an older version are found all the same, and in their order.
func TestNothingReadsAllBatchesAtOnce(t *testing.T) {
	b := newBench(t)
	const n = 1203
	for i := range n {
		b.enqueueAll(fmt.Sprint("batch-", i), rows(i+1, i+1))
	}
	b.must(b.rdb.Del(t.Context(), b.keys.Numbered()).Err()) // as an older version left it
	var found []string
	rdb := redis.NewClient(b.rdb.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(costly{&found})
	b.ledger = ledger.New(rdb, ledger.Config{Account: b.keys.Account, Retention: time.Hour})
	names := b.names()
	if len(names) != n || names[0] != "batch-0" || names[n-1] != fmt.Sprint("batch-", n-1) {
		t.Errorf("%d batches, from %s to %s", len(names), names[0], names[len(names)-1])
	}
	page, more, err := b.ledger.BatchesAfter(t.Context(), 1000, 203)
	if b.must(err); len(page) != 203 || more || page[0].Number != 1001 {
		t.Errorf("the last page has %d, more: %v", len(page), more)
	}
	if page, more, err = b.ledger.BatchesAfter(t.Context(), 1000, 202); err != nil || len(page) != 202 || !more {
		t.Errorf("the page before the end has %d, more: %v, %v", len(page), more, err)
	}
	if names, err := b.ledger.BatchNames(t.Context()); err != nil || len(names) != n {
		t.Errorf("%d names, %v", len(names), err)
	}
	b.must(b.rdb.HSet(t.Context(), b.keys.State(), "retention", "0 true true 0 0").Err())
	for range 20 {
		_, err := b.ledger.Retire(t.Context(), time.Second)
		b.must(err)
		b.dropEmpty()
	}
	if len(found) > 0 {
		t.Errorf("%d commands read all batches: %.200s", len(found), found[0])
	}
}
