package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// failedDay is when the requests of failedRequests began to fail: not so long ago that a worker
// removes them.
var failedDay = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -2)

// secondOf returns a time of that day.
func secondOf(n int) string {
	return failedDay.Add(time.Duration(n) * time.Second).Format(time.RFC3339)
}

// failedRequests creates n failed requests, F-000000 and following, half of them in the
// batch spring and half in autumn. Every tenth failed because of its workflow's rules.
func failedRequests(t testing.TB, rdb *redis.Client, n int) *storage.Stores {
	t.Helper()
	stores := storage.Of(rdb, "default")
	batches := map[string][]request.Record{}
	for i := range n {
		batch, reason := "spring", "invalid_request"
		if i%2 == 1 {
			batch = "autumn"
		}
		if i%10 == 0 {
			reason = "workflow_rules"
		}
		at := failedDay.Add(time.Duration(i/3) * time.Second)
		batches[batch] = append(batches[batch], request.Record{
			ApplicationID: fmt.Sprintf("F-%06d", i), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: failedDay, ChangedAt: at, Content: request.Content{RedirectURL: "https://shop.example/done"},
			Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: reason, Message: "an invented message", EndedAt: at},
		})
	}
	for batch, records := range batches {
		for page := range slices.Chunk(records, 500) {
			if err := stores.Requests.Restore(t.Context(), batch, page); err != nil {
				t.Fatal(err)
			}
		}
	}
	return stores
}

// failedCount returns the number of failed requests of both batches.
func failedCount(t testing.TB, stores *storage.Stores) (n int) {
	t.Helper()
	for _, batch := range []string{"spring", "autumn"} {
		counts, err := stores.Batches.Counts(t.Context(), batch)
		if err != nil {
			t.Fatal(err)
		}
		n += counts[request.Failed]
	}
	return n
}

