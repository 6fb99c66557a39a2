package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
)

// journaled returns the last state of each ID in a journal.
func journaled(t testing.TB, out string) map[string]string {
	t.Helper()
	states := map[string]string{}
	scan := bufio.NewScanner(strings.NewReader(read(t, out+".journal")))
	for scan.Scan() {
		var line struct {
			Record struct {
				ApplicationID string `json:"application_id"`
				State         string `json:"state"`
			} `json:"record"`
		}
		if json.Unmarshal(scan.Bytes(), &line) == nil && line.Record.ApplicationID != "" {
			states[line.Record.ApplicationID] = line.Record.State
		}
	}
	return states
}

func TestRun_ContinuesAfterKill9(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"latency":"30ms","jitter":"20ms","rules":[{"match":"P-0039","fault":"hang"}]}`)
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(400)), filepath.Join(dir, "links.csv")
	p := start(t, []string{setting}, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "a third is done, and a call hangs", func() bool { return sim.State().Links > 130 && sim.Application("P-0039").Calls > 0 })
	p.kill()
	script := sim.Script()
	script.Rules = nil
	fixture.Must(t, sim.SetScript(script))
	if _, err := os.Stat(out); err == nil {
		t.Error("OUT exists before the end of the run")
	}
	before := journaled(t, out)

	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	calling := 0
	for _, row := range table(t, out) {
		id := row["application_id"]
		switch before[id] {
		case "created":
			if calls := sim.Application(id).Calls; calls != 1 {
				t.Errorf("%s had ended before and was called %d times", id, calls)
			}
		case "calling":
			calling++
			if row["possible_duplicates"] != "1" || row["attempts"] != "2" {
				t.Errorf("%s was being called: %s possible duplicates, %s attempts", id, row["possible_duplicates"], row["attempts"])
			}
		}
	}
	if calling == 0 {
		t.Error("no row was being called when the run was killed")
	}
}

func TestRun_DrainsOnSignals(t *testing.T) {
	t.Parallel()
	for signal, code := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		// The run cannot end before the signal, because calls hang.
		sim, setting := upstream(t, `{"latency":"30ms","rules":[{"match":"P-01*","fault":"hang"}]}`)
		dir := t.TempDir()
		in, out := write(t, filepath.Join(dir, "in.csv"), people(200)), filepath.Join(dir, "links.csv")
		p := start(t, []string{setting, "FACEKI_TIMEOUT=1m"}, "run", in, "-o", out, "--simulate")
		fixture.Eventually(t, "the run is under way", func() bool { return sim.State().Links > 20 && sim.State().Faults["hang"] > 0 })
		p.signal(signal)
		fixture.Eventually(t, "it prints that it drains the calls", func() bool { return strings.Contains(p.stderr.String(), "draining in-flight calls") })
		fixture.Must(t, sim.SetScript(simulator.Script{})) // for calls that come after the release
		sim.Release()
		if got := p.exit(); got != code || !strings.Contains(p.stderr.String(), "run the same command again to continue") {
			t.Errorf("%v: exit code %d, want %d:\n%s", signal, got, code, p.stderr.String())
		}
		if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 {
			t.Errorf("the second run: exit code %d:\n%s", code, stderr)
		}
		for _, row := range table(t, out) {
			if row["possible_duplicates"] != "0" || row["attempts"] != "1" {
				t.Errorf("a drain left an uncertain outcome: %v", row)
			}
		}
	}
}

// A signal has the same effect at every moment of a run.
func TestRun_DrainsOnSignalsFromTheStart(t *testing.T) {
	t.Parallel()
	in := write(t, filepath.Join(t.TempDir(), "in.csv"), people(stoppedRun))
	for i, moment := range []struct {
		what string
		is   func(p *process, out string, sim *simulator.Simulator) bool
	}{
		{"it has printed its settings", func(p *process, _ string, _ *simulator.Simulator) bool {
			return strings.Contains(p.stderr.String(), "SIMULATED")
		}},
		{"the journal exists", func(_ *process, out string, _ *simulator.Simulator) bool {
			_, err := os.Stat(out + ".journal")
			return err == nil
		}},
		{"the worker has started", func(p *process, _ string, _ *simulator.Simulator) bool {
			return strings.Contains(p.stderr.String(), "worker started")
		}},
		{"the first link is created", func(_ *process, _ string, sim *simulator.Simulator) bool { return sim.State().Links > 0 }},
	} {
		for j, redis := range []string{"embedded", "real"} {
			for k, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
				if !everyMoment && (i+j+k)%2 == 1 {
					continue // each moment with each Redis, and with each signal
				}
				t.Run(fmt.Sprint(moment.what, ", ", redis, ", ", signal), func(t *testing.T) {
					t.Parallel()
					sim, setting := upstream(t, `{}`)
					out := filepath.Join(t.TempDir(), "links.csv")
					p := start(t, append(backends(t, setting)[redis], "KYCLINK_LOG_LEVEL=info"), "run", in, "-o", out, "--simulate")
					fixture.Eventually(t, moment.what, func() bool { return moment.is(p, out, sim) })
					p.signal(signal)
					code, said := p.exit(), p.stderr.String()
					if code != 128+int(signal) || !strings.Contains(said, "; run the same command again to continue") {
						t.Errorf("exit code %d:\n%s", code, said)
					}
					if strings.Contains(said, "kyclink: "+"accept") || strings.Contains(said, "context canceled") {
						t.Errorf("the output is\n%s", said)
					}
				})
			}
		}
	}
}

// Redis is killed during a run and restarted with its data. All calls are in flight by
// then, because a task that is lost on its way to a worker is recovered only after one to
// two minutes.
func TestRun_WaitsForAnAbsentRedis(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"hang"}]}`)
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	dir := t.TempDir()
	out := filepath.Join(dir, "links.csv")
	p := start(t, []string{setting, "FACEKI_TIMEOUT=1m", "KYCLINK_REDIS_URL=" + server.URL}, "run", write(t, filepath.Join(dir, "in.csv"), people(8)), "-o", out, "--simulate")
	fixture.Eventually(t, "all calls are in flight", func() bool { return sim.State().InFlight == 8 })
	server.Kill()
	fixture.Must(t, sim.SetScript(simulator.Script{})) // for a call whose attempt is lost with its answer
	sim.Release()
	fixture.Eventually(t, "the run notices", func() bool { return strings.Contains(p.stderr.String(), "Redis failed; retrying") })
	server.Restart(t)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, p.stderr.String())
	}
	for _, row := range table(t, out) {
		if row["status"] != "created" {
			t.Errorf("%s is %s", row["application_id"], row["status"])
		}
	}
	if !strings.Contains(p.stderr.String(), out+": 8 created") {
		t.Errorf("it ended with\n%s", p.stderr.String())
	}
}

