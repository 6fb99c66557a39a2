package main

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/redistest"
)

// table reads an OUT file and returns one map per row, keyed by column.
func table(t testing.TB, path string) []map[string]string {
	t.Helper()
	records, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(read(t, path), "\ufeff"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var rows []map[string]string
	for _, r := range records[1:] {
		row := map[string]string{}
		for i, column := range records[0] {
			row[column] = r[i]
		}
		rows = append(rows, row)
	}
	return rows
}

// people returns a CSV with n valid rows.
func people(n int) string {
	var b strings.Builder
	b.WriteString("application_id,redirect_url\n")
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "P-%04d,https://shop.example/done\n", i)
	}
	return b.String()
}

// bad are invalid rows, each with the beginning of its reason.
var bad = [][3]string{ // application_id, redirect_url, reason
	{"", "", "invalid: application_id: is required"},
	{"has blank", "", "invalid: application_id: contains ' '"},
	{"tab\there", "", `invalid: application_id: contains '\t'`},
	{strings.Repeat("x", 129), "", "invalid: application_id: is longer than 128 characters"},
	{"B-1", "http://shop.example/done", "invalid: redirect_url: must start with https://"},
	{"B-2", "https://", "invalid: redirect_url: has no host"},
	{"B-3", "shop.example", "invalid: redirect_url: must start with https://"},
	{"B-4", "https://u:p@shop.example/", "invalid: redirect_url: must not contain a user name or password"},
	{"B-5", "https://shop.example/" + strings.Repeat("x", 2048), "invalid: redirect_url: is longer than 2048 bytes"},
	{"G-0001", "https://other.example/done", "conflict: G-0001 was requested before with different values of redirect_url"},
}

func TestRun_HandlesBadRowsAmongGoodOnes(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	dir := t.TempDir()
	var b strings.Builder
	b.WriteString("\ufeffnote,application_id,redirect_url,status\r\n")
	var want [][2]string // ID and beginning of the reason of each row
	for i := 1; i <= 1000; i++ {
		id, url, reason := fmt.Sprintf("G-%04d", i), "https://shop.example/done", ""
		switch i % 50 {
		case 0: // 20 invalid rows, each kind twice
			row := bad[i/50%len(bad)]
			id, url, reason = row[0], row[1], row[2]
		case 25: // the same person twice
			id = fmt.Sprintf("G-%04d", i-1)
		}
		fmt.Fprintf(&b, "\"Zoë \"\"%d\"\", first line\r\nsecond, line\",%s,%s,old\r\n", i, id, url)
		want = append(want, [2]string{id, reason})
	}
	in, out := write(t, filepath.Join(dir, "people.csv"), b.String()), filepath.Join(dir, "links.csv")

	code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate")
	if code != 2 {
		t.Fatalf("exit code %d, want 2 for finished with failed rows:\n%s", code, stderr)
	}
	if !strings.HasPrefix(read(t, out), "\ufeffnote,") {
		t.Error("the byte order mark of the input is gone")
	}
	rows := table(t, out)
	if len(rows) != 1000 {
		t.Fatalf("%d rows, want 1000", len(rows))
	}
	urls := map[string]string{}
	for i, row := range rows {
		if note := fmt.Sprintf("Zoë \"%d\", first line\r\nsecond, line", i+1); row["note"] != strings.ReplaceAll(note, "\r\n", "\n") {
			t.Fatalf("row %d: note is %q", i+1, row["note"]) // csv.Reader removes the \r
		}
		id, reason := want[i][0], want[i][1]
		switch {
		case row["application_id"] != id:
			t.Fatalf("row %d is of %q, want %q", i+1, row["application_id"], id)
		case reason != "" && (row["status"] != "rejected" || !strings.HasPrefix(row["reason"], reason) || (row["url"] != "") != strings.HasPrefix(reason, "conflict")):
			t.Errorf("row %d: %s, %q; want rejected, %q", i+1, row["status"], row["reason"], reason)
		case reason == "" && (row["status"] != "created" || !strings.HasPrefix(row["url"], "https://simulator.invalid/")):
			t.Errorf("row %d: %s, %q", i+1, row["status"], row["reason"])
		}
		if other, twice := urls[id]; reason == "" && twice && other != row["url"] {
			t.Errorf("row %d: %s has two links", i+1, id)
		}
		if reason == "" {
			urls[id] = row["url"]
		}
	}
	if !strings.Contains(read(t, out), "first line\r\nsecond, line") {
		t.Error("the line break inside a carried cell was changed")
	}
	if got := sim.State(); got.Links != len(urls) || got.SeveralLinks != 0 {
		t.Errorf("the simulator made %d links for %d people (%d have several)", got.Links, len(urls), got.SeveralLinks)
	}

	first, calls := read(t, out), sim.State().LinkCalls
	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 2 {
		t.Fatalf("the second run: exit code %d:\n%s", code, stderr)
	}
	if read(t, out) != first {
		t.Error("the second run wrote another file")
	}
	if now := sim.State().LinkCalls; now != calls {
		t.Errorf("the second run called FaceKi %d times", now-calls)
	}
}

