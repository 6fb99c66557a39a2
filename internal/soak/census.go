package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// census counts the keys of Redis by kind.
type census struct {
	kinds map[string]int
	kept  map[string][]string // some keys of each kind that is kept for days
}

// keptKinds returns the kinds of keys that are kept for hours or days, whatever the retention
// is, and therefore grow during a soak: batches, for a day after their last import; the
// activity of each minute, for two hours; and the audit trail with its lists by target, of
// which the latest million entries are kept. See docs/soak.md.
func keptKinds() []string {
	return []string{"batch", "order", "joined", "batches", "numbered", "perhaps-empty", "activity", "audit", "audited", "more-audited"}
}

// mostMeasured is how many keys of a kind are measured; the others count as their average.
const mostMeasured = 500

// requestKinds returns the kinds of keys of which nothing is left after requests were erased.
func requestKinds() []string {
	return []string{"record", "old", "delivery", "deliveries", "ended", "mentions", "queued", "deadlines", "pending", "undelivered",
		"failed", "held", "again", "off", "newer", "panics", "calls", "unsearched", "task"}
}

// kindOf names the kind of a key: the word that follows the account's tag, record for a
// request, or task for a key of one asynq task.
func kindOf(key, tag string) string {
	if rest, ok := strings.CutPrefix(key, tag+":"); ok {
		kind, _, _ := strings.Cut(rest, ":")
		return kind
	}
	if strings.HasPrefix(key, tag+"/") {
		return "record"
	}
	if _, rest, ok := strings.Cut(key, "}:"); ok && strings.HasPrefix(key, "asynq:{") {
		if strings.HasPrefix(rest, "t:") || strings.HasPrefix(rest, "unique:") {
			return "task"
		}
	}
	return "other"
}

func (r *rig) census(ctx context.Context) (census, error) {
	c := census{kinds: map[string]int{}, kept: map[string][]string{}}
	seen := map[string]bool{} // a scan may return a key twice
	for cursor := uint64(0); ; {
		keys, next, err := r.rdb.Scan(ctx, cursor, "*", 1000).Result()
		if err != nil {
			return c, fmt.Errorf("scan the keys: %w", err)
		}
		for _, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			kind := kindOf(key, r.keys.Tag())
			c.kinds[kind]++
			if slices.Contains(keptKinds(), kind) && len(c.kept[kind]) < mostMeasured {
				c.kept[kind] = append(c.kept[kind], key)
			}
		}
		if cursor = next; cursor == 0 {
			return c, nil
		}
	}
}

func (c census) count(kinds ...string) (sum int) {
	for _, kind := range kinds {
		sum += c.kinds[kind]
	}
	return sum
}

// others returns how many keys are neither of tasks nor kept for days.
func (c census) others() (sum int) {
	for kind, n := range c.kinds {
		if kind != "task" && !slices.Contains(keptKinds(), kind) {
			sum += n
		}
	}
	return sum
}

// String lists the kinds with their numbers, the most first.
func (c census) String() string {
	kinds := slices.SortedFunc(maps.Keys(c.kinds), func(a, b string) int {
		if c.kinds[a] != c.kinds[b] {
			return c.kinds[b] - c.kinds[a]
		}
		return strings.Compare(a, b)
	})
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%s %d", kind, c.kinds[kind])
	}
	return strings.Join(kinds, ", ")
}

// keptBytes returns the memory of the keys that are kept for days.
func (r *rig) keptBytes(ctx context.Context, c census) (sum float64, err error) {
	for kind, keys := range c.kept {
		sizes := make([]*redis.IntCmd, len(keys))
		_, _ = r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // the errors are those of the commands
			for i, key := range keys {
				sizes[i] = pipe.MemoryUsage(ctx, key)
			}
			return nil
		})
		measured := 0.0
		for _, size := range sizes {
			if err := size.Err(); err != nil && !errors.Is(err, redis.Nil) { // Nil: the key has gone
				return 0, fmt.Errorf("measure the keys that are kept for days: %w", err)
			}
			measured += float64(size.Val())
		}
		sum += measured * float64(c.kinds[kind]) / float64(len(keys))
	}
	return sum, nil
}
