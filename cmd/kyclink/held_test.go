package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// lostAnswers creates a link for every row whose ID ends in 5, but loses the answer.
const lostAnswers = `{"rules":[{"match":"P-*5","fault":"reset_after"}]}`

// counted returns the number of events of a type for each request.
func counted(t testing.TB, rdb redis.UniversalClient, kind string) map[string]int {
	t.Helper()
	entries, err := rdb.XRange(t.Context(), "{kyclink:default}:results", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	for _, entry := range entries {
		if entry.Values["type"] == kind {
			counts[entry.Values["application_id"].(string)]++
		}
	}
	return counts
}

// onceEach reports whether n requests have one event each.
func onceEach(counts map[string]int, n int) bool {
	for _, c := range counts {
		if c != 1 {
			return false
		}
	}
	return len(counts) == n
}

func with(all []tasks.Link, status tasks.Status) []tasks.Link {
	return slices.DeleteFunc(slices.Clone(all), func(l tasks.Link) bool { return l.Status != status })
}

// ndjson parses the output of --json.
func ndjson(t testing.TB, text string) []tasks.Link { t.Helper(); return ndjsonOf[tasks.Link](t, text) }

func ndjsonOf[T any](t testing.TB, text string) []T {
	t.Helper()
	var out []T
	for line := range strings.Lines(text) {
		var l T
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		out = append(out, l)
	}
	return out
}

func TestHeld_IsCalledOnceAndWaitsForAnOperator(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, lostAnswers)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_ON_UNKNOWN=hold"}
	client := enqueue(t, rdb, 100)
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all are created or held", func() bool {
		all := links(t, client, 100)
		return len(with(all, tasks.Created)) == 90 && len(with(all, tasks.Held)) == 10
	})
	for _, l := range with(links(t, client, 100), tasks.Held) {
		if l.Attempts != 1 || l.PossibleDuplicates != 1 || l.Reason != "unknown_outcome" || sim.Application(l.ApplicationID).Calls != 1 {
			t.Errorf("%d calls: %+v", sim.Application(l.ApplicationID).Calls, l)
		}
	}
	if held := counted(t, rdb, "link.held"); !onceEach(held, 10) {
		t.Errorf("events: %v", held)
	}
	expect := expecter(t, settings)

	listed := ndjson(t, expect(0, "{", "", "held", "list", "--json"))
	if len(listed) != 10 || listed[0].Status != tasks.Held || listed[0].Batch != "spring" {
		t.Errorf("listed: %+v", listed)
	}
	expect(0, "unknown_outcome: the connection was lost before FaceKi answered", "", "held", "list", "P-0005")
	expect(0, "kyclink held retry P-0005 (may create and bill a second link), or kyclink held drop P-0005", "", "show", "P-0005")
	expect(64, "", "no held request is selected", "held", "retry")
	expect(64, "", "no held request is selected", "held", "drop", "--dry-run")
	expect(64, "", `no request is held with reason "timeout"; use one of unknown_outcome, unusable_answer`, "held", "list", "--reason", "timeout")

	expect(0, "P-0015", "kyclink: 2 would be cancelled", "held", "drop", "P-0015", "P-0005", "--dry-run")
	dropped := ndjson(t, expect(0, "{", "kyclink: 2 cancelled", "held", "drop", "--yes", "P-0015", "P-0005", "--json"))
	if len(with(dropped, tasks.Cancelled)) != 2 {
		t.Errorf("dropped: %+v", dropped)
	}
	expect(0, "", "skipped P-0005: it is cancelled, not held\nkyclink: 0 cancelled; 1 skipped", "held", "drop", "--yes", "P-0005")
	expect(0, "held", "", "show", "P-0005") // the reason of the hold is kept
	expect(0, "", "kyclink: 0 retried", "held", "retry", "--before", "2020-01-01T00:00:00Z")
	// While FaceKi loses the answers, each retry makes one more call and is held again.
	expect(0, "", "kyclink: 1 retried", "held", "retry", "P-0025")
	fixture.Eventually(t, "it is held again", func() bool { return counted(t, rdb, "link.held")["P-0025"] == 2 })
	if got := links(t, client, 25)[24]; got.Run != 1 || got.Attempts != 2 || got.PossibleDuplicates != 2 {
		t.Errorf("held twice: %+v", got)
	}

	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	expect(0, "", "kyclink: 8 retried", "held", "retry", "--reason", "unknown_outcome", "--batch", "spring", "--since", "1h", "--rate", "100/s")
	fixture.Eventually(t, "all others are created", func() bool { return len(with(links(t, client, 100), tasks.Created)) == 98 })
	if created, cancelled := counted(t, rdb, "link.created"), counted(t, rdb, "link.cancelled"); !onceEach(created, 98) || !onceEach(cancelled, 2) {
		t.Errorf("%d created, %v cancelled", len(created), cancelled)
	}
}

