package faceki

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// After a failover Redis' clock may be behind what was written before.
func TestRedisClockGoesBack(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	key := f.keys.Token(f.cfg.Fingerprint())
	later := time.Now().Add(24 * time.Hour).UnixMilli()
	for name, fields := range map[string][]any{
		"turn":  {"holder", "gone", "lease", later},
		"fault": {"fault", "{}", "retry", later, "asked", later},
	} {
		f.rdb.Del(t.Context(), key)
		f.rdb.HSet(t.Context(), key, fields...)
		if f := created(f.process(nil), attemptFor("A", request.Content{})); f != nil {
			t.Errorf("%s: %+v", name, f)
		}
	}
	tokens := NewTokens(f.rdb, f.keys, f.cfg)
	claim, err := tokens.Acquire(t.Context(), "x", time.Second)
	if err != nil || claim.Token == "" {
		t.Fatal(err)
	}
	f.rdb.HSet(t.Context(), key, "asked", later)
	if kept, err := tokens.Discard(t.Context(), claim.Token, spacing); kept || err != nil {
		t.Error("a token from the future stays for ever", err)
	}
}

// All stores answer the same; the embedded one is what runs where no Redis is.
func TestStores(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	embedded := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), DisableIdentity: true})
	t.Cleanup(func() { _ = embedded.Close() })
	for name, s := range map[string]Store{
		"localStore": &localStore{now: time.Now}, "shared": NewTokens(f.rdb, f.keys, f.cfg), "embedded": NewTokens(embedded, f.keys, f.cfg),
	} {
		ctx := t.Context()
		claim := func() TokenState {
			t.Helper()
			c, err := s.Acquire(ctx, "me", time.Minute)
			if c.ValidFor > time.Minute || (c.Token != "") != (c.ValidFor > 59*time.Second) {
				t.Errorf("%s: left %v", name, c.ValidFor)
			}
			c.ValidFor = 0
			if err != nil {
				t.Error(name, err)
			}
			return c
		}
		expect := func(want TokenState) {
			t.Helper()
			if got := claim(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v", name, got)
			}
		}
		drop := func(token Secret, spacing time.Duration, want bool) {
			t.Helper()
			if kept, err := s.Discard(ctx, token, spacing); kept != want || err != nil {
				t.Error(name, kept, err)
			}
		}
		accepted := func(token Secret) {
			if err := s.MarkAccepted(ctx, token); err != nil {
				t.Error(name, err)
			}
		}
		land := func(c TokenState) {
			if err := s.Release(ctx, "me", c); err != nil {
				t.Error(name, err)
			}
		}
		drop("t", 0, false)
		expect(TokenState{Refresh: true})
		land(TokenState{Token: "t", ValidFor: time.Minute})
		expect(TokenState{Token: "t"})
		drop("another", 0, false)
		drop("t", time.Minute, false) // another one is due in a minute
		if c := claim(); c.Token != "" || c.Refresh || c.NotBefore < 50*time.Second || c.NotBefore > time.Minute {
			t.Errorf("%s: %+v", name, c)
		}
		land(TokenState{Token: "u", ValidFor: time.Minute})
		accepted("t")
		drop("u", time.Minute, true) // it replaces one that was refused
		expect(TokenState{Token: "u"})
		accepted("u")
		drop("u", 0, false)
		drop("u", time.Minute, false)
		expect(TokenState{Refresh: true})
		land(TokenState{})
		expect(TokenState{Refresh: true})
		land(TokenState{Token: "v", ValidFor: time.Minute})
		drop("v", time.Minute, true)
		drop("v", 0, false)
		expect(TokenState{Refresh: true})
		refused := &fault.Fault{Kind: fault.Unauthorized, Detail: "access token: HTTP 401"}
		land(TokenState{Fault: refused, ValidFor: 40 * time.Second})
		if c := claim(); c.Token != "" || c.Fault == nil || *c.Fault != *refused || c.Fault == refused {
			t.Errorf("%s: %+v", name, c.Fault)
		}
	}
}

func TestStoreErrorsAreErrors(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	s := NewTokens(f.rdb, f.keys, f.cfg)
	f.srv.Stop()
	_, a := s.Acquire(t.Context(), "me", time.Second)
	b := s.Release(t.Context(), "me", TokenState{Token: "t0k3n", ValidFor: time.Second})
	_, c := s.Discard(t.Context(), "t0k3n", 0)
	d := s.MarkAccepted(t.Context(), "t0k3n")
	if text := errors.Join(a, b, c, d).Error(); a == nil || b == nil || c == nil || d == nil || strings.Contains(text, "t0k3n") {
		t.Error(a, b, c)
	}
}

// The clock goes back by minutes: a token has no more left than it had, and a fault that
// was to stand for seconds does not stand for minutes.
func TestNothingStandsLongerWhenRedisClockGoesBack(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m.SetTime(now)
	cfg := config()
	store := NewTokens(rdb, keyspace.Keys{Account: "back"}, cfg)
	claim := func() TokenState {
		t.Helper()
		c, err := store.Acquire(t.Context(), "me", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	land := func(c TokenState) {
		t.Helper()
		if err := store.Release(t.Context(), "me", c); err != nil {
			t.Fatal(err)
		}
	}
	if !claim().Refresh {
		t.Fatal("it is nobody's turn")
	}
	land(TokenState{Token: "invented", ValidFor: time.Hour})
	m.SetTime(now.Add(-5 * time.Minute))
	if c := claim(); c.Token != "invented" || c.ValidFor > time.Hour {
		t.Errorf("the token has %v left, of an hour", c.ValidFor)
	}
	if err := rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	m.SetTime(now)
	claim()
	land(TokenState{Fault: &fault.Fault{Kind: fault.TokenUnavailable}, ValidFor: 30 * time.Second})
	if claim().Fault == nil {
		t.Error("the fault does not stand")
	}
	m.SetTime(now.Add(-5 * time.Minute))
	if c := claim(); !c.Refresh {
		t.Errorf("a fault of before the clock went back stands: %+v", c)
	}
}
