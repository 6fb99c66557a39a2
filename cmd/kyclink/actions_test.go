package main

import (
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
)

// An interrupted command leaves its action to the workers, and another command follows it.
func TestActions_ContinueInAWorkerAfterAnInterrupt(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	_, setting := upstream(t, `{}`)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	stores := failedRequests(t, rdb, 200)
	start(t, settings, "worker", "--simulate")
	fixture.Eventually(t, "the worker has joined", func() bool {
		return rdb.ZCard(t.Context(), keyspace.Keys{Account: "default"}.Workers()).Val() == 1
	})
	p := start(t, settings, "failed", "retry", "--all", "--rate", "20/s")
	fixture.Eventually(t, "some are retried", func() bool { return failedCount(t, stores) < 200 })
	p.signal(syscall.SIGINT)
	code := p.exit()
	expect := expecter(t, settings)
	listed := ndjsonOf[action.Action](t, expect(0, "{", "", "actions", "list", "--json"))
	if len(listed) != 1 {
		t.Fatalf("the actions are %+v, want one", listed)
	}
	id := listed[0].ID
	if code != 130 || !strings.Contains(p.stderr.String(), "kyclink actions follow "+id) || !strings.Contains(p.stderr.String(), "kyclink actions abort "+id) {
		t.Errorf("the interrupted command exits with %d and prints\n%s", code, p.stderr.String())
	}
	expect(0, `"done":200,"skipped":{"changed":0,"gone":0,"unreadable":0}`, "kyclink: 200 retried", "actions", "follow", id, "--json")
	expect(0, "retry_failed", "", "actions", "show", id)
	expect(1, "", "is done and cannot be aborted", "actions", "abort", id)
	expect(1, "", `there is no action "none"`, "actions", "show", "none")
	if n := failedCount(t, stores); n != 0 {
		t.Errorf("%d requests are failed", n)
	}
}

func TestActionsAbort_EndsACommandThatFollows(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	stores := failedRequests(t, server.Client(t), 20)
	p := start(t, settings, "failed", "retry", "--batch", "spring", "--rate", "1/h")
	fixture.Eventually(t, "one is retried", func() bool { return failedCount(t, stores) == 19 })
	expect := expecter(t, settings)
	id := ndjsonOf[action.Action](t, expect(0, "{", "", "actions", "list", "--json"))[0].ID
	if _, screen := onScreen(t, settings, "actions", "list"); !strings.Contains(screen, id) || !strings.Contains(screen, "1 of 10") {
		t.Errorf("a terminal of 80 columns shows\n%s", screen)
	}
	expect(0, "is aborted: ", "", "actions", "abort", id)
	if code := p.exit(); code != 1 || !strings.Contains(p.stderr.String(), "1 retried; then the action was aborted") {
		t.Errorf("the command exits with %d and prints\n%s", code, p.stderr.String())
	}
}

// An action of a newer version hides no other in the list.
func TestActions_ShowsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	rdb := server.Client(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	failedRequests(t, rdb, 20)
	expect := expecter(t, settings)
	ids := map[string]string{}
	for _, batch := range []string{"spring", "autumn"} {
		expect(0, "", "10 retried", "failed", "retry", "--batch", batch)
		ids[batch] = ndjsonOf[action.Action](t, expect(0, "{", "", "actions", "list", "--json"))[0].ID
	}
	key := keyspace.Keys{Account: "default"}.Action(ids["spring"])
	fixture.Must(t, rdb.HSet(t.Context(), key, "filter", `{"batch":"spring","country":"DE"}`, "state", "running").Err())
	expect(0, ids["spring"]+"  retry_failed  unreadable", "", "actions", "list")
	expect(0, ids["autumn"]+"  retry_failed  done", "", "actions", "list")
	expect(0, "written by a newer version of kyclink", "", "actions", "show", ids["spring"])
	expect(1, "", "written by a newer version of kyclink", "actions", "follow", ids["spring"])
	expect(0, "is aborted", "", "actions", "abort", ids["spring"])
}
