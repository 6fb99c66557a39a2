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

func TestNothingIsTrimmedWhereNoAgeIsSet(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, results.Config{Cap: 100})
	if trim := s.Trim(); trim.Aged+trim.Dropped != 0 || s.first() != 0 {
		t.Errorf("%+v, the first is %d", trim, s.first())
	}
}

// One look takes off more than one command does.
func TestTrimmingKeepsUp(t *testing.T) {
	t.Parallel()
	s := newStream(t, 25_000, results.Config{Age: time.Hour, Cap: 100_000})
	if trim := s.Trim(); trim.Aged < 24_900 {
		t.Errorf("%+v", trim)
	}
}

// A group that has no consumer lives for as long as others since it was first met.
func TestAGroupThatNobodyReads(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, results.Config{Age: time.Hour, Cap: 10_000})
	key, group := s.Keys.Results(), "crm"
	s.Must(s.Redis.XGroupCreate(t.Context(), key, group, "0").Err())
	s.Trim()
	met := s.Redis.HGet(t.Context(), s.Keys.Groups(), group).Val()
	if met == "" || s.first() != 0 {
		t.Fatalf("met at %q, the first is %d", met, s.first())
	}
	longAgo := fmt.Sprint(time.Now().Add(-results.GroupIdle - time.Hour).UnixMilli())
	s.Must(s.Redis.HSet(t.Context(), s.Keys.Groups(), group, longAgo).Err())
	if trim := s.Trim(); trim.Aged < 400 || trim.Slowest != "" {
		t.Errorf("it keeps what nobody reads: %+v", trim)
	}
	if met := s.Redis.HGet(t.Context(), s.Keys.Groups(), group).Val(); met != longAgo {
		t.Errorf("it was met at %s, and now at %s", longAgo, met)
	}
	s.Must(s.Redis.XGroupDestroy(t.Context(), key, group).Err())
	s.Trim()
	s.Must(s.Redis.XGroupCreate(t.Context(), key, group, "0").Err())
	s.Trim()
	results, err := s.Stores.Results.Status(t.Context())
	if s.Must(err); !results.Groups[0].Live || results.Groups[0].Idle > 3600 {
		t.Errorf("a group that was created again is not: %+v", results.Groups[0])
	}
}

// Who had acknowledged what went, or is not alive, lost nothing; nor does anybody twice.
func TestWhoLosesByTheCap(t *testing.T) {
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
		t.Errorf("the slowest is %+v", slowest)
	}
	trim := s.Trim()
	if slices.Sort(trim.Lost); !slices.Equal(trim.Lost, []string{"once", "unread"}) || trim.Slowest == "dead" {
		t.Errorf("%+v", trim)
	}
	after, err := s.Stores.Results.Status(t.Context())
	s.Must(err)
	for _, g := range after.Groups {
		if g.Group == "once" && (g.Behind != 0 || g.Lag != 0) {
			t.Errorf("what went holds it back: %+v", g)
		}
		if g.Group == "unread" && g.Lag != after.Length {
			t.Errorf("of %d events it has not read %d", after.Length, g.Lag)
		}
	}
	for i := range 1000 {
		s.Must(s.Redis.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: s.ID(3000 + i), Values: []string{"id", "new"}}).Err())
	}
	if trim := s.Trim(); trim.Dropped < 900 || !slices.Equal(trim.Lost, []string{"unread"}) {
		t.Errorf("then %+v", trim)
	}
}

// A group is heard of when one of its consumers is, whichever.
func TestOneConsumerKeepsAGroup(t *testing.T) {
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
		silent := func() time.Duration {
			of := s.Redis.XInfoConsumers(t.Context(), key, "crm").Val()
			return min(of[0].Idle, of[1].Idle)
		}
		for silent() < 500*time.Millisecond { // as long as Redis takes, which counts it
			<-time.After(10 * time.Millisecond)
		}
		idle := silent()
		read(consumer)
		results, err := s.Stores.Results.Status(t.Context())
		s.Must(err)
		if got := results.Groups[0].Idle; got >= idle.Seconds() {
			t.Errorf("%s was heard of, the group %v s ago", consumer, got)
		}
	}
}

// reads counts the entries that commands read of streams.
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

// Redis does not know how far a group is behind an event that was erased. To trim is
// not to count that.
func TestTrimmingCountsNoEvents(t *testing.T) {
	t.Parallel()
	cfg := results.Config{Age: time.Hour, Cap: 100_000}
	s := newStream(t, 5000, cfg)
	s.reads("behind", 100, 0)
	s.Must(s.Redis.XGroupCreate(t.Context(), s.Keys.Results(), "slow", "0").Err())
	s.Must(s.Redis.XDel(t.Context(), s.Keys.Results(), s.ID(4000)).Err())
	if lag := s.Redis.XInfoGroups(t.Context(), s.Keys.Results()).Val()[0].Lag; lag > 0 {
		t.Fatalf("Redis says that the lag is %d", lag)
	}
	entries := 0
	rdb := redis.NewClient(s.Redis.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(reads{&entries})
	trim, err := storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: s.Keys.Account}, Results: cfg}).Results.TrimResults(t.Context())
	if s.Must(err); entries > 10 || trim.Slowest == "" || trim.Length != 4999 {
		t.Errorf("%d entries were read; %+v", entries, trim)
	}
	if trim := s.Trim(); trim.Aged != 0 {
		t.Errorf("trimmed what no group has acknowledged: %+v", trim)
	}
}
