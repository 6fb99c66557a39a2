package ledger

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
	"github.com/kyclink/kyclink/internal/keyspace"
)

// GroupIdle is for how long no consumer of a group may have been heard of for the
// group to count as live: what it has not acknowledged is kept.
const GroupIdle = 7 * 24 * time.Hour

// extent is how far a look at the results stream goes: through so many groups, the
// first by name, and through so many events that are counted one by one, where Redis
// does not know.
type extent struct{ groups, events int }

const mostCounted = 100_000

// Group is one that reads the results stream.
type Group struct {
	Group     string `json:"group"`
	Consumers int    `json:"consumers"`
	// Lag is how many events it was not given yet. With a Redis before 7, or after
	// events were erased, they are counted, to a hundred thousand at most; then
	// LagAtLeast.
	Lag        int  `json:"lag"`
	LagAtLeast bool `json:"lag_at_least,omitempty"`
	// Pending is how many it was given and has not acknowledged.
	Pending int `json:"pending"`
	// Behind is how long ago the oldest event that it has not acknowledged came into
	// the stream, and Idle how long ago one of its consumers was heard of, in seconds.
	Behind float64 `json:"behind_seconds"`
	Idle   float64 `json:"idle_seconds"`
	// Live says that what it has not acknowledged is kept.
	Live bool `json:"live"`

	oldest string // the entry that it has not acknowledged, "" where there is none
}

// Results is the results stream as a whole.
type Results struct {
	Length int `json:"length"`
	// Cap is what the workers keep it below; 0 where none has looked yet.
	Cap int `json:"cap"`
	// Dropped is how many events ever went because of the cap.
	Dropped int     `json:"dropped"`
	Groups  []Group `json:"groups"`

	now   time.Time // by Redis' clock
	first string    // entry
}

// Slowest is the live group that has most to acknowledge; ok is false where there
// is none.
func (r Results) Slowest() (slowest Group, ok bool) {
	for _, g := range r.Groups {
		if g.Live && (!ok || g.Unacknowledged() > slowest.Unacknowledged()) {
			slowest, ok = g, true
		}
	}
	return slowest, ok
}

// Oldest is how long ago the oldest event that is left came into the stream, by
// Redis' clock; 0 where there is none.
func (r Results) Oldest() time.Duration {
	if r.first == "" {
		return 0
	}
	return max(0, r.now.Sub(event.EnteredAt(r.first)))
}

// Unacknowledged is how many events a group has still to acknowledge.
func (g Group) Unacknowledged() int { return g.Lag + g.Pending }

// Results reads how the results stream and its groups are, in the order of their
// names. It takes the same time however long the stream is, but where events have
// to be counted.
func (l *Ledger) Results(ctx context.Context) (Results, error) {
	return l.results(ctx, extent{math.MaxInt, mostCounted})
}

func (l *Ledger) results(ctx context.Context, far extent) (r Results, err error) {
	key := l.keys.Results()
	var clock keyspace.Clock
	var length, there *redis.IntCmd
	var first, last *redis.XMessageSliceCmd
	var account *redis.SliceCmd
	if _, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = l.keys.Clock(ctx, pipe)
		there, length = pipe.Exists(ctx, key), pipe.XLen(ctx, key)
		first, last = pipe.XRangeN(ctx, key, "-", "+", 1), pipe.XRevRangeN(ctx, key, "+", "-", 1)
		account = pipe.HMGet(ctx, l.keys.State(), "results_cap", "results_dropped")
		return nil
	}); err != nil {
		return r, cannotRead("the results stream", err)
	}
	if r.now, err = clock.Time(); err != nil {
		return r, err
	}
	r.Length = int(length.Val())
	r.Cap, r.Dropped = whole(account.Val()[0]), whole(account.Val()[1])
	if there.Val() == 0 {
		return r, nil
	}
	if len(first.Val()) > 0 {
		r.first = first.Val()[0].ID
	}
	end := ""
	if len(last.Val()) > 0 {
		end = last.Val()[0].ID
	}
	if err = l.readGroups(ctx, &r, end, far); err != nil {
		return r, cannotRead("the groups of the results stream", err)
	}
	return r, nil
}

