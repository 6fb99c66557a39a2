package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// importPeople imports n rows into a batch, with the IDs P-<from> and following.
func importPeople(t testing.TB, client *tasks.Client, batch string, from, n int) {
	t.Helper()
	rows := func(yield func(tasks.Row, error) bool) {
		for i := range n {
			r := tasks.Request{ApplicationID: fmt.Sprintf("P-%04d", from+i), ExpiryMinutes: 60, Metadata: []byte(fmt.Sprintf(`{"n":%d}`, from+i))}
			if !yield(tasks.Row{Number: i + 1, Request: r}, nil) {
				return
			}
		}
	}
	if err := client.EnqueueAll(t.Context(), tasks.Batch{Name: batch}, rows, func(r tasks.Result) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// cells parses a CSV into one map per row, keyed by column.
func cells(t testing.TB, text string) []map[string]string {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, r := range records[1:] {
		row := map[string]string{}
		for i, name := range records[0] {
			row[name] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// The batch is exported before, during and after its processing. Each export has all rows
// in their order, including joined rows.
func TestBatchExport_WritesAllRowsInOrderAtAnyTime(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, setting := upstream(t, "{}")
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=300/s", "FACEKI_BURST=50"}
	rdb := server.Client(t)
	client := tasks.NewClient(rdb, tasks.Config{})
	importPeople(t, client, "autumn", 100, 50)
	importPeople(t, client, "spring", 1, 1234) // 50 of them joined
	expect := expecter(t, settings)

	export := func() map[string]int {
		t.Helper()
		seen, statuses := cells(t, expect(0, "", "kyclink: 1,234 rows", "batch", "export", "spring")), map[string]int{}
		for i, row := range seen {
			if id := fmt.Sprintf("P-%04d", i+1); row["application_id"] != id || row["metadata"] != `{"n":`+strconv.Itoa(i+1)+"}" {
				t.Fatalf("row %d is %v, want %s", i+1, row, id)
			}
			if row["status"] == "created" && !strings.HasPrefix(row["url"], "https://simulator.invalid/") {
				t.Errorf("%v", row)
			}
			statuses[row["status"]]++
		}
		if len(seen) != 1234 {
			t.Fatalf("%d rows", len(seen))
		}
		return statuses
	}
	if got := export(); got["waiting"] != 1234 {
		t.Errorf("before the processing: %v", got)
	}
	start(t, settings, "worker", "--simulate")
	ended := func() int64 { return rdb.XLen(t.Context(), resultsKey).Val() }
	fixture.Eventually(t, "some links are created", func() bool { return ended() > 100 })
	if got := export(); got["created"] < 100 {
		t.Errorf("during the processing: %v", got)
	}
	fixture.Eventually(t, "all links are created", func() bool { return ended() == 1234 })
	if got := export(); got["created"] != 1234 {
		t.Errorf("after the processing: %v", got)
	}

	dir := t.TempDir()
	out := filepath.Join(dir, "spring.ndjson")
	expect(0, "", "1,234 created", "batch", "export", "spring", "-o", out)
	rows := ndjson(t, read(t, out))
	distinct := map[string]bool{}
	for _, r := range rows {
		distinct[r.URL] = true
	}
	if len(rows) != 1234 || len(distinct) != 1234 || rows[1233].ApplicationID != "P-1234" {
		t.Errorf("%d rows with %d links", len(rows), len(distinct))
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
	expect(0, "", "kyclink: 0 rows", "batch", "export", "spring", "--expired")
	expect(64, "", "use csv, xlsx or ndjson", "batch", "export", "spring", "--format", "xml")
	expect(64, "", "a batch's name", "batch", "export")
	expect(64, "", "--output is empty", "batch", "export", "spring", "-o", "")
	expect(64, "", "suffix", "batch", "export", "spring", "-o", filepath.Join(dir, "out.txt"))
	expect(1, "", `did you mean "spring"`, "batch", "export", "sprig")
}
