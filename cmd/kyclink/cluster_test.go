package main

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// ledgerKey is a key in the slot of the account's ledger.
const ledgerKey = "{kyclink:default}"

// It is not parallel: neighbours would delay the calls whose rate it measures.
func TestCluster_FailoverLosesLittle(t *testing.T) {
	cluster := redistest.StartCluster(t)
	sim, faceki := upstream(t, `{"latency":"20ms"}`)
	settings, workers := fleetOf(t, "cluster", cluster.URL, faceki)
	everyCommand(t, settings)
	oneClock(t, cluster.Client(t))
	r := failover(t, workers, cluster.Client(t), sim, 900, func(ctx context.Context) error { return cluster.Failover(ctx, ledgerKey) })
	if most := r.Accepted / 20; r.Missing > most || r.Uncounted > most {
		t.Errorf("more was lost than what was under way: %+v", r)
	}
}

// oneClock checks that only the node of the ledger was asked for the time, because the
// clocks of the nodes differ.
func oneClock(t *testing.T, rdb *redis.ClusterClient) {
	t.Helper()
	owner, err := rdb.MasterForKey(t.Context(), ledgerKey)
	if err != nil {
		t.Fatal(err)
	}
	err = rdb.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		stats, err := node.Info(ctx, "commandstats").Result()
		if asked := strings.Contains(stats, "cmdstat_time:"); asked != (node.Options().Addr == owner.Options().Addr) {
			t.Errorf("%s was asked for the time: %v; the ledger is at %s", node.Options().Addr, asked, owner.Options().Addr)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
