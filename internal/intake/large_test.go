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

// Large entries are rejected with a shortened original, and are not read in one large reply.
func TestIntake_RejectsEntriesThatAreTooLarge(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const large = 40
	for n := range large {
		h.add("application_id", fmt.Sprintf("L-%d", n), "metadata", strings.Repeat("x", 1<<20))
		h.add("application_id", fmt.Sprintf("A-%d", n))
	}
	h.add(append([]any{"application_id", "M"}, unknownFields(5000)...)...)
	replies := &replySizes{}
	h.Redis.AddHook(replies)
	stop := h.start(h.Client, 0)
	h.Eventually("the stream is empty", h.streamEmpty)
	stop()
	for n := range large {
		if _, err := h.Client.Get(t.Context(), fmt.Sprintf("A-%d", n)); err != nil {
			t.Errorf("A-%d: %v", n, err)
		}
	}
	rejects, err := h.Redis.XRange(t.Context(), h.Keys.Rejects(), "-", "+").Result()
	h.Must(err)
	if len(rejects) != large+1 {
		t.Fatalf("got %d rejects, want %d", len(rejects), large+1)
	}
	for _, r := range rejects {
		message, original := r.Values["message"].(string), r.Values["original"].(string)
		if !strings.Contains(message, "the entry has") || len(original) > 32<<10 || !json.Valid([]byte(original)) || r.Values["reason"] != "invalid" {
			t.Errorf("got a reject with message %q, reason %v and an original of %d bytes", message, r.Values["reason"], len(original))
		}
	}
	if largest := replies.largest.Load(); largest > 4<<20 {
		t.Errorf("the largest reply has %d bytes, want at most 4 MiB", largest)
	}
}

// The bound is 64 MiB, and the latest rejects are the ones that are kept.
func TestIntake_BoundsTheMemoryOfRejects(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	const entries = 2600 // 79 MiB
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
	h.Eventually("the stream is empty", h.streamEmpty)
	stop()
	if bytes := h.Redis.MemoryUsage(t.Context(), h.Keys.Rejects()).Val(); bytes > 70<<20 || bytes < 50<<20 {
		t.Errorf("the rejects take %d MiB, want from 50 to 70", bytes>>20)
	}
	latest, err := h.Redis.XRevRangeN(t.Context(), h.Keys.Rejects(), "+", "-", 1).Result()
	h.Must(err)
	if len(latest) != 1 || latest[0].Values["entry"] != last {
		t.Errorf("the last kept reject is %.100v, want that of entry %s", latest, last)
	}
}

// replySizes is a Redis hook that measures the largest reply, with its command.
type replySizes struct{ largest atomic.Int64 }

func (s *replySizes) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *replySizes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		s.largest.Store(max(s.largest.Load(), int64(len(cmd.String()))))
		return err
	}
}

func (s *replySizes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		total := 0
		for _, cmd := range cmds {
			total += len(cmd.String())
		}
		s.largest.Store(max(s.largest.Load(), int64(total)))
		return err
	}
}

func unknownFields(n int) []any {
	var fields []any
	for i := range n {
		fields = append(fields, fmt.Sprintf("unknown-%d", i), "x")
	}
	return fields
}
