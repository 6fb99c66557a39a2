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
	t.Run("core", func(t *testing.T) {
		core(t, func(t *testing.T, account string) place { return onCluster(t, cluster, account) }, false, false)
	})
	oneClock(t, cluster.Client(t), "files", "run", "signups")
	sim, faceki := upstream(t, `{"latency":"20ms"}`)
	workers := fleetOf(t, "cluster", cluster.URL, faceki)
	r := failover(t, workers, cluster.Client(t), sim, 900, func(ctx context.Context) error { return cluster.Failover(ctx, ledgerKey) })
	if most := r.Accepted / 20; r.Missing > most || r.Uncounted > most {
		t.Errorf("more was lost than what was under way: %+v", r)
	}
}

// oneClock checks that only the nodes with the ledger of an account were asked for the time,
// because the clocks of the nodes differ. The ledgers of these accounts are on two of three.
func oneClock(t *testing.T, rdb *redis.ClusterClient, accounts ...string) {
	t.Helper()
	ledgers := map[string]bool{}
	for _, account := range accounts {
		owner, err := rdb.MasterForKey(t.Context(), "{kyclink:"+account+"}")
		if err != nil {
			t.Fatal(err)
		}
		ledgers[owner.Options().Addr] = true
	}
	if len(ledgers) != 2 {
		t.Errorf("the accounts are on %d nodes, want 2 of 3", len(ledgers))
	}
	err := rdb.ForEachMaster(t.Context(), func(ctx context.Context, node *redis.Client) error {
		stats, err := node.Info(ctx, "commandstats").Result()
		if asked := strings.Contains(stats, "cmdstat_time:"); asked != ledgers[node.Options().Addr] {
			t.Errorf("%s was asked for the time: %v; ledgers are at %v", node.Options().Addr, asked, ledgers)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