const mixedFaults = `{"seed":7,"max_faults_per_id":3,"faults":[
	{"fault":"http_500","probability":0.13},{"fault":"http_429","probability":0.01},
	{"fault":"reset_after","probability":0.08},{"fault":"truncated","probability":0.08}]}`

func TestRun_SurvivesMixedFaults(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, mixedFaults)
	dir := t.TempDir()
	out := filepath.Join(dir, "links.csv")
	code, _, stderr := kyclink(t, []string{setting}, "run", write(t, filepath.Join(dir, "in.csv"), people(120)), "-o", out, "--simulate")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	duplicates := 0
	for _, row := range table(t, out) {
		if row["status"] != "created" {
			t.Errorf("%s is %s: %s", row["application_id"], row["status"], row["reason"])
		}
		n, _ := strconv.Atoi(row["possible_duplicates"])
		duplicates += n
	}
	got := sim.State()
	if extra := got.Links - 120; extra <= 0 || extra > duplicates {
		t.Errorf("%d links more than rows, %d possible duplicates; faults: %v", extra, duplicates, got.Faults)
	}
}

// If OUT is a symbolic link, its target is written and the link is kept.
func TestRun_WritesThroughASymbolicLink(t *testing.T) {
	t.Parallel()
	_, setting := upstream(t, `{}`)
	dir := t.TempDir()
	in, link, target := write(t, filepath.Join(dir, "in.csv"), people(2)), filepath.Join(dir, "link.csv"), filepath.Join(dir, "target.csv")
	own := write(t, target+".tmp", "precious")
	if err := os.Symlink("target.csv", link); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{link, target, link} {
		if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, stderr)
		}
		if to, err := os.Readlink(link); err != nil || to != "target.csv" {
			t.Errorf("the link leads to %q: %v", to, err)
		}
		if rows := table(t, target); len(rows) != 2 || read(t, own) != "precious" {
			t.Errorf("the target holds %d rows, its neighbour %q", len(rows), read(t, own))
		}
	}
}

