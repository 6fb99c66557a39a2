//go:build long

package main

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// lag is the time whose writes are lost. The failover itself, during which nothing can be
// written, takes another one or two seconds.
const lag = 300 * time.Millisecond

// A Redis that takes over without the last writes has lost requests and links. Each
// remaining request ends once, and nothing waits for a lost one.
func TestFailover_ReportsLostWrites(t *testing.T) {
	t.Parallel()
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		s := redistest.StartSentinel(t)
		losing(t, "sentinel", s.URL, s.Client(t), s.StopReplication, s.Failover)
	})
	for name, key := range map[string]string{
		"the ledger": ledgerKey, "the interactive lane": "asynq:{kyclink:default:interactive}", "the bulk lane": "asynq:{kyclink:default:bulk}",
	} {
		t.Run("cluster, "+name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartCluster(t)
			losing(t, "cluster", c.URL, c.Client(t),
				func(ctx context.Context) error { return c.StopReplication(ctx, key) },
				func(ctx context.Context) error { return c.Failover(ctx, key) })
		})
	}
}

func losing(t *testing.T, mode, url string, rdb redis.UniversalClient, part, fail func(context.Context) error) {
	t.Helper()
	sim, faceki := upstream(t, `{"latency":"20ms"}`)
	workers := fleetOf(t, mode, url, faceki)
	forgotten := 0 // links, at most: how long writes are lost depends on the machine
	r := failover(t, workers, rdb, sim, 900, func(ctx context.Context) error {
		recorded, err := rdb.XLen(ctx, resultsKey).Result()
		if err != nil {
			return err
		}
		if err := part(ctx); err != nil {
			return err
		}
		<-time.After(lag) // whose writes are to be lost
		err = fail(ctx)
		forgotten = sim.State().Links - int(recorded)
		return err
	})
	if r.Uncounted > forgotten {
		t.Errorf("more links were made twice than the %d that were forgotten: %+v", forgotten, r)
	}
}

// A Redis that is killed and restarted has all writes that it acknowledged. With
// everysec, only a crash of the machine loses the last second, because the operating
// system has the data that was written to the file.
func TestRedis_LosesNothingWhenKilled(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", fsync)
			sim, faceki := upstream(t, `{"latency":"20ms"}`)
			workers := fleetOf(t, "single", server.URL, faceki)
			r := failover(t, workers, server.Client(t), sim, 900, func(context.Context) error {
				server.Kill()
				return server.Relaunch()
			})
			if r.Missing != 0 || r.Uncounted != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}
