//go:build long

package main

import (
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// Three workers are stopped and started again in turn, twice, while they create links: each
// request has one link and one event, and none failed.
func TestWorkers_RestartInTurn(t *testing.T) {
	t.Parallel()
	const rows, restarts = 3000, 6
	server := newRedis(t)
	rdb := server.Client(t)
	sim, faceki := upstream(t, `{"latency":"50ms"}`)
	settings := []string{faceki, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=100/s", "FACEKI_BURST=5"}
	expect := expecter(t, settings)
	expect(0, "", "", "import", peopleFile(t, rows), "--batch", "spring")
	var workers []*process
	for range 3 {
		workers = append(workers, start(t, settings, "worker", "--simulate"))
	}
	for n := range restarts {
		due := rows * (n + 1) / (restarts + 1)
		fixture.Eventually(t, "the next restart is due", func() bool { return sim.State().Links >= due })
		w := &workers[n%len(workers)]
		(*w).signal(syscall.SIGTERM)
		if code := (*w).exit(); code != 0 {
			t.Errorf("a worker that was stopped exits with %d:\n%s", code, (*w).stderr.String())
		}
		*w = start(t, settings, "worker", "--simulate")
	}
	out := filepath.Join(t.TempDir(), "links.csv")
	expect(0, "done", "3,000 created", "batch", "watch", "spring")
	expect(0, "", "", "batch", "export", "spring", "-o", out)
	oneLinkEach(t, out, rows)
	if made := sim.State(); made.Links != rows || made.LinkCalls != rows {
		t.Errorf("%d calls and %d links for %d requests", made.LinkCalls, made.Links, rows)
	}
	if created := counted(t, rdb, "link.created"); !onceEach(created, rows) {
		t.Errorf("%d requests have an event, want %d with one each: %v", len(created), rows, created)
	}
	if failed := counted(t, rdb, "link.failed"); len(failed) != 0 {
		t.Errorf("failed: %v", failed)
	}
}