// reported returns the number before a word of the last line.
func reported(t testing.TB, stderr, word string) int {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	found := regexp.MustCompile(`([\d,]+) ` + word).FindStringSubmatch(lines[len(lines)-1])
	if found == nil {
		t.Fatalf("the last line does not say how many were %s:\n%s", word, stderr)
	}
	n, err := strconv.Atoi(strings.ReplaceAll(found[1], ",", ""))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestFailed_SelectsByFilters(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	stores := failedRequests(t, server.Client(t), 1200)
	expect := expecter(t, settings)
	list := func(want int, args ...string) []tasks.Link {
		t.Helper()
		got := ndjson(t, expect(0, "", "", append([]string{"failed", "list", "--json"}, args...)...))
		if len(got) != want {
			t.Errorf("%v lists %d, want %d", args, len(got), want)
		}
		return got
	}
	all := list(1200)
	if !slices.IsSortedFunc(all, func(a, b tasks.Link) int { return a.EndedAt.Compare(b.EndedAt) }) || all[0].Reason != "workflow_rules" {
		t.Errorf("the first is %+v", all[0])
	}
	list(600, "--batch", "autumn")
	list(120, "--reason", "workflow_rules")
	list(0, "--reason", "workflow_rules", "--batch", "autumn")
	list(900, "--since", secondOf(100))
	list(30, "--since", secondOf(100), "--before", secondOf(110))
	list(1, "F-000010", "F-000011", "--batch", "spring")
	expect(0, "workflow_rules: an invented message", "", "failed", "list", "F-000010")
	expect(1, "", `there is no batch "winter"`, "failed", "list", "--batch", "winter")
	expect(64, "", "neither a time", "failed", "list", "--since", "yesterday")
	expect(64, "", "--since is not earlier than --before", "failed", "retry", "--since", "2h", "--before", "3h")
	expect(64, "", "--batch is empty", "failed", "list", "--batch", "")
	expect(64, "", `no request is failed with reason "nonsense"`, "failed", "list", "--reason", "nonsense")
	expect(64, "", "no failed request is selected", "failed", "retry", "--rate", "50/s")
	expect(64, "", "exclude each other", "failed", "retry", "--all", "F-000010")
	expect(64, "", "--all and --reason exclude each other", "failed", "retry", "--all", "--reason", "workflow_rules", "--batch", "spring")
	expect(64, "", "--all and --before exclude each other", "held", "drop", "--all", "--before", "2h", "--yes")
	expect(64, "", "--all and --host exclude each other", "callbacks", "retry", "--all", "--host", "shop.example")
	expect(64, "", "--rate", "failed", "retry", "--all", "--rate", "fast")
	expect(1, "", "F-9: no request has this application ID", "failed", "retry", "F-9", "F-000001")
	expect(0, "", "skipped F-000001: it is waiting, not failed\nkyclink: 0 retried; 1 skipped", "failed", "retry", "F-000001")
	if got := failedCount(t, stores); got != 1199 {
		t.Errorf("%d are failed", got)
	}

	expect(0, "", "119 hidden", "failed", "drop", "--reason", "workflow_rules", "--since", secondOf(1))
	list(1, "--reason", "workflow_rules")
	expect(0, "", "0 hidden; 1 skipped", "failed", "drop", "F-000010")
	expect(0, "an invented message", "", "failed", "show", "F-000010")
	expect(0, "", "would be retried", "failed", "retry", "--all", "--dry-run")
	if got := failedCount(t, stores); got != 1199 { // including hidden ones
		t.Errorf("%d are failed", got)
	}
	retried := ndjson(t, expect(0, "", "1 retried", "failed", "retry", "F-000010", "--json"))
	if len(retried) != 1 || retried[0].Run != 2 || retried[0].Status != tasks.Waiting {
		t.Errorf("retried: %+v", retried)
	}
	expect(1, "", "F-000010 is waiting, not failed; to show its history: kyclink show F-000010", "failed", "show", "F-000010")
	expect(0, "run 1", "", "show", "F-000010")
	expect(0, "", "599 retried", "failed", "retry", "--batch", "autumn")
	if got := failedCount(t, stores); got != 599 {
		t.Errorf("%d are failed", got)
	}
}

// interruptedRetry interrupts a retry of n requests, checks its report, and runs it again
// to the end.
func interruptedRetry(t *testing.T, settings []string, stores *storage.Stores, n int, pace string) {
	t.Helper()
	p := start(t, settings, "failed", "retry", "--all", "--rate", pace)
	fixture.Eventually(t, "some are retried", func() bool { return failedCount(t, stores) < n-n/20 })
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 130 {
		t.Errorf("exit code %d", code)
	}
	first := reported(t, p.stderr.String(), "retried")
	if left := failedCount(t, stores); first == 0 || left == 0 || first != n-left || !strings.Contains(p.stderr.String(), "run the same command again to continue") {
		t.Errorf("%d of %d are left, and the output is\n%s", left, n, p.stderr.String())
	}
	code, _, stderr := kyclink(t, settings, "failed", "retry", "--all")
	if second := reported(t, stderr, "retried"); code != 0 || first+second != n || failedCount(t, stores) != 0 {
		t.Errorf("exit code %d; %d and then %d of %d", code, first, second, n)
	}
}

func TestFailedRetry_ContinuesAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	stores := failedRequests(t, server.Client(t), 3000)
	interruptedRetry(t, []string{"KYCLINK_REDIS_URL=" + server.URL}, stores, 3000, "100/s")
}