// whole reads a number that is 0 where it is not there.
func whole(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(text)
	return n
}

func (l *Ledger) readGroups(ctx context.Context, r *Results, end string, far extent) error {
	key := l.keys.Results()
	groups, err := l.rdb.XInfoGroups(ctx, key).Result()
	if err != nil || len(groups) == 0 {
		return err
	}
	groups = groups[:min(len(groups), far.groups)]
	consumers := make([]*redis.XInfoConsumersCmd, len(groups))
	pending := make([]*redis.XPendingExtCmd, len(groups))
	next := make([]*redis.XMessageSliceCmd, len(groups))
	var met *redis.MapStringStringCmd
	if _, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		met = pipe.HGetAll(ctx, l.keys.Groups())
		for i, g := range groups {
			consumers[i] = pipe.XInfoConsumers(ctx, key, g.Name)
			pending[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: g.Name, Start: oldestOf(r.first), End: "+", Count: 1})
			next[i] = pipe.XRangeN(ctx, key, "("+g.LastDeliveredID, "+", 1)
		}
		return nil
	}); err != nil {
		return err
	}
	for i, info := range groups {
		g := Group{Group: info.Name, Consumers: len(consumers[i].Val()), Pending: int(info.Pending)}
		if len(pending[i].Val()) > 0 {
			g.oldest = pending[i].Val()[0].ID
		} else if len(next[i].Val()) > 0 {
			g.oldest = next[i].Val()[0].ID
		}
		idle := r.idle(consumers[i].Val(), met.Val()[info.Name])
		g.Idle, g.Live = seconds(idle), idle < l.cfg.GroupIdle
		if g.oldest != "" {
			g.Behind = seconds(r.now.Sub(event.EnteredAt(g.oldest)))
		}
		if len(next[i].Val()) > 0 {
			g.Lag = min(int(info.Lag), r.Length)
			// What Redis does not know it gives as -1, and before 7 not at all.
			if g.Lag <= 0 {
				if g.Lag, err = l.countAfter(ctx, info.LastDeliveredID, end, far.events); err != nil {
					return err
				}
				g.LagAtLeast = g.Lag >= far.events
			}
		}
		r.Groups = append(r.Groups, g)
	}
	return nil
}

// oldestOf is where to begin: what was pending may not be kept any more.
func oldestOf(id string) string {
	if id == "" {
		return "-"
	}
	return id
}

// idle is since when no consumer was heard of. A group that has none was met by
// the workers at some time.
func (r Results) idle(consumers []redis.XInfoConsumer, met string) time.Duration {
	if len(consumers) == 0 {
		at, err := strconv.ParseInt(met, 10, 64)
		if err != nil {
			return 0
		}
		return r.now.Sub(time.UnixMilli(at))
	}
	idle := time.Duration(math.MaxInt64)
	for _, c := range consumers {
		idle = min(idle, c.Idle)
	}
	return idle
}

func seconds(d time.Duration) float64 {
	return math.Round(max(d, 0).Seconds()*1000) / 1000
}

func (l *Ledger) countAfter(ctx context.Context, id, end string, most int) (n int, err error) {
	for n < most {
		page := min(eventsPage, most-n)
		entries, err := l.rdb.XRangeN(ctx, l.keys.Results(), "("+id, end, int64(page)).Result()
		if err != nil {
			return n, err
		}
		if n += len(entries); len(entries) < page {
			break
		}
		id = entries[len(entries)-1].ID
	}
	return n, nil
}

const (
	// trimPiece is how many entries one command takes off, which holds Redis for a
	// millisecond or two; trimPieces how many commands one call makes: more than
	// come in between.
	trimPiece  = 10_000
	trimPieces = 50
)

