package main

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// Another worker soon gets the requests of a killed worker. asynq alone would recover
// them after one to two minutes.
func TestWorker_RecoversRequestsOfAKilledWorkerSoon(t *testing.T) {
	t.Parallel()
	// On a slow machine the calls begin long after one another, and none must time out before.
	const longCalls = "FACEKI_TIMEOUT=1m"
	for name, c := range map[string]struct {
		settings []string
		calling  int  // calls in flight at the kill, of 40, at least; the other requests wait in their handlers
		lives    bool // another worker runs all the time; otherwise one is started after the kill
	}{
		"calls under way":                     {[]string{"FACEKI_RATE=2000/s", "KYCLINK_CONCURRENCY=40", longCalls}, 40, false},
		"calls under way, another lives":      {[]string{"FACEKI_RATE=2000/s", "KYCLINK_CONCURRENCY=40", longCalls}, 40, true},
		"waiting for the rate":                {[]string{"FACEKI_RATE=1/s", "FACEKI_BURST=4", "KYCLINK_CONCURRENCY=40"}, 4, false},
		"waiting for the rate, another lives": {[]string{"FACEKI_RATE=1/s", "FACEKI_BURST=4", "KYCLINK_CONCURRENCY=40"}, 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newRedis(t)
			sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"hang"}]}`)
			settings := append([]string{setting, "KYCLINK_REDIS_URL=" + server.URL}, c.settings...)
			rdb := server.Client(t)
			client := enqueue(t, rdb, 40)
			killed := start(t, settings, "worker", "--simulate")
			fixture.Eventually(t, "all have a handler", func() bool {
				return sim.State().InFlight >= c.calling && rdb.LLen(t.Context(), "asynq:{kyclink:default:bulk}:active").Val() == 40
			})
			if c.lives {
				start(t, settings, "worker", "--simulate")
				fixture.Eventually(t, "another worker is running", func() bool { return rdb.ZCard(t.Context(), "{kyclink:default}:workers").Val() == 2 })
			}
			killed.kill()
			begun := time.Now()
			script := sim.Script()
			script.Rules = nil
			if err := sim.SetScript(script); err != nil {
				t.Fatal(err)
			}
			hung := sim.State().LinkCalls // more than calling if the machine was slow
			if c.lives {
				if code, _, stderr := kyclink(t, settings, "account", "rate", "2000/s"); code != 0 {
					t.Fatal(stderr)
				}
			} else {
				start(t, append(settings, "FACEKI_RATE=2000/s", "FACEKI_BURST=200"), "worker", "--simulate")
			}
			all := func() []tasks.Link { return links(t, client, 40) }
			fixture.Eventually(t, "all have their links", func() bool { return allCreated(all()) })
			took := time.Since(begun)
			t.Logf("all have their links after %s", took.Round(100*time.Millisecond))
			if took > 35*time.Second {
				t.Errorf("it took %s", took)
			}
			uncertain := 0
			for _, l := range all() {
				uncertain += l.PossibleDuplicates
			}
			if links := sim.State().Links; uncertain > hung || uncertain < c.calling/2 || links > 40+uncertain {
				t.Errorf("%d uncertain outcomes of %d hanging calls, %d links for 40 requests", uncertain, hung, links)
			}
			fixture.Eventually(t, "no task is left", func() bool { return len(rdb.Keys(t.Context(), "asynq:{*}:t:*").Val()) == 0 })
			if n := rdb.ZCard(t.Context(), "{kyclink:default}:calls").Val(); n != 0 {
				t.Errorf("%d calls are still recorded as in flight", n)
			}
		})
	}
}