// A call that was in flight in a killed worker is not repeated.
func TestHeld_IncludesCallsOfAKilledWorker(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	// One call hangs, so that one is in flight whenever the worker is killed.
	sim, setting := upstream(t, `{"latency":"300ms","rules":[{"match":"P-0010","fault":"hang"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "KYCLINK_ON_UNKNOWN=hold", "FACEKI_TIMEOUT=1m"}
	client := enqueue(t, rdb, 60)
	w := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "some are made and some are called", func() bool { return sim.State().Links > 5 && sim.Application("P-0010").Calls == 1 })
	w.kill()
	disconnected(t, rdb)
	calling := with(links(t, client, 60), tasks.Calling)
	if len(calling) == 0 {
		t.Fatal("no request was being called when its worker was killed")
	}
	cancelled := calling[0].ApplicationID
	cancel(t, rdb, cancelled)
	expireLeases(t, rdb)
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all are created, held or cancelled", func() bool {
		all := links(t, client, 60)
		return len(with(all, tasks.Created))+len(with(all, tasks.Held))+len(with(all, tasks.Cancelled)) == 60
	})
	for _, was := range calling {
		var now tasks.Link
		for _, l := range links(t, client, 60) {
			if l.ApplicationID == was.ApplicationID {
				now = l
			}
		}
		want := tasks.Held
		if now.ApplicationID == cancelled {
			want = tasks.Cancelled // cancelled while its call was in flight
		}
		if now.Status != want || now.Attempts != 1 || now.PossibleDuplicates != 1 || sim.Application(now.ApplicationID).Calls > 1 {
			t.Errorf("%d calls: %+v", sim.Application(now.ApplicationID).Calls, now)
		}
	}
	if held := counted(t, rdb, "link.held"); !onceEach(held, len(calling)-1) {
		t.Errorf("%d were called, the events: %v", len(calling), held)
	}
}

// expireLeases lets asynq recover the tasks of a killed worker when another worker
// starts, instead of after one to two minutes.
func expireLeases(t testing.TB, rdb *redis.Client) {
	t.Helper()
	lease := "asynq:{kyclink:default:bulk}:lease"
	members, err := rdb.ZRange(t.Context(), lease, 0, -1).Result()
	for _, m := range members {
		if err == nil {
			err = rdb.ZAdd(t.Context(), lease, redis.Z{Score: 1, Member: m}).Err()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Requests that the journal shows as being called when run was killed are held, and the
// next run ends.
func TestRun_HoldsWhatWasCalledWhenKilled(t *testing.T) {
	t.Parallel()
	// One call hangs, so that one is in flight whenever the run is killed.
	sim, setting := upstream(t, `{"latency":"50ms","rules":[{"match":"P-0003","fault":"reset_after"},{"match":"P-0060","fault":"hang"}]}`)
	settings := []string{setting, "KYCLINK_ON_UNKNOWN=hold", "FACEKI_TIMEOUT=1m"}
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(200)), filepath.Join(dir, "links.csv")
	p := start(t, settings, "run", in, "-o", out, "--simulate")
	fixture.Eventually(t, "a third is done, and a call hangs", func() bool { return sim.State().Links > 70 && sim.Application("P-0060").Calls == 1 })
	p.kill()
	before := journaled(t, out)
	for range 2 { // the second run has nothing to do
		if code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate"); code != 2 {
			t.Fatalf("exit code %d:\n%s", code, stderr)
		}
		held := 0
		for _, row := range table(t, out) {
			id := row["application_id"]
			want := "created"
			if before[id] == "calling" || id == "P-0003" {
				want, held = "held", held+1
				if row["attempts"] != "1" || row["possible_duplicates"] != "1" || !strings.HasPrefix(row["reason"], "unknown_outcome: ") {
					t.Errorf("%+v", row)
				}
			}
			if calls := sim.Application(id).Calls; row["status"] != want || calls > 1 {
				t.Errorf("%s is %s after %d calls, want %s", id, row["status"], calls, want)
			}
		}
		if held < 2 {
			t.Error("no row was being called when the run was killed")
		}
	}
}

// expecter returns a function that runs a command and checks its exit code and its
// output.
func expecter(t testing.TB, settings []string) func(code int, stdout, stderr string, args ...string) string {
	return func(code int, stdout, stderr string, args ...string) string {
		t.Helper()
		gotCode, gotOut, gotErr := kyclink(t, settings, args...)
		if gotCode != code || !strings.Contains(gotOut, stdout) || !strings.Contains(gotErr, stderr) {
			t.Errorf("%v: exit code %d, want %d\nstdout: %s\nstderr: %s", args, gotCode, code, gotOut, gotErr)
		}
		return gotOut
	}
}

// cancel requests the cancellation of a request whose call is in flight. No command does
// this yet.
func cancel(t testing.TB, rdb *redis.Client, id string) {
	t.Helper()
	if err := rdb.SetRange(t.Context(), fmt.Sprintf("{kyclink:default}/%s", id), 3, "x").Err(); err != nil {
		t.Fatal(err)
	}
}
