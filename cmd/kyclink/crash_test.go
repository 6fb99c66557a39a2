package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// Another worker soon gets the requests of a killed worker: by kyclink's recovery. asynq alone
// would recover them after one to two minutes.
func TestWorker_RecoversRequestsOfAKilledWorkerSoon(t *testing.T) {
	t.Parallel()
	// On a slow machine the calls begin long after one another, and none must time out before.
	const longCalls = "FACEKI_TIMEOUT=1m"
	for name, c := range map[string]struct {
		settings []string
		calling  int  // calls in flight at the kill, of 40, at least, unless the gate closes before; the other requests wait in their handlers
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
				// The task of a bundle ends when its calls are sent.
				taken := c.calling == 40 || rdb.LLen(t.Context(), "asynq:{kyclink:default:bulk}:active").Val() == 40
				closed := rdb.HGet(t.Context(), "{kyclink:default}:gate", "state").Val() == "closed" // on a slow machine
				return taken && (sim.State().InFlight >= c.calling || closed)
			})
			calling := min(sim.State().InFlight, c.calling)
			if c.lives {
				start(t, settings, "worker", "--simulate")
				fixture.Eventually(t, "another worker is running", func() bool { return rdb.ZCard(t.Context(), "{kyclink:default}:workers").Val() == 2 })
			}
			killed.kill()
			begun := time.Now() // for the log
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
			t.Logf("all have their links after %s", time.Since(begun).Round(100*time.Millisecond))
			fixture.Eventually(t, "the recovery has counted its repairs", func() bool { return repaired(t, rdb) > 0 })
			uncertain := 0
			for _, l := range all() {
				uncertain += l.PossibleDuplicates
			}
			if links := sim.State().Links; uncertain > hung || uncertain < calling/2 || links > 40+uncertain {
				t.Errorf("%d uncertain outcomes of %d hanging calls, %d links for 40 requests", uncertain, hung, links)
			}
			fixture.Eventually(t, "no task is left", func() bool { return len(rdb.Keys(t.Context(), "asynq:{*}:t:*").Val()) == 0 })
			if n := rdb.ZCard(t.Context(), "{kyclink:default}:calls").Val(); n != 0 {
				t.Errorf("%d calls are still recorded as in flight", n)
			}
		})
	}
}

// repaired returns how much the recovery of the workers has repaired.
func repaired(t testing.TB, rdb *redis.Client) (total int) {
	t.Helper()
	for name, value := range rdb.HGetAll(t.Context(), "{kyclink:default}:account").Val() {
		if strings.HasPrefix(name, "mended:") {
			n, err := strconv.Atoi(value)
			fixture.Must(t, err)
			total += n
		}
	}
	return total
}

// While the gate is closed, all requests wait for the end of the probe. If its process is
// killed, the others go on as soon as its death is known: they do not wait for the next turn
// of the probe's request, which waits behind theirs.
func TestWorker_ProbesInPlaceOfAKilledOne(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"http_503"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=2000/s", "FACEKI_TIMEOUT=1m", "KYCLINK_CONCURRENCY=20"}
	workers := map[string]*process{}
	for n := range int64(2) {
		w := start(t, settings, "worker", "--simulate")
		fixture.Eventually(t, "the worker is running", func() bool { return rdb.ZCard(t.Context(), "{kyclink:default}:workers").Val() == n+1 })
		for _, number := range rdb.ZRange(t.Context(), "{kyclink:default}:workers", 0, -1).Val() {
			if workers[number] == nil {
				workers[number] = w
			}
		}
	}
	client := enqueue(t, rdb, 300)
	gate := func(field string) string { return rdb.HGet(t.Context(), "{kyclink:default}:gate", field).Val() }
	// A call that was granted before the gate closed may arrive late, and must not hang.
	fixture.Eventually(t, "the gate is closed, and no other call is in flight", func() bool {
		return gate("state") == "closed" && rdb.ZCard(t.Context(), "{kyclink:default}:calls").Val() == 0
	})
	change := func(text string) {
		script, err := simulator.ParseScript([]byte(text))
		fixture.Must(t, err)
		fixture.Must(t, sim.SetScript(script))
	}
	change(`{"rules":[{"match":"*","fault":"hang"}]}`)
	fixture.Eventually(t, "the probe hangs", func() bool { return sim.State().Faults["hang"] == 1 })
	prober, awaited := gate("prober"), gate("by") // until when its answer is awaited
	if workers[prober] == nil {
		t.Fatalf("the prober is the process %q, want one of %v", prober, slices.Collect(maps.Keys(workers)))
	}
	workers[prober].kill()
	change(`{}`)
	fixture.Eventually(t, "the probe of the killed worker is abandoned", func() bool { return gate("prober") != prober })
	by, err := strconv.ParseInt(awaited, 10, 64)
	fixture.Must(t, err)
	if now := rdb.Time(t.Context()).Val(); now.UnixMilli() >= by {
		t.Errorf("it was abandoned at %v, when its answer was not awaited any more", now)
	}
	fixture.Eventually(t, "all have their links", func() bool { return allCreated(links(t, client, 300)) })
}
