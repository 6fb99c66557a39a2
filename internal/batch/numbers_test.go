package batch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/storage"
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
