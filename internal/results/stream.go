// Package results reads and trims the results stream, and replays events.
package results

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/keyspace"
)

// GroupIdle is the idle time after which a consumer group no longer counts as live. Events
// that a live group has not acknowledged are kept.
const GroupIdle = 7 * 24 * time.Hour

// eventsPage is the number of events that one command reads.
const eventsPage = 1000

// Config configures how long a [Stream] keeps events.
type Config struct {
	// Age and Cap are the limits for [Stream.Trim]; with Age 0 it removes nothing.
	Age time.Duration
	Cap int
	// GroupIdle replaces [GroupIdle] if it is not 0.
	GroupIdle time.Duration
}

// Stream is the results stream of one account. It is safe for concurrent use.
type Stream struct {
	rdb     redis.UniversalClient
	keys    keyspace.Keys
	cfg     Config
	batches *batch.Store
	events  *event.Encoder
}

// NewStream returns a stream that uses, and does not close, rdb.
func NewStream(rdb redis.UniversalClient, keys keyspace.Keys, cfg Config) *Stream {
	if cfg.GroupIdle == 0 {
		cfg.GroupIdle = GroupIdle
	}
	return &Stream{rdb, keys, cfg, batch.NewStore(rdb, keys), event.NewEncoder(keys.Account, batchname.NewReader(rdb, keys))}
}

// limits are the numbers of groups to read, in the order of their names, and of events to
// count if Redis does not know a group's lag.
type limits struct{ groups, events int }

const maxCounted = 100_000

// Group is a consumer group of the results stream.
type Group struct {
	Group     string `json:"group"`
	Consumers int    `json:"consumers"`
	// Lag is the number of events that were not yet delivered to the group. With a Redis
	// before 7, or after events were erased, they are counted, up to a hundred thousand;
	// LagAtLeast reports that there may be more.
	Lag        int  `json:"lag"`
	LagAtLeast bool `json:"lag_at_least,omitempty"`
	// Pending is the number of delivered events that it has not acknowledged.
	Pending int `json:"pending"`
	// Behind is the age of the oldest event that it has not acknowledged, and Idle the
	// time since the last command of its consumers, in seconds.
	Behind float64 `json:"behind_seconds"`
	Idle   float64 `json:"idle_seconds"`
	// Live reports that the events that it has not acknowledged are kept.
	Live bool `json:"live"`

	oldest string // id of the oldest event that it has not acknowledged, or ""
}

// Status is the status of the results stream and its groups.
type Status struct {
	Length int `json:"length"`
	// Cap is the largest number of events that workers keep; 0 before the first trim.
	Cap int `json:"cap"`
	// Dropped counts all events that were removed because of the cap.
	Dropped int     `json:"dropped"`
	Groups  []Group `json:"groups"`
	// MoreGroups is the number of groups that [Stream.Sample] left out.
	MoreGroups int `json:"more_groups,omitempty"`

	now   time.Time // by Redis' clock
	first string    // id of the first event
}

// Slowest returns the live group with the most events to acknowledge; ok is false if there
// is no live group.
func (r Status) Slowest() (slowest Group, ok bool) {
	for _, g := range r.Groups {
		if g.Live && (!ok || g.Unacknowledged() > slowest.Unacknowledged()) {
			slowest, ok = g, true
		}
	}
	return slowest, ok
}

// Oldest returns the age of the oldest event in the stream; 0 if there is none.
func (r Status) Oldest() time.Duration {
	if r.first == "" {
		return 0
	}
	return max(0, r.now.Sub(event.EnteredAt(r.first)))
}

// Unacknowledged returns the number of events that the group has not acknowledged.
func (g Group) Unacknowledged() int { return g.Lag + g.Pending }

// Status reads the status of the stream and of its groups, in the order of their names. The
// time does not depend on the length of the stream, unless events must be counted.
func (s *Stream) Status(ctx context.Context) (Status, error) {
	return s.read(ctx, limits{math.MaxInt, maxCounted})
}

