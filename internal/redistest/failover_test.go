package redistest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// keeps says that what was written before is there, and that a client that was
// there before can write.
func keeps(t *testing.T, rdb redis.UniversalClient, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var got string
	var err error
	for got != want && ctx.Err() == nil {
		if got, err = rdb.Get(ctx, key).Result(); errors.Is(err, redis.Nil) {
			break
		}
	}
	if got != want { // the one write at a quiet time has long reached the replica
		t.Fatalf("%s: %q, %v; want %q", key, got, err, want)
	}
	if err := rdb.Set(ctx, key, want, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestSentinel_FailsOverAndBack(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, "--appendonly", "yes")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rdb := s.Client(t)
	fixture.Must(t, rdb.Set(ctx, "k", "v", 0).Err())
	fixture.Must(t, rdb.Do(ctx, "WAIT", 1, 0).Err())
	for range 2 {
		begun := time.Now()
		fixture.Must(t, s.Failover(ctx))
		t.Logf("failover took %v", time.Since(begun))
		keeps(t, rdb, "k", "v")
		if err := s.Failover(ctx); err == nil {
			t.Error("a second master was killed before the first came back")
		}
		fixture.Must(t, s.Return(ctx))
	}
	keeps(t, rdb, "k", "v")
	if err := s.Return(ctx); err == nil {
		t.Error("a master returned that was not gone")
	}
}

func TestCluster_FailsOverAndBack(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	rdb := c.Client(t)
	for _, key := range []string{"a", "b", "c"} { // in three nodes
		fixture.Must(t, rdb.Set(ctx, key, "v", 0).Err())
	}
	fixture.Must(t, rdb.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		if n := master.DBSize(ctx).Val(); n != 1 {
			t.Errorf("%d keys in a node", n)
		}
		return master.Do(ctx, "WAIT", 1, 0).Err()
	}))
	for range 2 {
		begun := time.Now()
		fixture.Must(t, c.Failover(ctx, "b"))
		t.Logf("failover took %v", time.Since(begun))
		for _, key := range []string{"a", "b", "c"} {
			keeps(t, rdb, key, "v")
		}
		if err := c.Failover(ctx, "b"); err == nil {
			t.Error("a second node was killed before the first came back")
		}
		fixture.Must(t, c.Return(ctx))
	}
	if err := c.Return(ctx); err == nil {
		t.Error("a node returned that was not gone")
	}
}

// What is written after the replica was parted is lost, and nothing else.
func TestPart_LosesOnlyLaterWrites(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, c := redistest.StartSentinel(t), redistest.StartCluster(t)
	for name, of := range map[string]struct {
		rdb            redis.UniversalClient
		part, failover func() error
	}{
		"sentinel": {s.Client(t), func() error { return s.Part(ctx) }, func() error { return s.Failover(ctx) }},
		"cluster":  {c.Client(t), func() error { return c.Part(ctx, "{k}") }, func() error { return c.Failover(ctx, "{k}") }},
	} {
		fixture.Must(t, of.rdb.Set(ctx, "{k}before", "v", 0).Err())
		fixture.Must(t, of.rdb.Do(ctx, "WAIT", 1, 0).Err())
		fixture.Must(t, of.part())
		fixture.Must(t, of.rdb.Set(ctx, "{k}after", "v", 0).Err())
		fixture.Must(t, of.failover())
		keeps(t, of.rdb, "{k}before", "v")
		if n, err := of.rdb.Exists(ctx, "{k}after").Result(); n != 0 || err != nil {
			t.Errorf("%s: what was written after the parting is there (%v)", name, err)
		}
	}
}
