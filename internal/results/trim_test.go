package results_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/internal/storage"
)

const aYear = 24 * 365 * time.Hour

func TestTrim_DropsNothingWithoutAnAge(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, results.Config{Cap: 100})
	if trim := s.Trim(); trim.Aged+trim.Dropped != 0 || s.first() != 0 {
		t.Errorf("trimmed %+v, the oldest event is %d", trim, s.first())
	}
}

// One call deletes more events than one command does.
func TestTrim_DropsManyEventsInOneCall(t *testing.T) {
	t.Parallel()
	s := newStream(t, 25_000, results.Config{Age: time.Hour, Cap: 100_000})
	if trim := s.Trim(); trim.Aged < 24_900 {
		t.Errorf("trimmed %+v", trim)
	}
}

// A group without consumers counts as live for as long as other groups do, from when it
// was first found.
func TestTrim_IgnoresAGroupThatHasHadNoConsumerForLong(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, results.Config{Age: time.Hour, Cap: 10_000})
	key, group := s.Keys.Results(), "crm"
	s.Must(s.Redis.XGroupCreate(t.Context(), key, group, "0").Err())
	s.Trim()
	found := s.Redis.HGet(t.Context(), s.Keys.Groups(), group).Val()
	if found == "" || s.first() != 0 {
		t.Fatalf("the group was found at %q, the oldest event is %d", found, s.first())
	}
	longAgo := fmt.Sprint(time.Now().Add(-results.GroupIdle - time.Hour).UnixMilli())
	s.Must(s.Redis.HSet(t.Context(), s.Keys.Groups(), group, longAgo).Err())
	if trim := s.Trim(); trim.Aged < 400 || trim.SlowestGroup != "" {
		t.Errorf("the group without consumers keeps its events: trimmed %+v", trim)
	}
	if found := s.Redis.HGet(t.Context(), s.Keys.Groups(), group).Val(); found != longAgo {
		t.Errorf("the group was found at %s, and now at %s", longAgo, found)
	}
	s.Must(s.Redis.XGroupDestroy(t.Context(), key, group).Err())
	s.Trim()
	s.Must(s.Redis.XGroupCreate(t.Context(), key, group, "0").Err())
	s.Trim()
	results, err := s.Stores.Results.Status(t.Context())
	if s.Must(err); !results.Groups[0].Live || results.Groups[0].Idle > 3600 {
		t.Errorf("a group that was created again is not live: %+v", results.Groups[0])
	}
}

// A group that has acknowledged the dropped events, or is not live, loses nothing. No
// group loses the same events twice.
func TestTrim_NamesGroupsThatLoseEventsToTheCap(t *testing.T) {
	t.Parallel()
	s := newStream(t, 3000, results.Config{Age: aYear, Cap: 2000})
	key := s.Keys.Results()
	s.reads("once", 3000, 100)
	s.Must(s.Redis.XGroupCreate(t.Context(), key, "unread", "0").Err())
	s.Must(s.Redis.XGroupCreate(t.Context(), key, "dead", "0").Err())
	s.Must(s.Redis.HSet(t.Context(), s.Keys.Groups(), "dead", time.Now().Add(-results.GroupIdle-time.Hour).UnixMilli()).Err())
	before, err := s.Stores.Results.Status(t.Context())
	s.Must(err)
	if slowest, ok := before.Slowest(); !ok || slowest.Group != "unread" {
		t.Errorf("the slowest group is %+v", slowest)
	}
	trim := s.Trim()
	if slices.Sort(trim.LosingGroups); !slices.Equal(trim.LosingGroups, []string{"once", "unread"}) || trim.SlowestGroup == "dead" {
		t.Errorf("trimmed %+v", trim)
	}
	after, err := s.Stores.Results.Status(t.Context())
	s.Must(err)
	for _, g := range after.Groups {
		if g.Group == "once" && (g.Behind != 0 || g.Lag != 0) {
			t.Errorf("dropped events keep a group behind: %+v", g)
		}
		if g.Group == "unread" && g.Lag != after.Length {
			t.Errorf("the stream has %d events, the lag of unread is %d", after.Length, g.Lag)
		}
	}
	for i := range 1000 {
		s.Must(s.Redis.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: s.ID(3000 + i), Values: []string{"id", "new"}}).Err())
	}
	if trim := s.Trim(); trim.Dropped < 900 || !slices.Equal(trim.LosingGroups, []string{"unread"}) {
		t.Errorf("trimmed %+v the second time", trim)
	}
}

// A group is as idle as the consumer that read last, whichever it is.
func TestStatus_TakesTheIdleTimeOfTheLastActiveConsumer(t *testing.T) {
	t.Parallel()
	for _, consumer := range []string{"a", "z"} {
		s := newStream(t, 10, results.Config{Age: aYear, Cap: 100})
		key := s.Keys.Results()
		s.Must(s.Redis.XGroupCreate(t.Context(), key, "crm", "0").Err())
		read := func(consumer string) {
			s.Must(s.Redis.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "crm", Consumer: consumer, Streams: []string{key, ">"}, Count: 1}).Err())
		}
		read("a")
		read("z")
		leastIdle := func() time.Duration {
			of := s.Redis.XInfoConsumers(t.Context(), key, "crm").Val()
			return min(of[0].Idle, of[1].Idle)
		}
		for leastIdle() < 500*time.Millisecond { // Redis counts the idle time
			<-time.After(10 * time.Millisecond)
		}
		idle := leastIdle()
		read(consumer)
		results, err := s.Stores.Results.Status(t.Context())
		s.Must(err)
		if got := results.Groups[0].Idle; got >= idle.Seconds() {
			t.Errorf("consumer %s has just read, but the group is idle for %v s", consumer, got)
		}
	}
}

// reads is a hook that counts the entries of streams that commands read.
type reads struct{ entries *int }

func (reads) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r reads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.count(cmd)
		return err
	}
}

func (r reads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			r.count(cmd)
		}
		return err
	}
}

func (r reads) count(cmd redis.Cmder) {
	if entries, ok := cmd.(*redis.XMessageSliceCmd); ok {
		*r.entries += len(entries.Val())
	}
}

// After an event was deleted, Redis does not know the lag of a group. Trimming does not
// count the events to find it out.
func TestTrim_DoesNotCountTheLagOfGroups(t *testing.T) {
	t.Parallel()
	cfg := results.Config{Age: time.Hour, Cap: 100_000}
	s := newStream(t, 5000, cfg)
	s.reads("behind", 100, 0)
	s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), "slow", "0").Err())
	s.Must(s.Redis.XDel(t.Context(), s.Keys.Results(), s.ID(4000)).Err())
	if lag := s.Redis.XInfoGroups(t.Context(), s.Keys.Results()).Val()[0].Lag; lag > 0 {
		t.Fatalf("Redis reports a lag of %d, want none", lag)
	}
	entries := 0
	rdb := redis.NewClient(s.Redis.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(reads{&entries})
	trim, err := storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: s.Keys.Account}, Results: cfg}).Results.Trim(t.Context())
	if s.Must(err); entries > 10 || trim.SlowestGroup == "" || trim.Length != 4999 {
		t.Errorf("%d entries were read, want at most 10; trimmed %+v", entries, trim)
	}
	if trim := s.Trim(); trim.Aged != 0 {
		t.Errorf("events that no group has acknowledged were trimmed: %+v", trim)
	}
}