// TrimResults takes off the results stream what is older than the ledger's
// ResultsAge and what all live groups have acknowledged, and the oldest beyond
// ResultsCap whether it was acknowledged or not. It does a bounded part at a time.
// Redis frees whole blocks, so a few more may be left.
func (l *Ledger) TrimResults(ctx context.Context) (t Trim, err error) {
	if l.cfg.ResultsAge == 0 {
		return t, nil
	}
	// It does not matter by how many events a group is behind, which may have to be counted.
	r, err := l.results(ctx, extent{groups: math.MaxInt})
	if err != nil {
		return t, err
	}
	if err := l.meet(ctx, r); err != nil {
		return t, err
	}
	bound := fmt.Sprintf("%d-0", r.now.Add(-l.cfg.ResultsAge).UnixMilli())
	var behind float64
	for _, g := range r.Groups {
		if g.Live && g.oldest != "" && before(g.oldest, bound) {
			bound = g.oldest
		}
		if g.Live && g.Behind > behind {
			t.Slowest, behind = g.Group, g.Behind
		}
	}
	key := l.keys.Results()
	t.Cap = l.cfg.ResultsCap
	t.Aged, err = pieces(func() (int64, error) { return l.rdb.XTrimMinIDApprox(ctx, key, bound, trimPiece).Result() })
	if err == nil && r.Length-t.Aged > t.Cap {
		t.Dropped, err = pieces(func() (int64, error) { return l.rdb.XTrimMaxLenApprox(ctx, key, int64(t.Cap), trimPiece).Result() })
	}
	t.Length = r.Length - t.Aged - t.Dropped
	if err != nil {
		return t, fmt.Errorf("trim the results stream: %w", err)
	}
	if t.Dropped == 0 {
		return t, nil
	}
	return t, l.dropped(ctx, r, &t)
}

// pieces trims until nothing more goes.
func pieces(trim func() (int64, error)) (total int, err error) {
	for range trimPieces {
		n, err := trim()
		if total += int(n); err != nil || n == 0 {
			return total, err
		}
	}
	return total, nil
}

// dropped finds out who lost something, and counts it.
func (l *Ledger) dropped(ctx context.Context, r Results, t *Trim) error {
	var left *redis.XMessageSliceCmd
	if _, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HIncrBy(ctx, l.keys.State(), "results_dropped", int64(t.Dropped))
		left = pipe.XRangeN(ctx, l.keys.Results(), "-", "+", 1)
		return nil
	}); err != nil {
		return fmt.Errorf("count what was dropped of the results stream: %w", err)
	}
	t.From = event.EnteredAt(r.first)
	for _, g := range r.Groups {
		if g.Live && g.oldest != "" && (len(left.Val()) == 0 || before(g.oldest, left.Val()[0].ID)) {
			t.Lost = append(t.Lost, g.Group)
		}
	}
	return nil
}

// meet keeps the cap that is in force, for whoever looks, and since when groups
// are known that have no consumer which could tell.
func (l *Ledger) meet(ctx context.Context, r Results) error {
	known, err := l.rdb.HKeys(ctx, l.keys.Groups()).Result()
	if err != nil {
		return cannotRead("the groups of the results stream", err)
	}
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		if r.Cap != l.cfg.ResultsCap {
			pipe.HSet(ctx, l.keys.State(), "results_cap", l.cfg.ResultsCap)
		}
		for _, g := range r.Groups {
			if !slices.Contains(known, g.Group) {
				pipe.HSetNX(ctx, l.keys.Groups(), g.Group, r.now.UnixMilli())
			}
		}
		for _, name := range known {
			if !slices.ContainsFunc(r.Groups, func(g Group) bool { return g.Group == name }) {
				pipe.HDel(ctx, l.keys.Groups(), name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep what is known of the results stream: %w", err)
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