// Rows that were removed from FILE after a kill are neither called nor waited for.
func TestRun_DropsRowsThatLeftTheFile(t *testing.T) {
	t.Parallel()
	const slots = 8
	sim, setting := upstream(t, `{"latency":"50ms"}`)
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(400)), filepath.Join(dir, "links.csv")
	p := start(t, []string{setting, "FACEKI_TIMEOUT=1m", fmt.Sprint("KYCLINK_CONCURRENCY=", slots)}, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "the run is under way", func() bool { return sim.State().Links > 20 })
	script := sim.Script()
	script.Rules = []simulator.Rule{{Match: "P-*", Fault: simulator.Fault{Name: "hang"}}}
	fixture.Must(t, sim.SetScript(script))
	fixture.Eventually(t, "all its calls hang", func() bool { return sim.State().Faults["hang"] == slots })
	p.kill()
	calls := sim.State().LinkCalls
	write(t, in, "application_id\nN-1\n")
	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 || !strings.Contains(stderr, ": 1 created") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	if now := sim.State().LinkCalls - calls; now != 1 {
		t.Errorf("%d calls for one row", now)
	}
}

func TestRun_StopsWhenRedisIsEmptied(t *testing.T) {
	t.Parallel()
	// The run cannot end before Redis is emptied, because calls hang.
	sim, setting := upstream(t, `{"latency":"20ms","rules":[{"match":"P-01*","fault":"hang"}]}`)
	server := redistest.Start(t)
	rdb := server.Client(t)
	dir := t.TempDir()
	out := filepath.Join(dir, "links.csv")
	p := start(t, []string{setting, "FACEKI_TIMEOUT=1m", "KYCLINK_REDIS_URL=" + server.URL}, "run", write(t, filepath.Join(dir, "in.csv"), people(400)), "-o", out, "--simulate")
	fixture.Eventually(t, "the run is under way", func() bool { return sim.State().Links > 50 && sim.State().Faults["hang"] > 0 })
	if err := rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	fixture.Must(t, sim.SetScript(simulator.Script{})) // for calls that come after the release
	sim.Release()
	if code := p.exit(); code != 1 || !strings.Contains(p.stderr.String(), "row 1, P-0001: Redis no longer knows what was accepted: was it emptied") {
		t.Errorf("exit code %d:\n%s", code, p.stderr.String())
	}
}

