package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// Every change by a command is in the audit trail, with the user and the host. Reads, dry
// runs and the IDs of erased people are not.
func TestAudit_RecordsCommands(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	people := peopleFile(t, 2)
	for _, args := range [][]string{
		{"request", "--application-id", "A-1"}, {"request", "--application-id", "A-2"},
		{"import", people, "--batch", "spring"}, {"import", people, "--batch", "autumn", "--dry-run"},
		{"account", "pause", "--reason", " a new host "}, {"account", "pause"}, {"account", "resume"}, {"account", "rate", "20/s"}, {"account", "rate"}, {"account", "rate", "--reset"}, {"account", "status"},
		{"batch", "pause", "spring"}, {"batch", "resume", "spring"}, {"batch", "retry", "spring"}, {"batch", "refresh", "spring"}, {"batch", "refresh", "spring", "--dry-run"},
		{"batch", "cancel", "spring", "--yes"},
		{"failed", "retry", "--batch", "spring", "--reason", "timeout"}, {"failed", "drop", "--all"}, {"failed", "drop", "--all", "--dry-run"},
		{"held", "retry", "A-1"}, {"held", "drop", "--since", "2h", "--yes"},
		{"callbacks", "retry", "--host", "shop.example"}, {"callbacks", "drop", "--all"}, {"callbacks", "list"},
		{"results", "replay", "--batch", "spring"},
		{"forget", "A-1", "A-2", "--yes"}, {"forget", "--batch", "spring", "--yes"}, {"forget", "A-1", "--dry-run"},
	} {
		if code, _, stderr := kyclink(t, settings, args...); code != 0 {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	_, stdout, _ := kyclink(t, settings, "audit", "--json")
	var got []string
	for _, line := range ndjsonOf[auditEntry](t, stdout) {
		if line.By != whoami() || !strings.Contains(line.By, "@") || line.Key != "" {
			t.Errorf("%+v is not by %s", line, whoami())
		}
		got = append(got, strings.TrimSpace(line.Action+" "+line.Target))
	}
	want := []string{
		"batches.import spring", "account.pause a new host", "account.pause", "account.resume", "account.rate 20/s", "account.rate reset",
		"batches.pause spring", "batches.resume spring", "batches.retry spring", "batches.refresh spring", "batches.cancel spring",
		"failed.retry --reason timeout --batch spring", "failed.drop --all", "held.drop --since 2h",
		"callbacks.retry --host shop.example", "callbacks.drop --all", "results.replay --batch spring",
		"links.erase 2 ids", "batches.erase spring",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("auditEntry are\n%s\n\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, text, _ := kyclink(t, settings, "audit"); !strings.Contains(text, whoami()) || strings.Contains(text, "A-1") {
		t.Errorf("audit prints\n%s", text)
	}
}

// A run on a shared Redis is recorded with its batch.
func TestAudit_RecordsARun(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, "{}")
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	out := filepath.Join(t.TempDir(), "links.csv")
	if code, _, stderr := kyclink(t, settings, "run", peopleFile(t, 2), "-o", out, "--simulate"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	_, stdout, _ := kyclink(t, settings, "audit", "--json")
	got := ndjsonOf[auditEntry](t, stdout)
	if len(got) != 1 || got[0].By != whoami() || got[0].Action != "batches.run" || !strings.HasPrefix(got[0].Target, "run:links.csv:") {
		t.Errorf("%+v", got)
	}
}
