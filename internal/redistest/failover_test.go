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

// expectValue waits until an existing client reads the value, and writes it again.
func expectValue(t *testing.T, rdb redis.UniversalClient, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var got string
	var err error
	for got != want && ctx.Err() == nil {
		if got, err = rdb.Get(ctx, key).Result(); errors.Is(err, redis.Nil) {
			break
		}
	}
	if got != want { // the write had reached the replica long before the failover
		t.Fatalf("value of %s: got %q, error %v; want %q", key, got, err, want)
	}
	if err := rdb.Set(ctx, key, want, 0).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestSentinel_FailsOverAndBack(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, "--appendonly", "yes")
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	rdb := s.Client(t)
	fixture.Must(t, rdb.Set(ctx, "k", "v", 0).Err())
	fixture.Must(t, rdb.Do(ctx, "WAIT", 1, 0).Err())
	for range 2 {
		start := time.Now()
		fixture.Must(t, s.Failover(ctx))
		t.Logf("failover took %v", time.Since(start))
		expectValue(t, rdb, "k", "v")
		if err := s.Failover(ctx); err == nil {
			t.Error("Failover did not fail before the killed master rejoined")
		}
		fixture.Must(t, s.Rejoin(ctx))
	}
	expectValue(t, rdb, "k", "v")
	if err := s.Rejoin(ctx); err == nil {
		t.Error("Rejoin did not fail while no master was down")
	}
}

func TestCluster_FailsOverAndBack(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	rdb := c.Client(t)
	for _, key := range []string{"a", "b", "c"} { // on three nodes
		fixture.Must(t, rdb.Set(ctx, key, "v", 0).Err())
	}
	fixture.Must(t, rdb.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		if n := master.DBSize(ctx).Val(); n != 1 {
			t.Errorf("got %d keys on a node, want 1", n)
		}
		return master.Do(ctx, "WAIT", 1, 0).Err()
	}))
	for range 2 {
		start := time.Now()
		fixture.Must(t, c.Failover(ctx, "b"))
		t.Logf("failover took %v", time.Since(start))
		for _, key := range []string{"a", "b", "c"} {
			expectValue(t, rdb, key, "v")
		}
		if err := c.Failover(ctx, "b"); err == nil {
			t.Error("Failover did not fail before the killed node rejoined")
		}
		fixture.Must(t, c.Rejoin(ctx))
	}
	if err := c.Rejoin(ctx); err == nil {
		t.Error("Rejoin did not fail while no node was down")
	}
}

func TestFailover_LosesOnlyWritesAfterReplicationStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	s, c := redistest.StartSentinel(t), redistest.StartCluster(t)
	for name, of := range map[string]struct {
		rdb                       redis.UniversalClient
		stopReplication, failover func() error
	}{
		"sentinel": {s.Client(t), func() error { return s.StopReplication(ctx) }, func() error { return s.Failover(ctx) }},
		"cluster":  {c.Client(t), func() error { return c.StopReplication(ctx, "{k}") }, func() error { return c.Failover(ctx, "{k}") }},
	} {
		fixture.Must(t, of.rdb.Set(ctx, "{k}before", "v", 0).Err())
		fixture.Must(t, of.rdb.Do(ctx, "WAIT", 1, 0).Err())
		fixture.Must(t, of.stopReplication())
		fixture.Must(t, of.rdb.Set(ctx, "{k}after", "v", 0).Err())
		fixture.Must(t, of.failover())
		expectValue(t, of.rdb, "{k}before", "v")
		if n, err := of.rdb.Exists(ctx, "{k}after").Result(); n != 0 || err != nil {
			t.Errorf("%s: a write after replication stopped: got %d keys, error %v; want it lost", name, n, err)
		}
	}
}
