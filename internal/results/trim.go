package results

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/event"
)

// Trimmed is the result of [Stream.Trim].
type Trimmed struct {
	// Length is the number of events in the stream, and Cap their limit.
	Length, Cap int
	// Aged is the number of events that were removed because of their age, Dropped the
	// number that were removed because of the cap.
	Aged, Dropped int
	// DroppedFrom is the time of the first dropped event.
	DroppedFrom time.Time
	// LosingGroups are the live groups that had not acknowledged all dropped events;
	// SlowestGroup is the live group with the oldest unacknowledged event, or empty.
	LosingGroups []string
	SlowestGroup string
}

const (
	// trimPart is the number of entries that one command removes, within a millisecond or
	// two. maxTrimParts is the number of commands in one call, which removes more than is
	// added between two calls.
	trimPart     = 10_000
	maxTrimParts = 50
)

// Trim removes events that are older than [Config].Age and acknowledged by all live groups,
// and the oldest events beyond [Config].Cap, acknowledged or not. Each call removes a limited
// number. Redis frees whole blocks, so that a few more events may remain.
func (s *Stream) Trim(ctx context.Context) (t Trimmed, err error) {
	if s.cfg.Age == 0 {
		return t, nil
	}
	// The lag of groups is not needed, so that no events are counted.
	r, err := s.read(ctx, limits{groups: math.MaxInt})
	if err != nil {
		return t, err
	}
	if err := s.recordGroups(ctx, r); err != nil {
		return t, err
	}
	bound := fmt.Sprintf("%d-0", r.now.Add(-s.cfg.Age).UnixMilli())
	var behind float64
	for _, g := range r.Groups {
		if g.Live && g.oldest != "" && before(g.oldest, bound) {
			bound = g.oldest
		}
		if g.Live && g.Behind > behind {
			t.SlowestGroup, behind = g.Group, g.Behind
		}
	}
	key := s.keys.Results()
	t.Cap = s.cfg.Cap
	t.Aged, err = trimInParts(func() (int64, error) { return s.rdb.XTrimMinIDApprox(ctx, key, bound, trimPart).Result() })
	if err == nil && r.Length-t.Aged > t.Cap {
		t.Dropped, err = trimInParts(func() (int64, error) { return s.rdb.XTrimMaxLenApprox(ctx, key, int64(t.Cap), trimPart).Result() })
	}
	t.Length = r.Length - t.Aged - t.Dropped
	if err != nil {
		return t, fmt.Errorf("trim the results stream: %w", err)
	}
	if t.Dropped == 0 {
		return t, nil
	}
	return t, s.countDropped(ctx, r, &t)
}

// trimInParts trims until nothing more is removed, or the limit is reached.
func trimInParts(trim func() (int64, error)) (total int, err error) {
	for range maxTrimParts {
		n, err := trim()
		if total += int(n); err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

// countDropped counts the dropped events, and finds the groups that had not acknowledged
// them.
func (s *Stream) countDropped(ctx context.Context, r Status, t *Trimmed) error {
	var left *redis.XMessageSliceCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HIncrBy(ctx, s.keys.State(), "results_dropped", int64(t.Dropped))
		left = pipe.XRangeN(ctx, s.keys.Results(), "-", "+", 1)
		return nil
	}); err != nil {
		return fmt.Errorf("count the dropped events of the results stream: %w", err)
	}
	t.DroppedFrom = event.EnteredAt(r.first)
	for _, g := range r.Groups {
		if g.Live && g.oldest != "" && (len(left.Val()) == 0 || before(g.oldest, left.Val()[0].ID)) {
			t.LosingGroups = append(t.LosingGroups, g.Group)
		}
	}
	return nil
}

// recordGroups stores the cap in force, and the time at which each group was first seen,
// which is the only known age of a group without consumers.
func (s *Stream) recordGroups(ctx context.Context, r Status) error {
	known, err := s.rdb.HKeys(ctx, s.keys.Groups()).Result()
	if err != nil {
		return readError("the groups of the results stream", err)
	}
	_, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		if r.Cap != s.cfg.Cap {
			pipe.HSet(ctx, s.keys.State(), "results_cap", s.cfg.Cap)
		}
		for _, g := range r.Groups {
			if !slices.Contains(known, g.Group) {
				pipe.HSetNX(ctx, s.keys.Groups(), g.Group, r.now.UnixMilli())
			}
		}
		for _, name := range known {
			if !slices.ContainsFunc(r.Groups, func(g Group) bool { return g.Group == name }) {
				pipe.HDel(ctx, s.keys.Groups(), name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store the cap and the groups of the results stream: %w", err)
	}
	return nil
}

// before compares the ids of entries.
func before(a, b string) bool {
	split := func(id string) (ms, n uint64) {
		left, right, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(left, 10, 64)
		n, _ = strconv.ParseUint(right, 10, 64)
		return ms, n
	}
	ams, an := split(a)
	bms, bn := split(b)
	return ams < bms || ams == bms && an < bn
}
