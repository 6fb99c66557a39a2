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

// GroupIdle is for how long no consumer of a group may have been heard of for the
// group to count as live: what it has not acknowledged is kept.
const GroupIdle = 7 * 24 * time.Hour

// eventsPage is how many events one command reads.
const eventsPage = 1000

// Config is how long a stream keeps events.
type Config struct {
	// Age and Cap are what [Stream.TrimResults] keeps the stream within; where Age is 0
	// it is left alone.
	Age time.Duration
	Cap int
	// GroupIdle replaces [GroupIdle] where it is not 0.
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

// extent limits what is read of the results stream: the first groups by name, and the events
// to count one by one if Redis does not know a group's lag.
type limits struct{ groups, events int }

const maxCounted = 100_000

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
type Status struct {
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
func (r Status) Slowest() (slowest Group, ok bool) {
	for _, g := range r.Groups {
		if g.Live && (!ok || g.Unacknowledged() > slowest.Unacknowledged()) {
			slowest, ok = g, true
		}
	}
	return slowest, ok
}

// Oldest is how long ago the oldest event that is left came into the stream, by
// Redis' clock; 0 where there is none.
func (r Status) Oldest() time.Duration {
	if r.first == "" {
		return 0
	}
	return max(0, r.now.Sub(event.EnteredAt(r.first)))
}

// Unacknowledged is how many events a group has still to acknowledge.
func (g Group) Unacknowledged() int { return g.Lag + g.Pending }

// Status reads how the results stream and its groups are, in the order of their
// names. It takes the same time however long the stream is, but where events have
// to be counted.
func (s *Stream) Status(ctx context.Context) (Status, error) {
	return s.read(ctx, limits{math.MaxInt, maxCounted})
}

// Sample reads the first groups by name, at most so many. Where Redis does not know how
// many events a group has still to be given, it counts at most that many.
func (s *Stream) Sample(ctx context.Context, groups, events int) (Status, error) {
	return s.read(ctx, limits{groups, events})
}

func (s *Stream) read(ctx context.Context, far limits) (r Status, err error) {
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
	if err = s.readGroups(ctx, &r, end, far); err != nil {
		return r, readError("the groups of the results stream", err)
	}
	return r, nil
}

func (s *Stream) readGroups(ctx context.Context, r *Status, end string, far limits) error {
	key := s.keys.Results()
	groups, err := s.rdb.XInfoGroups(ctx, key).Result()
	if err != nil || len(groups) == 0 {
		return err
	}
	groups = groups[:min(len(groups), far.groups)]
	consumers := make([]*redis.XInfoConsumersCmd, len(groups))
	pending := make([]*redis.XPendingExtCmd, len(groups))
	next := make([]*redis.XMessageSliceCmd, len(groups))
	var met *redis.MapStringStringCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		met = pipe.HGetAll(ctx, s.keys.Groups())
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
		idle := r.idle(consumers[i].Val(), met.Val()[info.Name])
		g.Idle, g.Live = seconds(idle), idle < s.cfg.GroupIdle
		if g.oldest != "" {
			g.Behind = seconds(r.now.Sub(event.EnteredAt(g.oldest)))
		}
		if len(next[i].Val()) > 0 {
			g.Lag = min(int(info.Lag), r.Length)
			// What Redis does not know it gives as -1, and before 7 not at all.
			if g.Lag <= 0 {
				if g.Lag, err = s.countAfter(ctx, info.LastDeliveredID, end, far.events); err != nil {
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
func startFrom(id string) string {
	if id == "" {
		return "-"
	}
	return id
}

// idle is since when no consumer was heard of. A group that has none was met by
// the workers at some time.
func (r Status) idle(consumers []redis.XInfoConsumer, met string) time.Duration {
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

// whole reads a number that is 0 where it is not there.
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
