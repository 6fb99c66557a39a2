package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// This is the whole bulk job: an import is killed and repeated, two workers, one of which
// is killed, create the links, and the export has exactly the rows of the file in their
// order, each with its own link.
func TestBatch_GivesEachRowOfAFileOneLink(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL, "FACEKI_RATE=20000/s", "FACEKI_BURST=2000"}
	expect := expecter(t, settings)
	file := peopleFile(t, bulkRows)

	first := start(t, settings, "import", file, "--batch", "spring")
	fixture.Eventually(t, "half of it is accepted", func() bool {
		n, _ := rdb.HGet(t.Context(), "{kyclink:default}:batch:1", "waiting").Int() // 0 before the first row
		return n >= bulkRows/2
	})
	first.kill()
	accepted := statusOf(t, settings, "spring").Rows
	if accepted == bulkRows {
		t.Log("it was not killed in the middle")
	}
	expect(0, "", count(bulkRows)+" rows, "+count(bulkRows-accepted)+" accepted", "import", file, "--batch", "spring")

	killed := start(t, settings, "worker", "--simulate")
	start(t, settings, "worker", "--simulate")
	for created := 0; created < bulkRows; {
		fixture.Eventually(t, fmt.Sprintf("more than %d of %d links are made", created, bulkRows), func() bool {
			b := batchOf(t, rdb, "spring")
			more := b.Counts[request.Created] > created
			created = b.Counts[request.Created]
			return more
		})
		if created > bulkRows/3 {
			killed.kill()
		}
	}
	expect(0, count(bulkRows)+" created; every count is exact", "", "batch", "check", "spring")

	out := filepath.Join(t.TempDir(), "links.csv")
	expect(0, "", count(bulkRows)+" created", "batch", "export", "spring", "-o", out)
	oneLinkEach(t, out, bulkRows)
	if n := rdb.XLen(t.Context(), "{kyclink:default}:results").Val(); n != bulkRows {
		t.Errorf("%d events", n)
	}
}

// oneLinkEach checks the export of [peopleFile].
func oneLinkEach(t testing.TB, path string, n int) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rows := csv.NewReader(file)
	rows.ReuseRecord = true
	header, err := rows.Read()
	if err != nil {
		t.Fatal(err)
	}
	id, status, url := slices.Index(header, "application_id"), slices.Index(header, "status"), slices.Index(header, "url")
	links := make(map[string]bool, n)
	for i := range n {
		row, err := rows.Read()
		if err != nil {
			t.Fatalf("row %d: %v", i+1, err)
		}
		if want := fmt.Sprintf("P-%06d", i); row[id] != want || row[status] != "created" || row[url] == "" || links[row[url]] {
			t.Fatalf("row %d is %q, want %s with a link of its own", i+1, row, want)
		}
		links[row[url]] = true
	}
	if _, err := rows.Read(); err != io.EOF {
		t.Errorf("more than %d rows: %v", n, err)
	}
}
