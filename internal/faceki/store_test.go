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

// TestTokens_IgnoreTimesAheadOfRedisClock tests times that were written before a failover to
// a server whose clock is behind.
func TestTokens_IgnoreTimesAheadOfRedisClock(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	key := f.keys.Token(f.cfg.Fingerprint())
	ahead := time.Now().Add(24 * time.Hour).UnixMilli()
	for name, fields := range map[string][]any{
		"lease": {"holder", "gone", "lease", ahead},
		"fault": {"fault", "{}", "retry", ahead, "asked", ahead},
	} {
		f.rdb.Del(t.Context(), key)
		f.rdb.HSet(t.Context(), key, fields...)
		if f := createFault(f.client(nil), attemptFor("A", request.Content{})); f != nil {
			t.Errorf("with a %s ahead: %+v", name, f)
		}
	}
	tokens := NewTokens(f.rdb, f.keys, f.cfg)
	state, err := tokens.Acquire(t.Context(), "x", time.Second)
	if err != nil || state.Token == "" {
		t.Fatalf("Acquire = %+v, %v; want a token", state, err)
	}
	f.rdb.HSet(t.Context(), key, "asked", ahead)
	if kept, err := tokens.Discard(t.Context(), state.Token, spacing); kept || err != nil {
		t.Errorf("Discard of a token from the future = %v, %v; want false", kept, err)
	}
}

// TestStore_BehavesAlikeInAllImplementations includes the embedded Redis, which runs where no
// server is configured.
func TestStore_BehavesAlikeInAllImplementations(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	embedded := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), DisableIdentity: true})
	t.Cleanup(func() { _ = embedded.Close() })
	for name, s := range map[string]Store{
		"local": &localStore{now: time.Now}, "Redis": NewTokens(f.rdb, f.keys, f.cfg), "embedded Redis": NewTokens(embedded, f.keys, f.cfg),
	} {
		ctx := t.Context()
		acquire := func() TokenState {
			t.Helper()
			c, err := s.Acquire(ctx, "me", time.Minute)
			if c.ValidFor > time.Minute || (c.Token != "") != (c.ValidFor > 45*time.Second) {
				t.Errorf("%s: the token is valid for %v, want nearly a minute", name, c.ValidFor)
			}
			c.ValidFor = 0
			if err != nil {
				t.Errorf("%s: Acquire: %v", name, err)
			}
			return c
		}
		expect := func(want TokenState) {
			t.Helper()
			if got := acquire(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: Acquire = %+v, want %+v", name, got, want)
			}
		}
		discard := func(token Secret, spacing time.Duration, want bool) {
			t.Helper()
			if kept, err := s.Discard(ctx, token, spacing); kept != want || err != nil {
				t.Errorf("%s: Discard = %v, %v; want %v", name, kept, err, want)
			}
		}
		markAccepted := func(token Secret) {
			if err := s.MarkAccepted(ctx, token); err != nil {
				t.Errorf("%s: MarkAccepted: %v", name, err)
			}
		}
		release := func(c TokenState) {
			if err := s.Release(ctx, "me", c); err != nil {
				t.Errorf("%s: Release: %v", name, err)
			}
		}
		discard("t", 0, false)
		expect(TokenState{Refresh: true})
		release(TokenState{Token: "t", ValidFor: time.Minute})
		expect(TokenState{Token: "t"})
		discard("another", 0, false)
		discard("t", time.Minute, false) // the next token may be requested in a minute
		if c := acquire(); c.Token != "" || c.Refresh || c.NotBefore < 50*time.Second || c.NotBefore > time.Minute {
			t.Errorf("%s: Acquire = %+v, want a pause of nearly a minute", name, c)
		}
		release(TokenState{Token: "u", ValidFor: time.Minute})
		markAccepted("t")
		discard("u", time.Minute, true) // kept: it replaced a refused token
		expect(TokenState{Token: "u"})
		markAccepted("u")
		discard("u", 0, false)
		discard("u", time.Minute, false)
		expect(TokenState{Refresh: true})
		release(TokenState{})
		expect(TokenState{Refresh: true})
		release(TokenState{Token: "v", ValidFor: time.Minute})
		discard("v", time.Minute, true)
		discard("v", 0, false)
		expect(TokenState{Refresh: true})
		refused := &fault.Fault{Kind: fault.Unauthorized, Detail: "access token: HTTP 401"}
		release(TokenState{Fault: refused, ValidFor: 40 * time.Second})
		if c := acquire(); c.Token != "" || c.Fault == nil || *c.Fault != *refused || c.Fault == refused {
			t.Errorf("%s: Acquire = %+v, want a copy of the fault", name, c)
		}
	}
}

func TestTokens_ReturnErrorsWithoutRedis(t *testing.T) {
	f := newFleet(t, simulator.Config{})
	s := NewTokens(f.rdb, f.keys, f.cfg)
	f.srv.Stop()
	_, a := s.Acquire(t.Context(), "me", time.Second)
	b := s.Release(t.Context(), "me", TokenState{Token: "t0k3n", ValidFor: time.Second})
	_, c := s.Discard(t.Context(), "t0k3n", 0)
	d := s.MarkAccepted(t.Context(), "t0k3n")
	if text := errors.Join(a, b, c, d).Error(); a == nil || b == nil || c == nil || d == nil || strings.Contains(text, "t0k3n") {
		t.Errorf("errors %v, %v, %v, %v; want four without the token", a, b, c, d)
	}
}

// TestTokens_AreNotValidForLongerAfterRedisClockWentBack also checks that a stored fault is
// not reused for longer.
func TestTokens_AreNotValidForLongerAfterRedisClockWentBack(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	m.SetTime(now)
	cfg := config()
	store := NewTokens(rdb, keyspace.Keys{Account: "back"}, cfg)
	acquire := func() TokenState {
		t.Helper()
		c, err := store.Acquire(t.Context(), "me", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	release := func(c TokenState) {
		t.Helper()
		if err := store.Release(t.Context(), "me", c); err != nil {
			t.Fatal(err)
		}
	}
	if !acquire().Refresh {
		t.Fatal("the process does not get the lease")
	}
	release(TokenState{Token: "invented", ValidFor: time.Hour})
	m.SetTime(now.Add(-5 * time.Minute))
	if c := acquire(); c.Token != "invented" || c.ValidFor > time.Hour {
		t.Errorf("the token is valid for %v, want at most an hour", c.ValidFor)
	}
	if err := rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	m.SetTime(now)
	acquire()
	release(TokenState{Fault: &fault.Fault{Kind: fault.TokenUnavailable}, ValidFor: 30 * time.Second})
	if acquire().Fault == nil {
		t.Error("the fault is not reused")
	}
	m.SetTime(now.Add(-5 * time.Minute))
	if c := acquire(); !c.Refresh {
		t.Errorf("Acquire = %+v after the clock went back, want a refresh instead of the fault", c)
	}
}
