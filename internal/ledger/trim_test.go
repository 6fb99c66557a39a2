package ledger_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/ledger"
)

const aYear = 24 * 365 * time.Hour

func TestNothingIsTrimmedWhereNoAgeIsSet(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, ledger.Config{ResultsCap: 100})
	if trim := s.trim(); trim.Aged+trim.Dropped != 0 || s.first() != 0 {
		t.Errorf("%+v, the first is %d", trim, s.first())
	}
}

// One look takes off more than one command does.
func TestTrimmingKeepsUp(t *testing.T) {
	t.Parallel()
	s := newStream(t, 25_000, ledger.Config{ResultsAge: time.Hour, ResultsCap: 100_000})
	if trim := s.trim(); trim.Aged < 24_900 {
		t.Errorf("%+v", trim)
	}
}

// A group that has no consumer lives for as long as others since it was first met.
func TestAGroupThatNobodyReads(t *testing.T) {
	t.Parallel()
	s := newStream(t, 500, ledger.Config{ResultsAge: time.Hour, ResultsCap: 10_000})
	key, group := s.keys.Results(), "crm"
	s.must(s.rdb.XGroupCreate(t.Context(), key, group, "0").Err())
	s.trim()
	met := s.rdb.HGet(t.Context(), s.keys.Groups(), group).Val()
	if met == "" || s.first() != 0 {
		t.Fatalf("met at %q, the first is %d", met, s.first())
	}
	longAgo := fmt.Sprint(time.Now().Add(-ledger.GroupIdle - time.Hour).UnixMilli())
	s.must(s.rdb.HSet(t.Context(), s.keys.Groups(), group, longAgo).Err())
	if trim := s.trim(); trim.Aged < 400 || trim.Slowest != "" {
		t.Errorf("it keeps what nobody reads: %+v", trim)
	}
	if met := s.rdb.HGet(t.Context(), s.keys.Groups(), group).Val(); met != longAgo {
		t.Errorf("it was met at %s, and now at %s", longAgo, met)
	}
	s.must(s.rdb.XGroupDestroy(t.Context(), key, group).Err())
	s.trim()
	s.must(s.rdb.XGroupCreate(t.Context(), key, group, "0").Err())
	s.trim()
	results, err := s.ledger.Results(t.Context())
	if s.must(err); !results.Groups[0].Live || results.Groups[0].Idle > 3600 {
		t.Errorf("one that was made anew is not: %+v", results.Groups[0])
	}
}

// Who had acknowledged what went, or is not alive, lost nothing; nor does anybody twice.
func TestWhoLosesByTheCap(t *testing.T) {
	t.Parallel()
	s := newStream(t, 3000, ledger.Config{ResultsAge: aYear, ResultsCap: 2000})
	key := s.keys.Results()
	s.reads("once", 3000, 100)
	s.must(s.rdb.XGroupCreate(t.Context(), key, "unread", "0").Err())
	s.must(s.rdb.XGroupCreate(t.Context(), key, "dead", "0").Err())
	s.must(s.rdb.HSet(t.Context(), s.keys.Groups(), "dead", time.Now().Add(-ledger.GroupIdle-time.Hour).UnixMilli()).Err())
	before, err := s.ledger.Results(t.Context())
	s.must(err)
	if slowest, ok := before.Slowest(); !ok || slowest.Group != "unread" {
		t.Errorf("the slowest is %+v", slowest)
	}
	trim := s.trim()
	if slices.Sort(trim.Lost); !slices.Equal(trim.Lost, []string{"once", "unread"}) || trim.Slowest == "dead" {
		t.Errorf("%+v", trim)
	}
	after, err := s.ledger.Results(t.Context())
	s.must(err)
	for _, g := range after.Groups {
		if g.Group == "once" && (g.Behind != 0 || g.Lag != 0) {
			t.Errorf("what went holds it back: %+v", g)
		}
		if g.Group == "unread" && g.Lag != after.Length {
			t.Errorf("of %d events it has not read %d", after.Length, g.Lag)
		}
	}
	for i := range 1000 {
		s.must(s.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: key, ID: s.id(3000 + i), Values: []string{"id", "new"}}).Err())
	}
	if trim := s.trim(); trim.Dropped < 900 || !slices.Equal(trim.Lost, []string{"unread"}) {
		t.Errorf("then %+v", trim)
	}
}

// A group is heard of when one of its consumers is, whichever.
func TestOneConsumerKeepsAGroup(t *testing.T) {
	t.Parallel()
	for _, consumer := range []string{"a", "z"} {
		s := newStream(t, 10, ledger.Config{ResultsAge: aYear, ResultsCap: 100})
		key := s.keys.Results()
		s.must(s.rdb.XGroupCreate(t.Context(), key, "crm", "0").Err())
		read := func(consumer string) {
			s.must(s.rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "crm", Consumer: consumer, Streams: []string{key, ">"}, Count: 1}).Err())
		}
		read("a")
		read("z")
		silent := func() time.Duration {
			of := s.rdb.XInfoConsumers(t.Context(), key, "crm").Val()
			return min(of[0].Idle, of[1].Idle)
		}
		for silent() < 500*time.Millisecond { // as long as Redis takes, which counts it
			<-time.After(10 * time.Millisecond)
		}
		idle := silent()
		read(consumer)
		results, err := s.ledger.Results(t.Context())
		s.must(err)
		if got := results.Groups[0].Idle; got >= idle.Seconds() {
			t.Errorf("%s was heard of, the group %v s ago", consumer, got)
		}
	}
}
