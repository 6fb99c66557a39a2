package results_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/internal/storage"
)

// stream is a stream of old results with the helpers of these tests.
type stream struct{ ledgertest.Stream }

func newStream(t testing.TB, events int, cfg results.Config) stream {
	return stream{ledgertest.NewStream(t, events, cfg)}
}

// reads creates a group, which reads some events and acknowledges those from one on.
func (s stream) reads(group string, events, acknowledged int) {
	s.Helper()
	ctx, key := s.Context(), s.Keys.Results()
	s.Must(s.Redis.XGroupCreate(ctx, key, group, "0").Err())
	_, err := s.Redis.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: "one", Streams: []string{key, ">"}, Count: int64(events)}).Result()
	s.Must(err)
	for i := acknowledged; i < events; i++ {
		s.Must(s.Redis.XAck(ctx, key, group, s.ID(i)).Err())
	}
}

// first returns the number of the oldest event in the stream, -1 if it is empty.
func (s stream) first() int {
	s.Helper()
	left, err := s.Redis.XRangeN(s.Context(), s.Keys.Results(), "-", "+", 1).Result()
	s.Must(err)
	if len(left) == 0 {
		return -1
	}
	var ms int64
	_, err = fmt.Sscanf(left[0].ID, "%d-", &ms)
	s.Must(err)
	return int(ms - s.Start)
}

func TestTrim_DropsOldEventsThatGroupsHaveAcknowledged(t *testing.T) {
	const block = 100 // most entries that Redis frees at a time
	for name, tt := range map[string]struct {
		prepare func(s stream)
		idle    time.Duration
		least   int // the oldest event in the stream is this one or a later one,
		most    int // up to this one
	}{
		"nobody reads": {func(stream) {}, 0, 3000 - block, 3000},
		"a group has not been given all": {func(s stream) {
			s.reads("crm", 1000, 1000)
			s.reads("all", 3000, 3000)
			s.Must(s.Redis.XAck(s.Context(), s.Keys.Results(), "crm", s.ids(0, 1000)...).Err())
			s.Must(s.Redis.XAck(s.Context(), s.Keys.Results(), "all", s.ids(0, 3000)...).Err())
		}, 0, 1000 - block, 1000},
		"a group has not acknowledged one": {func(s stream) {
			s.reads("crm", 1000, 501)
			s.Must(s.Redis.XAck(s.Context(), s.Keys.Results(), "crm", s.ids(0, 500)...).Err())
		}, 0, 500 - block, 500},
		"a group was never read":     {func(s stream) { s.Must(s.Redis.XGroupCreate(s.Context(), s.Keys.Results(), "crm", "0").Err()) }, 0, 0, 0},
		"a group is not alive":       {func(s stream) { s.reads("crm", 1000, 501) }, -time.Second, 3000 - block, 3000},
		"one of two groups is alive": {func(s stream) { s.reads("crm", 1000, 1000); s.reads("all", 3000, 3000) }, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStream(t, 3000, results.Config{Age: time.Hour, Cap: 10_000, GroupIdle: tt.idle})
			s.Must(s.Redis.XAdd(t.Context(), &redis.XAddArgs{Stream: s.Keys.Results(), Values: []string{"id", "new"}}).Err())
			tt.prepare(s)
			trim := s.Trim()
			first := s.first()
			if trim.Aged > 0 && first > 3000 { // only the new event is left
				first = 3000
			}
			if first < tt.least || first > tt.most || trim.Dropped != 0 || trim.Length != int(s.Redis.XLen(t.Context(), s.Keys.Results()).Val()) {
				t.Errorf("the oldest event is %d, want %d to %d; trimmed %+v", first, tt.least, tt.most, trim)
			}
		})
	}
}

// ids returns the ids of the events from one on and before another.
func (s stream) ids(from, to int) []string {
	ids := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		ids = append(ids, s.ID(i))
	}
	return ids
}

func TestTrim_DropsEventsBeyondTheCap(t *testing.T) {
	s := newStream(t, 5000, results.Config{Age: 24 * 365 * time.Hour, Cap: 2000})
	s.reads("behind", 1000, 0)
	s.reads("level", 5000, 0)
	s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), "none", "$").Err())
	trim := s.Trim()
	if trim.Dropped < 2900 || trim.Length < 2000 || trim.Length > 2100 || trim.DroppedFrom.UnixMilli() != s.Start || trim.Aged != 0 {
		t.Errorf("trimmed %+v", trim)
	}
	if slices.Sort(trim.LosingGroups); !slices.Equal(trim.LosingGroups, []string{"behind"}) {
		t.Errorf("the groups that lost events are %v, want behind", trim.LosingGroups)
	}
	again := s.Trim()
	results, err := s.Stores.Results.Status(t.Context())
	s.Must(err)
	if again.Dropped != 0 || results.Dropped != trim.Dropped || results.Cap != 2000 || results.Length != trim.Length {
		t.Errorf("trimmed again %+v; the status is %+v", again, results)
	}
}

func TestStatus_ReportsEachGroup(t *testing.T) {
	s := newStream(t, 500, results.Config{Age: 24 * 365 * time.Hour, Cap: 2000})
	if r, err := storage.Of(s.Redis, "t-none").Results.Status(t.Context()); err != nil || len(r.Groups) != 0 || r.Length != 0 {
		t.Errorf("the status of an account without a stream is %+v, %v", r, err)
	}
	s.reads("a", 100, 30)
	s.reads("b", 500, 0)
	s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), "c", s.ID(399)).Err())
	results, err := s.Stores.Results.Status(t.Context())
	s.Must(err)
	for i, want := range []struct {
		group                   string
		consumers, lag, pending int
	}{{"a", 1, 400, 30}, {"b", 1, 0, 0}, {"c", 0, 100, 0}} {
		g := results.Groups[i]
		if g.Group != want.group || g.Consumers != want.consumers || g.Lag != want.lag || g.Pending != want.pending || !g.Live || g.Idle > 60 {
			t.Errorf("the group is %+v, want %+v", g, want)
		}
		if late := g.Behind > 239*3600; late != (want.lag+want.pending > 0) {
			t.Errorf("group %s is %v s behind", g.Group, g.Behind)
		}
	}
	if slowest, ok := results.Slowest(); !ok || slowest.Group != "a" || slowest.Unacknowledged() != 430 {
		t.Errorf("the slowest group is %+v", slowest)
	}
	// After an event was deleted, Redis does not know the lag.
	s.Must(s.Redis.XDel(t.Context(), s.Keys.Results(), s.ID(450)).Err())
	results, err = s.Stores.Results.Status(t.Context())
	if s.Must(err); results.Groups[0].Lag != 399 {
		t.Errorf("after an event was deleted, the group is %+v", results.Groups[0])
	}
}
