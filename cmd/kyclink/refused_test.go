package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// run stops after a series of refused rows, prints FaceKi's answer, and continues when it
// is run again.
func TestRun_StopsWhenItsRowsAreRefused(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	for name, settings := range map[string][]string{"embedded": nil, "shared": {"KYCLINK_REDIS_URL=" + server.URL}} {
		t.Run(name, func(t *testing.T) {
			sim, setting := upstream(t, `{"rules":[{"match":"P-*","fault":"code_5002"}]}`)
			settings := append(settings, setting)
			dir := t.TempDir()
			in, out := write(t, filepath.Join(dir, "in.csv"), people(300)), filepath.Join(dir, "links.csv")
			code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate")
			for _, want := range []string{"20 of its calls in a row were refused as wrong", "code 5002", "run the same command again", "SIMULATED"} {
				if code != 1 || !strings.Contains(lastLine(stderr), want) || strings.Contains(stderr, "batch resume") {
					t.Fatalf("exit code %d, without %q:\n%s", code, want, stderr)
				}
			}
			counts := map[string]int{}
			for _, row := range table(t, out) {
				counts[row["status"]]++
			}
			if calls := sim.State().LinkCalls; counts["failed"] < batch.MaxRefused || counts["failed"] != calls || counts["failed"]+counts["waiting"]+counts["queued"] != 300 {
				t.Errorf("%v after %d calls", counts, calls)
			}
			script := sim.Script()
			script.Rules = nil
			if err := sim.SetScript(script); err != nil {
				t.Fatal(err)
			}
			code, _, stderr = kyclink(t, settings, "run", in, "-o", out, "--simulate", "--retry-failed")
			if code != 0 || !strings.Contains(lastLine(stderr), "300 created") {
				t.Errorf("corrected: exit code %d:\n%s", code, stderr)
			}
		})
	}
}

// Workers pause the batch, every view of it shows the reason, and other batches continue.
func TestWorkers_PauseABatchWhoseRowsAreRefused(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"spring-*","fault":"code_5002"}]}`)
	// Few calls are made at once, so that some rows are still waiting when the batch is
	// paused.
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_CONCURRENCY=8"}
	expect := expecter(t, settings)
	importBatch(t, rdb, "spring", 120)
	importBatch(t, rdb, "autumn", 50)
	worker := start(t, settings, "worker", "--simulate")
	expect(0, "created", `batch "autumn" is done`, "batch", "watch", "autumn")
	fixture.Eventually(t, "spring is paused", func() bool { return batchOf(t, rdb, "spring").Status == batch.Paused })
	if b := statusOf(t, settings, "spring"); b.Reason != "rows_refused" || !strings.Contains(b.Message, "5002") {
		t.Errorf("%+v", b)
	}
	expect(0, "paused (rows_refused)", "", "batch", "list")
	expect(0, "20 of its calls in a row were refused as wrong, the last one with: FaceKi refused this request as invalid", "", "batch", "status", "spring")
	client, waiting := tasks.NewClient(rdb, tasks.Config{}), ""
	fixture.Eventually(t, "a row waits", func() bool {
		for n := 120; n > 0 && waiting == ""; n-- {
			id := fmt.Sprintf("spring-%05d", n)
			link, err := client.Get(t.Context(), id)
			fixture.Must(t, err)
			if link.Status == tasks.Waiting {
				waiting = id
			}
		}
		return waiting != ""
	})
	expect(0, `"status":"waiting"`, "", "show", waiting, "--json")
	expect(0, "refused as wrong", "", "show", waiting)
	fixture.Eventually(t, "the worker logs it", func() bool { return strings.Contains(worker.stderr.String(), "batch paused") })

	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	fixture.Eventually(t, "what was being called has ended", func() bool { return batchOf(t, rdb, "spring").Counts[request.Calling] == 0 })
	expect(0, `batch "spring" is running`, "", "batch", "resume", "spring")
	expect(2, "", `batch "spring" is done`, "batch", "watch", "spring")
	expect(0, "", "retried", "batch", "retry", "spring")
	expect(0, "", "120 created", "batch", "watch", "spring")
}