func TestRun_EndsWhenItsPatienceIsOver(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{"outage":"http_503"}`)
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(3)), filepath.Join(dir, "links.csv")
	code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate", "--patience=1s")
	if code != 3 || !strings.Contains(stderr, "Run the same command again") || !strings.Contains(lastLine(stderr), "SIMULATED") {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	for _, row := range table(t, out) {
		if row["status"] == "created" || row["status"] == "failed" {
			t.Errorf("during an outage: %v", row)
		}
	}
	script := sim.Script()
	script.Outage = nil
	if err := sim.SetScript(script); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := kyclink(t, []string{setting}, "run", in, "-o", out, "--simulate"); code != 0 {
		t.Fatalf("after the outage: exit code %d:\n%s", code, stderr)
	}
}

func TestRun_RefusesUnusableArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in := write(t, filepath.Join(dir, "in.csv"), people(1))
	nokey := write(t, filepath.Join(dir, "nokey.csv"), "name\nAnn\n")
	out := filepath.Join(dir, "out.csv")
	pipe := filepath.Join(dir, "pipe.csv")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := write(t, filepath.Join(dir, "foreign.csv"), "precious\n")
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no output":            {[]string{"run", in}, 64, "-o OUT"},
		"no input":             {[]string{"run", "-o", out}, 64, "an input file"},
		"an OUT of two lines":  {[]string{"run", in, "-o", filepath.Join(dir, "two\nlines.csv")}, 64, `two\nlines.csv" contains a line break`},
		"standard output":      {[]string{"run", in, "-o", "/dev/stdout"}, 64, "-o /dev/stdout: OUT must be a file"},
		"a pipe":               {[]string{"run", in, "-o", pipe, "--simulate"}, 1, "not a regular file"},
		"FILE that is a pipe":  {[]string{"run", pipe, "-o", out, "--simulate"}, 65, "not a regular file"},
		"a dash":               {[]string{"run", in, "-o", "-"}, 64, "OUT must be a file"},
		"a descriptor":         {[]string{"run", in, "-o", "/proc/self/fd/1"}, 64, "OUT must be a file"},
		"an unknown flag":      {[]string{"run", in, "-o", out, "--fast"}, 64, "--fast"},
		"an unknown command":   {[]string{"walk"}, 64, "walk"},
		"no credentials":       {[]string{"run", in, "-o", out}, 78, "--simulate"},
		"a missing file":       {[]string{"run", filepath.Join(dir, "none.csv"), "-o", out, "--simulate"}, 65, "none.csv"},
		"no application_id":    {[]string{"run", nokey, "-o", out, "--simulate"}, 65, "application_id"},
		"an OUT of others":     {[]string{"run", in, "-o", foreign, "--simulate"}, 1, "--force"},
		"OUT that is FILE":     {[]string{"run", in, "-o", in, "--simulate"}, 1, ""},
		"a folder that is not": {[]string{"run", in, "-o", filepath.Join(dir, "no", "out.csv"), "--simulate"}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, stderr := kyclink(t, nil, c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, c.code, c.says, stderr)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("OUT was written")
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "two*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if read(t, foreign) != "precious\n" {
		t.Error("somebody else's file was overwritten")
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func TestRun_RefusesAnotherUpstream(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(2)), filepath.Join(dir, "out.csv")
	code, _, stderr := kyclink(t, nil, "run", in, "-o", out, "--simulate")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, stderr)
	}
	if last := lastLine(stderr); !strings.Contains(last, "2 created") || !strings.Contains(last, "SIMULATED") {
		t.Errorf("the last line does not say that the links are simulated: %q", last)
	}
	simulated := read(t, out)
	code, _, stderr = kyclink(t, []string{"FACEKI_CLIENT_ID=invented", "FACEKI_CLIENT_SECRET=invented-too"}, "run", in, "-o", out)
	if code != 1 || !strings.Contains(stderr, "simulated") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	if read(t, out) != simulated {
		t.Error("OUT was changed")
	}
}

// An emptied Redis does not know the existing links. A run that used it would create all
// of them again.
func TestRun_RefusesAnotherLedger(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	server := redistest.Start(t)
	settings := []string{setting, "KYCLINK_REDIS_URL=" + server.URL}
	dir := t.TempDir()
	in, out := write(t, filepath.Join(dir, "in.csv"), people(2)), filepath.Join(dir, "out.csv")
	for range 2 {
		if code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate"); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, stderr)
		}
	}
	server.Restart(t) // it keeps nothing
	for _, settings := range [][]string{settings, {setting}} {
		code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate")
		if code != 1 || !strings.Contains(stderr, "another Redis, or it was emptied") {
			t.Errorf("exit code %d:\n%s", code, stderr)
		}
	}
	if links := sim.State().Links; links != 2 {
		t.Errorf("%d links for 2 people", links)
	}
}