// Commands retry all requests beside each other. Each request is retried once.
func TestFailedRetry_RetriesEachOnceBesideAnother(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	stores := failedRequests(t, server.Client(t), 3000)
	commands := []*process{
		start(t, settings, "failed", "retry", "--all"), start(t, settings, "failed", "retry", "--all"),
		start(t, settings, "failed", "retry", "--all", "--rate", "1000/s"),
	}
	for _, p := range commands {
		if code := p.exit(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, p.stderr.String())
		}
	}
	total := 0 // of the actions, which a command may share with another
	for _, a := range ndjsonOf[action.Action](t, expecter(t, settings)(0, "{", "", "actions", "list", "--json")) {
		total += a.Counts.Done
	}
	if total != 3000 || failedCount(t, stores) != 0 {
		t.Errorf("%d were retried, %d are failed", total, failedCount(t, stores))
	}
}

// A retry is a new run with its own event, even if it fails at once: the same command
// does not retry it twice. There are too few rows for the batch to be paused.
func TestFailedRetry_StartsANewRun(t *testing.T) {
	t.Parallel()
	const rows = 9
	server := newRedis(t)
	rdb := server.Client(t)
	sim, setting := upstream(t, `{"rules":[{"match":"P-*","fault":"code_5002"}]}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	client := enqueue(t, rdb, rows)
	_, err := client.Enqueue(t.Context(), tasks.Request{ApplicationID: "P-0007"}) // it is interactive now
	if err != nil {
		t.Fatal(err)
	}
	start(t, settings, "worker", "--simulate")
	allFailed := func(run int) func() bool {
		return func() bool {
			return !slices.ContainsFunc(links(t, client, rows), func(l tasks.Link) bool { return l.Status != tasks.Failed || l.Run != run })
		}
	}
	fixture.Eventually(t, "all have failed", allFailed(1))
	expect := expecter(t, settings)
	expect(0, "", "kyclink: 9 retried", "failed", "retry", "--all", "--rate", "50/s")
	fixture.Eventually(t, "all have failed again", allFailed(2))
	ids := map[string]bool{}
	entries, err := rdb.XRange(t.Context(), "{kyclink:default}:results", "-", "+").Result()
	for _, entry := range entries {
		ids[entry.Values["id"].(string)] = true
	}
	if err != nil || len(entries) != 2*rows || len(ids) != 2*rows {
		t.Errorf("%d events with %d ids, %v", len(entries), len(ids), err)
	}
	script := sim.Script()
	script.Rules = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	expect(0, "", "kyclink: 9 retried", "failed", "retry", "--reason", "invalid_request")
	fixture.Eventually(t, "all are created", func() bool { return allCreated(links(t, client, rows)) })
	if got := links(t, client, rows)[0]; got.Run != 3 || got.Attempts != 3 {
		t.Errorf("%+v", got)
	}
}

// One request that cannot be decoded hides no other, and keeps no action from its end.
func TestFailed_SkipsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	stores := failedRequests(t, server.Client(t), 20)
	key := stores.Keys.Record("F-000003")
	if err := server.Client(t).SetRange(t.Context(), key, 0, "9").Err(); err != nil {
		t.Fatal(err)
	}
	expect := expecter(t, settings)
	const skipped = `kyclink: skipped F-000003, which this version cannot decode: record of "F-000003": version '9'`
	if listed := ndjson(t, expect(1, "", skipped, "failed", "list", "--json")); len(listed) != 19 {
		t.Errorf("%d are listed, want 19", len(listed))
	}
	expect(1, "", "kyclink: 19 would be retried", "failed", "retry", "--all", "--dry-run")
	expect(1, "", skipped+", this program reads version '2'\nkyclink: 0 retried; 1 skipped: damaged", "failed", "retry", "F-000003")
	out := expect(1, `"skipped":{"changed":0,"gone":0,"unreadable":1}`, "kyclink: 19 retried; 1 skipped: damaged, or written by a newer version of kyclink", "failed", "retry", "--all", "--json")
	a := ndjsonOf[action.Action](t, out)[0]
	if a.State != action.Done || a.Counts.Matched != 20 {
		t.Errorf("the action is %+v", a)
	}
	expect(0, "damaged, or written by a newer version", "", "actions", "show", a.ID)
}
