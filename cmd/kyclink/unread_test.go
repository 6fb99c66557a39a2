package main

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/fixture"
)

// Commands that watch end when nobody reads their output any more, before they write again.
func TestWatches_EndWhenNobodyReads(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	expect := expecter(t, settings)
	stores := failedRequests(t, server.Client(t), 20)
	people := write(t, filepath.Join(t.TempDir(), "people.csv"), "application_id\nB-1\n")
	expect(0, "", "1 accepted", "import", people, "--batch", "summer")
	start(t, settings, "failed", "retry", "--batch", "spring", "--rate", "1/h")
	fixture.Eventually(t, "one is retried", func() bool { return failedCount(t, stores) == 19 })
	id := ndjsonOf[action.Action](t, expect(0, "{", "", "actions", "list", "--json"))[0].ID
	for _, args := range [][]string{
		{"status", "--watch"}, {"status", "--watch", "--json"}, {"results", "follow", "--from", "start"}, {"results", "follow", "--group", "crm"},
		{"batch", "watch", "summer"}, {"actions", "follow", id},
	} {
		reader, writer, err := os.Pipe()
		fixture.Must(t, err)
		p := prepare(t, binary, settings, args...)
		p.cmd.Stdout = writer
		p.begin()
		fixture.Must(t, writer.Close())
		if args[0] == "status" {
			if _, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
				t.Errorf("%v: no line was read: %v", args, err)
			}
		}
		fixture.Must(t, reader.Close())
		if code := p.exit(); code != 141 || args[0] != "actions" && strings.Contains(p.stderr.String(), "broken pipe") {
			t.Errorf("%v: exit code %d, want 141:\n%s", args, code, p.stderr.String())
		}
	}
	expect(0, `"state":"running"`, "", "actions", "show", id, "--json")
}
