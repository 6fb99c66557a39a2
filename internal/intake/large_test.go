package intake_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// However large entries are, one reply of Redis is small, an entry that is too large
// is rejected in few bytes, and the others are accepted.
func TestLargeEntries(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const large = 40
	for n := range large {
		h.add("application_id", fmt.Sprintf("L-%d", n), "metadata", strings.Repeat("x", 1<<20))
		h.add("application_id", fmt.Sprintf("A-%d", n))
	}
	h.add(append([]any{"application_id", "M"}, many(5000)...)...)
	replies := &sizes{}
	h.Redis.AddHook(replies)
	stop := h.start(h.Client, 0)
	h.Eventually("all are settled", func() bool { return h.Redis.XLen(t.Context(), h.Keys.Requests()).Val() == 0 })
	stop()
	for n := range large {
		if _, err := h.Client.Get(t.Context(), fmt.Sprintf("A-%d", n)); err != nil {
			t.Errorf("A-%d: %v", n, err)
		}
	}
	rejects, err := h.Redis.XRange(t.Context(), h.Keys.Rejects(), "-", "+").Result()
	h.Must(err)
	if len(rejects) != large+1 {
		t.Fatalf("%d rejects", len(rejects))
	}
	for _, r := range rejects {
		message, original := r.Values["message"].(string), r.Values["original"].(string)
		if !strings.Contains(message, "the entry has") || len(original) > 32<<10 || !json.Valid([]byte(original)) || r.Values["reason"] != "invalid" {
			t.Errorf("%s, original of %d bytes", message, len(original))
		}
	}
	if most := replies.most.Load(); most > 4<<20 {
		t.Errorf("one reply has %d bytes", most)
	}
}

// However much is rejected, what is kept of it leaves Redis its memory.
func TestRejectsAreFewBytes(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const entries = 4000
	wrong := strings.Repeat("x", 31<<10)
	for range entries / 100 {
		_, err := h.Redis.Pipelined(t.Context(), func(p redis.Pipeliner) error {
			for range 100 {
				p.XAdd(t.Context(), &redis.XAddArgs{Stream: h.Keys.Requests(), Values: []any{"application_id", "A-1", "photo", wrong}})
			}
			return nil
		})
		h.Must(err)
	}
	last := h.add("application_id", "A-1", "photo", wrong)
	stop := h.start(h.Client, 0)
	h.Eventually("all are settled", func() bool { return h.Redis.XLen(t.Context(), h.Keys.Requests()).Val() == 0 })
	stop()
	if bytes := h.Redis.MemoryUsage(t.Context(), h.Keys.Rejects()).Val(); bytes > 70<<20 || bytes < 50<<20 {
		t.Errorf("%d MiB of rejects are kept", bytes>>20)
	}
	latest, err := h.Redis.XRevRangeN(t.Context(), h.Keys.Rejects(), "+", "-", 1).Result()
	h.Must(err)
	if len(latest) != 1 || latest[0].Values["entry"] != last {
		t.Errorf("the latest reject is not kept: %.100v", latest)
	}
}

// sizes measures commands with their replies.
type sizes struct{ most atomic.Int64 }

func (s *sizes) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *sizes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		s.most.Store(max(s.most.Load(), int64(len(cmd.String()))))
		return err
	}
}

func (s *sizes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		total := 0
		for _, cmd := range cmds {
			total += len(cmd.String())
		}
		s.most.Store(max(s.most.Load(), int64(total)))
		return err
	}
}

func many(n int) []any {
	var fields []any
	for i := range n {
		fields = append(fields, fmt.Sprintf("unknown-%d", i), "x")
	}
	return fields
}
