package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

const resultsKey = "{kyclink:default}:results"

// addEvents adds one event of each type and an entry that is not an event.
func addEvents(t testing.TB, rdb redis.UniversalClient) {
	t.Helper()
	for _, values := range [][]string{
		{"id", "b0886c77-8e64-539d-9d71-734fc184653f", "type", tasks.EventCreated, "timestamp", "2026-11-23T10:00:00.120Z", "application_id", "A-1001", "data",
			`{"application_id":"A-1001","generation":2,"run":1,"batch":"spring","link_id":"l-1","url":"https://simulator.invalid/kycverify/l-1?a=1&b=2","expires_at":"2026-11-24T10:00:00.000Z","attempts":1,"possible_duplicates":0,"metadata":{"customer":"4<2"}}`},
		{"nothing", "known"},
		{"id", "0b51d4a1-3f1c-5d0e-9a55-7f4a9c1d2e33", "type", tasks.EventFailed, "timestamp", "2026-11-23T10:00:01.000Z", "application_id", "A-1002", "later", "a field",
			"data", `{"application_id":"A-1002","generation":1,"run":1,"reason":"timeout","message":"no answer within 15s","attempts":8,"possible_duplicates":8}`},
		{"id", "6ec0bd7f-11c0-4f6c-8d37-2a4b9f6f8a10", "type", tasks.EventHeld, "timestamp", "2026-11-23T10:00:02.000Z", "application_id", "A-1003",
			"data", `{"application_id":"A-1003","generation":1,"run":1,"reason":"unknown_outcome","message":"an invented message","attempts":1,"possible_duplicates":1}`},
		{"id", "7a1f0c55-9d0b-5a5e-b1d9-1e0f3c5a7b99", "type", tasks.EventCancelled, "timestamp", "2026-11-23T10:00:03.000Z", "application_id", "A-1004",
			"data", `{"application_id":"A-1004","generation":1,"run":1,"reason":"cancelled","attempts":0,"possible_duplicates":0}`, "replay", "1"},
	} {
		if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: resultsKey, Values: values}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestResultsRead_PrintsLinesOfJSON(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	expect(0, "0\n", "no live group", "results", "lag")
	if out := expect(0, "", "", "results", "read"); out != "" {
		t.Errorf("of an empty stream: %s", out)
	}
	addEvents(t, server.Client(t))
	golden := read(t, filepath.Join("testdata", "results.ndjson"))
	for _, args := range [][]string{{"--from", "1h"}, {"--group", "crm"}, {"--group", "erp", "--consumer", "one", "--json", "--from", "start"}} {
		if out := expect(0, "", "stream entry is not an event", append([]string{"results", "read"}, args...)...); out != golden {
			t.Errorf("%v prints\n%s\nwant\n%s", args, out, golden)
		}
	}
	if out := expect(0, "", "", "results", "read", "--group", "crm"); out != "" {
		t.Errorf("it is printed again: %s", out)
	}
	expect(0, "", "", "results", "read", "--group", "late", "--from", "now")
	expect(0, "crm    1          0    0", "", "results", "groups")
	addEvents(t, server.Client(t))
	expect(0, "5\n", "", "results", "lag", "--group", "late")
	expect(0, `{"group":"crm","lag":5,"behind_seconds":`, "", "results", "lag", "--json")
	expect(0, `{"group":"erp","consumers":1,"lag":5,"pending":0,"behind_seconds":`, "", "results", "groups", "--json")
	expect(1, "", `there is no group "nobody"`, "results", "lag", "--group", "nobody")
	expect(64, "", "--consumer needs --group", "results", "follow", "--consumer", "one")
	expect(64, "", "--from: \"yesterday\" is neither", "results", "read", "--from", "yesterday")
	expect(64, "", "--group is empty", "results", "read", "--group", "")
	expect(64, "", "nothing is selected", "results", "replay")
	expect(64, "", "exclude each other", "results", "replay", "--id", "A-1001", "--batch", "spring")
	expect(64, "", "--since", "results", "replay", "--since", "yesterday")
	expect(1, "", `there is no batch "winter"`, "results", "replay", "--batch", "winter")
	expect(1, "", "no ended request with ID A-77 is stored", "results", "replay", "--id", "A-77")
}

func TestResultsFollow_StopsOnSignals(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	plain := start(t, settings, "results", "follow", "--from", "start")
	group := start(t, settings, "results", "follow", "--group", "crm", "--consumer", "one")
	addEvents(t, server.Client(t))
	golden := read(t, filepath.Join("testdata", "results.ndjson"))
	fixture.Eventually(t, "both print", func() bool { return plain.stdout.String() == golden && group.stdout.String() == golden })
	plain.signal(syscall.SIGINT)
	group.signal(syscall.SIGTERM)
	if code := plain.exit(); code != 130 {
		t.Errorf("after SIGINT: exit code %d", code)
	}
	if code := group.exit(); code != 143 {
		t.Errorf("after SIGTERM: exit code %d", code)
	}
	if lag := strings.TrimSpace(expecter(t, settings)(0, "", "", "results", "lag", "--group", "crm")); lag != "0" {
		t.Errorf("%s are not acknowledged", lag)
	}
}

// printed returns the lines of a process by event ID, without the replay marker.
func printed(p *process) map[string]string {
	lines := map[string]string{}
	for line := range strings.Lines(p.stdout.String()) {
		var e struct{ ID string }
		if json.Unmarshal([]byte(line), &e) == nil && strings.HasSuffix(line, "\n") {
			lines[e.ID] = strings.Replace(line, `"replay":true,`, "", 1)
		}
	}
	return lines
}

// While a group does not read, more events are published than the cap of the stream. The
// oldest are trimmed, which is logged, and a replay gives the group all of them with the
// same IDs.
func TestResultsReplay_PublishesTrimmedEventsAgain(t *testing.T) {
	t.Parallel()
	const n = replayed
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	expect(0, "", "", "results", "read", "--group", "crm")
	witness := start(t, settings, "results", "follow", "--from", "start") // reads every event at once
	enqueue(t, rdb, n)
	roomy := start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "all are created", func() bool { return len(printed(witness)) == n })
	roomy.signal(syscall.SIGTERM)
	roomy.exit()
	worker := start(t, append(settings, "KYCLINK_RESULTS_CAP=1000"), "worker", "--simulate")
	status := func() (l groupLag) {
		if err := json.Unmarshal([]byte(expect(0, "", "", "results", "lag", "--json")), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	fixture.Eventually(t, "the oldest are trimmed", func() bool { return rdb.XLen(t.Context(), resultsKey).Val() < 1200 })
	if l := status(); l.Cap != 1000 || l.Dropped < n-1200 || l.Group != "crm" {
		t.Errorf("%+v", l)
	}
	fixture.Eventually(t, "the worker logs it", func() bool {
		return strings.Contains(worker.stderr.String(), "results stream reached its cap and lost events that a group had not acknowledged")
	})

	late := start(t, settings, "results", "follow", "--group", "crm")
	fixture.Eventually(t, "it reads and prints what is left", func() bool { return status().Lag == 0 && len(printed(late)) > 0 })
	if got := len(printed(late)); got == 0 || got > 1200 {
		t.Errorf("%d were left", got)
	}
	expect(0, "", count(n)+" published again", "results", "replay", "--batch", "spring", "--rate", "2000/s")
	fixture.Eventually(t, "the group has all", func() bool { return len(printed(late)) == n })
	if !maps.Equal(printed(late), printed(witness)) {
		t.Error("the replayed events differ from the original ones")
	}
}

// Events that a group has not read are kept beyond their age, and trimmed after they were
// read.
func TestResults_KeepUnreadEvents(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	expect(0, "", "", "results", "read", "--group", "crm")
	enqueue(t, rdb, 500)
	start(t, append(settings, "KYCLINK_RESULTS_AGE=1s"), "worker", "--simulate")
	length := func() int64 { return rdb.XLen(t.Context(), resultsKey).Val() }
	fixture.Eventually(t, "all are created", func() bool { return length() == 500 })
	several := time.Now().Add(10 * time.Second) // time for several passes of the recovery
	fixture.Eventually(t, "several passes have run", func() bool { return length() != 500 || time.Now().After(several) })
	if length() != 500 {
		t.Fatalf("%d are left", length())
	}
	lines := strings.Split(strings.TrimSpace(expect(0, "", "", "results", "read", "--group", "crm")), "\n")
	if slices.Sort(lines); len(slices.Compact(lines)) != 500 {
		t.Errorf("%d were read", len(lines))
	}
	fixture.Eventually(t, "they are trimmed after they were read", func() bool { return length() < 100 })
}

// After an interrupt, the same command continues the replay.
func TestResultsReplay_ContinuesAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	failedRequests(t, rdb, 2000)
	if err := rdb.Del(t.Context(), resultsKey).Err(); err != nil {
		t.Fatal(err)
	}
	length := func() int { return int(rdb.XLen(t.Context(), resultsKey).Val()) }
	p := start(t, settings, "results", "replay", "--since", "2026-10-01T00:00:00Z", "--rate", "100/s")
	fixture.Eventually(t, "some are published", func() bool { return length() >= 600 })
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 130 || !strings.Contains(p.stderr.String(), "published again; run the same command again to continue") {
		t.Errorf("exit code %d:\n%s", code, p.stderr.String())
	}
	if length() >= 1900 {
		t.Errorf("%d were published before it was stopped", length())
	}
	expect := expecter(t, settings)
	expect(0, "", "2,000 published again, ", "results", "replay", "--since", "2026-10-01T00:00:00Z", "--rate", "10000/s")
	events, err := rdb.XRange(t.Context(), resultsKey, "-", "+").Result()
	ids := map[any]bool{}
	for _, e := range events {
		ids[e.Values["id"]] = e.Values["replay"] == "1"
	}
	if err != nil || len(ids) != 2000 || len(events) > 2500 {
		t.Errorf("%d events with %d ids, %v", len(events), len(ids), err)
	}
	expect(0, `{"published":2000}`, "", "results", "replay", "--since", "2026-10-01T00:00:00Z", "--rate", "10000/s", "--json")
}