func TestRun_RetriesFailedRowsOnRequest(t *testing.T) {
	t.Parallel()
	for _, redis := range []string{"embedded", "real"} {
		t.Run(redis, func(t *testing.T) {
			t.Parallel()
			sim, setting := upstream(t, `{"rules":[{"match":"P-0003","fault":"code_5002"}]}`)
			settings := []string{setting}
			if redis == "real" {
				settings = append(settings, "KYCLINK_REDIS_URL="+newRedis(t).URL)
			}
			dir := t.TempDir()
			in, out := write(t, filepath.Join(dir, "in.csv"), people(5)), filepath.Join(dir, "links.csv")
			run := func(want int, status string, args ...string) {
				t.Helper()
				code, _, stderr := kyclink(t, settings, append([]string{"run", in, "-o", out, "--simulate"}, args...)...)
				if row := table(t, out)[2]; code != want || row["status"] != status {
					t.Fatalf("exit code %d, row %v\n%s", code, row, stderr)
				}
			}
			run(2, "failed")
			before := sim.State().LinkCalls
			script := sim.Script()
			script.Rules = nil
			if err := sim.SetScript(script); err != nil {
				t.Fatal(err)
			}
			run(2, "failed")
			run(0, "created", "--retry-failed")
			if calls := sim.State().LinkCalls - before; calls != 1 {
				t.Errorf("%d calls for the only row to retry", calls)
			}
		})
	}
}

func TestRun_RefusesASecondRunOfOneOutput(t *testing.T) {
	t.Parallel()
	// The first run cannot end before the second one, because calls hang.
	sim, setting := upstream(t, `{"rules":[{"match":"P-00[5-9]*","fault":"hang"}]}`)
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(100)), filepath.Join(dir, "out.csv")
	first := start(t, []string{setting, "FACEKI_TIMEOUT=1m"}, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "the first run is under way", func() bool { return sim.State().Links > 0 && sim.State().Faults["hang"] > 0 })
	code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate")
	if code != 1 || !strings.Contains(stderr, "another") {
		t.Errorf("the second run: exit code %d:\n%s", code, stderr)
	}
	fixture.Must(t, sim.SetScript(simulator.Script{})) // for calls that come after the release
	sim.Release()
	if code := first.exit(); code != 0 || sim.State().Links != 100 {
		t.Errorf("the first run: exit code %d, %d links", code, sim.State().Links)
	}
}

// Interactive rows are restored to their queue, not to the list of waiting rows.
func TestRun_ContinuesWithInteractiveRows(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"rules":[{"match":"*","fault":"hang"}]}`)
	dir := t.TempDir()
	file := strings.ReplaceAll(people(20), "\n", ",interactive\n")
	file = strings.Replace(file, ",interactive", ",lane", 1)
	in, out := write(t, filepath.Join(dir, "in.csv"), file), filepath.Join(dir, "links.csv")
	p := start(t, []string{setting, "FACEKI_TIMEOUT=1m"}, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "some are being called", func() bool {
		if _, err := os.Stat(out + ".journal"); err != nil {
			return false
		}
		calling := 0
		for _, state := range journaled(t, out) {
			if state == "calling" {
				calling++
			}
		}
		return calling > 2
	})
	p.kill()
	fixture.Must(t, sim.SetScript(simulator.Script{}))
	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate", "--patience", "2m"); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	if links := sim.State().Links; links < 20 {
		t.Errorf("%d links", links)
	}
}
