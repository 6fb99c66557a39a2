package activity

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// count adds to a counter.
func count(c *Counter, links int, faults ...fault.Reason) {
	for range links {
		c.Created()
	}
	for _, reason := range faults {
		c.Failed(reason)
	}
}

func hour(t *testing.T, s *Store) Hour {
	t.Helper()
	h, err := s.Hour(t.Context())
	fixture.Must(t, err)
	if len(h.Minutes) != minutes {
		t.Fatalf("got %d minutes, want %d", len(h.Minutes), minutes)
	}
	for i, m := range h.Minutes {
		want := h.At.Truncate(time.Minute).Add(time.Duration(i-minutes+1) * time.Minute)
		if !m.At.Equal(want) {
			t.Fatalf("minute %d begins at %s, want %s", i, m.At, want)
		}
	}
	return h
}

// sum adds up all minutes.
func sum(h Hour) (links int, faults map[fault.Reason]int) {
	faults = map[fault.Reason]int{}
	for _, m := range h.Minutes {
		links += m.Created
		for reason, n := range m.Faults {
			faults[reason] += n
		}
	}
	return links, faults
}

func expectSum(t *testing.T, h Hour, links int, faults map[fault.Reason]int) {
	t.Helper()
	gotLinks, gotFaults := sum(h)
	if gotLinks != links || !maps.Equal(gotFaults, faults) {
		t.Errorf("got %d links and faults %v, want %d and %v", gotLinks, gotFaults, links, faults)
	}
}

func TestStore_AddsUpTheCountsOfAllProcesses(t *testing.T) {
	t.Parallel()
	a := fixture.NewAccount(t)
	var one, two Counter
	s := NewStore(a.Redis, a.Keys)
	fixture.Must(t, s.Flush(t.Context(), &one)) // nothing
	if n := a.Redis.Exists(t.Context(), a.Keys.Activity(time.Now().Unix()/60)).Val(); n != 0 {
		t.Error("a flush of nothing created a key")
	}
	count(&one, 2, fault.Timeout)
	count(&two, 3, fault.Timeout, fault.Throttled)
	for range 2 { // what was flushed is not counted again
		fixture.Must(t, s.Flush(t.Context(), &one))
		fixture.Must(t, NewStore(a.Redis, a.Keys).Flush(t.Context(), &two))
	}
	count(&one, 1)
	fixture.Must(t, s.Flush(t.Context(), &one))
	expectSum(t, hour(t, s), 6, map[fault.Reason]int{fault.Timeout: 2, fault.Throttled: 1})
}

func TestFlush_KeepsWhatItCouldNotWrite(t *testing.T) {
	t.Parallel()
	a := fixture.NewAccount(t)
	var c Counter
	s := NewStore(a.Redis, a.Keys)
	count(&c, 2, fault.Timeout)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Flush(ended, &c); err == nil {
		t.Fatal("a flush with a context that has ended succeeds")
	}
	count(&c, 1)
	fixture.Must(t, s.Flush(t.Context(), &c))
	expectSum(t, hour(t, s), 3, map[fault.Reason]int{fault.Timeout: 1})
}

func TestMinutes_ExpireAndHaveFewFields(t *testing.T) {
	t.Parallel()
	a := fixture.NewAccount(t)
	var c Counter
	s := NewStore(a.Redis, a.Keys)
	for _, k := range fault.Kinds() {
		count(&c, 1, (&fault.Fault{Kind: k}).Reason())
	}
	fixture.Must(t, s.Flush(t.Context(), &c))
	keys, err := a.Redis.Keys(t.Context(), a.Keys.Tag()+":activity:*").Result()
	fixture.Must(t, err)
	if len(keys) != 1 {
		t.Fatalf("got keys %q, want one", keys)
	}
	if ttl := a.Redis.TTL(t.Context(), keys[0]).Val(); ttl <= time.Hour || ttl > keep {
		t.Errorf("a minute expires in %s, want between an hour and %s", ttl, keep)
	}
	if n := a.Redis.HLen(t.Context(), keys[0]).Val(); n > 20 {
		t.Errorf("a minute with all faults has %d fields", n)
	}
}

// Minutes are those of Redis' clock, whose steps lose nothing.
func TestHour_FollowsTheClockOfRedis(t *testing.T) {
	t.Parallel()
	server, clock := redistest.StartWithClock(t)
	a := fixture.NewAccountOn(t, server)
	s := NewStore(a.Redis, a.Keys)
	var c Counter
	at := func(shift time.Duration, links int) Hour {
		t.Helper()
		fixture.Must(t, clock.Set(shift))
		count(&c, links)
		fixture.Must(t, s.Flush(t.Context(), &c))
		return hour(t, s)
	}
	first := at(0, 1)
	half := at(30*time.Minute, 10)
	if got := half.At.Sub(first.At); got < 30*time.Minute {
		t.Errorf("the present is %s later, want at least 30m", got)
	}
	expectSum(t, half, 11, map[fault.Reason]int{})
	if half.Minutes[minutes-1].Created+half.Minutes[minutes-2].Created != 10 {
		t.Errorf("the last minutes are %+v, want 10 links", half.Minutes[minutes-2:])
	}
	expectSum(t, at(70*time.Minute, 0), 10, map[fault.Reason]int{})
	expectSum(t, at(5*time.Hour, 0), 0, map[fault.Reason]int{})
}