// Sample is [Stream.Status] with the first groups only. If Redis does not know the lag of a
// group, it counts at most the given number of events.
func (s *Stream) Sample(ctx context.Context, groups, events int) (Status, error) {
	return s.read(ctx, limits{groups, events})
}

func (s *Stream) read(ctx context.Context, limit limits) (r Status, err error) {
	key := s.keys.Results()
	var clock keyspace.Clock
	var length, there *redis.IntCmd
	var first, last *redis.XMessageSliceCmd
	var account *redis.SliceCmd
	if _, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = s.keys.Clock(ctx, pipe)
		there, length = pipe.Exists(ctx, key), pipe.XLen(ctx, key)
		first, last = pipe.XRangeN(ctx, key, "-", "+", 1), pipe.XRevRangeN(ctx, key, "+", "-", 1)
		account = pipe.HMGet(ctx, s.keys.State(), "results_cap", "results_dropped")
		return nil
	}); err != nil {
		return r, readError("the results stream", err)
	}
	if r.now, err = clock.Time(); err != nil {
		return r, err
	}
	r.Length = int(length.Val())
	r.Cap, r.Dropped = parseCount(account.Val()[0]), parseCount(account.Val()[1])
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
	if err = s.readGroups(ctx, &r, end, limit); err != nil {
		return r, readError("the groups of the results stream", err)
	}
	return r, nil
}

func (s *Stream) readGroups(ctx context.Context, r *Status, end string, limit limits) error {
	key := s.keys.Results()
	groups, err := s.rdb.XInfoGroups(ctx, key).Result()
	if err != nil || len(groups) == 0 {
		return err
	}
	read := min(len(groups), limit.groups)
	r.MoreGroups, groups = len(groups)-read, groups[:read]
	consumers := make([]*redis.XInfoConsumersCmd, len(groups))
	pending := make([]*redis.XPendingExtCmd, len(groups))
	next := make([]*redis.XMessageSliceCmd, len(groups))
	var firstSeen *redis.MapStringStringCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		firstSeen = pipe.HGetAll(ctx, s.keys.Groups())
		for i, g := range groups {
			consumers[i] = pipe.XInfoConsumers(ctx, key, g.Name)
			pending[i] = pipe.XPendingExt(ctx, &redis.XPendingExtArgs{Stream: key, Group: g.Name, Start: startFrom(r.first), End: "+", Count: 1})
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
		idle := r.idle(consumers[i].Val(), firstSeen.Val()[info.Name])
		g.Idle, g.Live = seconds(idle), idle < s.cfg.GroupIdle
		if g.oldest != "" {
			g.Behind = seconds(r.now.Sub(event.EnteredAt(g.oldest)))
		}
		if len(next[i].Val()) > 0 {
			g.Lag = min(int(info.Lag), r.Length)
			// An unknown lag is -1; Redis before 7 returns none.
			if g.Lag <= 0 {
				if g.Lag, err = s.countAfter(ctx, info.LastDeliveredID, end, limit.events); err != nil {
					return err
				}
				g.LagAtLeast = g.Lag >= limit.events
			}
		}
		r.Groups = append(r.Groups, g)
	}
	return nil
}

// startFrom returns the id from which to read pending events: older ones were trimmed.
func startFrom(id string) string {
	if id == "" {
		return "-"
	}
	return id
}

// idle returns the time since the last command of a group's consumers or, without consumers,
// since a worker first saw the group.
func (r Status) idle(consumers []redis.XInfoConsumer, firstSeen string) time.Duration {
	if len(consumers) == 0 {
		at, err := strconv.ParseInt(firstSeen, 10, 64)
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

func (s *Stream) countAfter(ctx context.Context, id, end string, most int) (n int, err error) {
	for n < most {
		page := min(eventsPage, most-n)
		entries, err := s.rdb.XRangeN(ctx, s.keys.Results(), "("+id, end, int64(page)).Result()
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

// parseCount parses a number; an absent one is 0.
func parseCount(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(text)
	return n
}

func readError(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read %s: %w", what, err)
}
