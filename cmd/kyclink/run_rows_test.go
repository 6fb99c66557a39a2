package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// backends returns the settings for the embedded and for a real Redis.
func backends(t *testing.T, settings ...string) map[string][]string {
	t.Helper()
	return map[string][]string{
		"embedded": settings,
		"real":     append([]string{"KYCLINK_REDIS_URL=" + newRedis(t).URL}, settings...),
	}
}

// A row that was edited after its link was created is a conflict, but still has the link:
// OUT may be the only place that has it.
func TestRun_ShowsTheLinkOfAnEditedRow(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	for redis, settings := range backends(t, setting) {
		dir := t.TempDir()
		in, out := filepath.Join(dir, "in.csv"), filepath.Join(dir, "links.csv")
		var urls []string
		for run, edited := range []string{"https://shop.example/done", "https://shop.example/other", "http://plain.example/"} {
			write(t, in, "application_id,redirect_url\nE-1,https://shop.example/done\nE-2,"+edited+"\n")
			code, _, stderr := kyclink(t, settings, "run", in, "-o", out, "--simulate")
			rows := table(t, out)
			for i, row := range rows {
				urls = append(urls, row["url"])
				if row["url"] == "" || row["url"] != urls[i] || row["attempts"] != "1" {
					t.Errorf("%s Redis, run %d: %v", redis, run, row)
				}
			}
			want := [][3]string{{"created", "", "2 created"}, {"rejected", "conflict: E-2 was requested before", "1 created, 1 rejected"},
				{"rejected", "invalid: redirect_url: must start", "1 created, 1 rejected"}}[run]
			if rows[1]["status"] != want[0] || !strings.HasPrefix(rows[1]["reason"], want[1]) || !strings.Contains(stderr, want[2]) || (code == 2) != (run > 0) {
				t.Errorf("%s Redis, run %d: exit code %d, %v\n%s", redis, run, code, rows[1], stderr)
			}
		}
	}
	if calls := sim.State().LinkCalls; calls != 2 { // one for each Redis
		if calls != 4 {
			t.Errorf("%d calls for 2 people in 2 ledgers", calls)
		}
	}
}

// --retry-failed does not retry held rows, because that may cost a second link.
func TestRun_RetriesHeldRowsOnRequest(t *testing.T) {
	t.Parallel()
	for _, redis := range []string{"embedded", "real"} {
		sim, setting := upstream(t, `{"rules":[{"match":"P-0002","fault":"no_url"}]}`)
		settings := backends(t, setting)[redis]
		dir := t.TempDir()
		in, out := write(t, filepath.Join(dir, "in.csv"), people(3)), filepath.Join(dir, "links.csv")
		run := func(wantCode int, status, says string, args ...string) {
			t.Helper()
			code, _, stderr := kyclink(t, settings, append([]string{"run", in, "-o", out, "--simulate"}, args...)...)
			if row := table(t, out)[1]; code != wantCode || row["status"] != status || !strings.Contains(stderr, says) {
				t.Fatalf("%s Redis: exit code %d, row %v\n%s", redis, code, row, stderr)
			}
		}
		run(2, "held", "--retry-held retries held rows, which may bill up to 1 second link")
		script := sim.Script()
		script.Rules = nil
		if err := sim.SetScript(script); err != nil {
			t.Fatal(err)
		}
		before := sim.State().LinkCalls
		run(2, "held", "2 created, 1 held")
		run(2, "held", "2 created, 1 held", "--retry-failed")
		if calls := sim.State().LinkCalls - before; calls != 0 {
			t.Errorf("%s Redis: %d calls without --retry-held", redis, calls)
		}
		run(0, "created", "--retry-held: retrying 1 held row; up to 1 link more may be created and billed", "--retry-held")
		if calls := sim.State().LinkCalls - before; calls != 1 || table(t, out)[1]["possible_duplicates"] != "1" {
			t.Errorf("%s Redis: %d calls, row %v", redis, calls, table(t, out)[1])
		}
		run(0, "created", "--retry-held: retrying 0 held rows", "--retry-held")
	}
}

func TestRun_NamesRepeatedRows(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, text, says string }{
		"two people under one id": {"in.csv", "application_id,full_name\nKL-0001,Ann Field\nKL-0001,Bob Reed\n",
			"kyclink: row 2 has the same id as row 1, KL-0001, but differs in full_name\n"},
		"ids that were rounded": {"in.csv", "name,application_id\nAnn,4.91702E+12\nBob,4.91702E+12\nCid,4.91702E+12\n",
			"kyclink: row 2 has the same id as row 1, 4.91702E+12, but differs in name\nkyclink: row 3 has"},
		"the same row twice":      {"in.csv", "application_id,name\nA-1,Ann\nA-2,Bob\nA-1,Ann\n", "row 3 has the same id as row 1, A-1\n"},
		"another generation":      {"in.csv", "application_id,generation\nA-1,1\nA-2,\nA-2,1\n", "row 3 has the same id as row 2, A-2, but differs in generation\n"},
		"NDJSON":                  {"in.ndjson", `{"application_id":"A-1","metadata":{"n":1}}` + "\n" + `{"application_id":"A-1"}` + "\n", "row 2 has the same id as row 1, A-1"},
		"more than can be listed": {"in.csv", "application_id\n" + strings.Repeat("A-1\n", 30), ": 30 created; 29 rows have the id of an earlier row and share its link"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			in := write(t, filepath.Join(dir, c.file), c.text)
			code, _, stderr := kyclink(t, nil, "run", in, "-o", filepath.Join(dir, "links.csv"), "--simulate")
			if code != 0 || !strings.Contains(stderr, c.says) {
				t.Errorf("exit code %d:\n%s\nwant %s", code, stderr, c.says)
			}
			if name == "more than can be listed" && (!strings.Contains(stderr, "kyclink: … and 19 rows more\n") || strings.Count(stderr, "\nkyclink: row ") != 10) {
				t.Errorf("the output is\n%s", stderr)
			}
		})
	}
}

// An OUT file is used as FILE: rows that have a link keep it, and no link is paid twice.
func TestRun_SkipsRowsThatHaveALink(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{".csv", ".ndjson"} {
		sim, setting := upstream(t, `{"rules":[{"match":"P-0002","fault":"code_5002"}]}`)
		settings := []string{setting}
		dir := t.TempDir()
		links, out := filepath.Join(dir, "links"+suffix), filepath.Join(dir, "out.csv")
		run := func(want int, says, in, out string, args ...string) {
			t.Helper()
			code, _, stderr := kyclink(t, settings, append([]string{"run", in, "-o", out, "--simulate"}, args...)...)
			if code != want || !strings.Contains(stderr, says) {
				t.Fatalf("%s: exit code %d:\n%s", suffix, code, stderr)
			}
		}
		run(2, "2 created, 1 failed", write(t, filepath.Join(dir, "in.csv"), people(3)), links)
		script := sim.Script()
		script.Rules = nil
		if err := sim.SetScript(script); err != nil {
			t.Fatal(err)
		}
		before := sim.State().LinkCalls
		run(0, "3 created (2 of them already had a link)", links, out)
		if calls := sim.State().LinkCalls - before; calls != 1 {
			t.Errorf("%s: %d calls for the one row without a link", suffix, calls)
		}
		had := table(t, out)
		if !strings.Contains(read(t, links), had[0]["url"]) || !strings.Contains(read(t, links), had[2]["link_id"]) || had[1]["url"] == "" || had[0]["attempts"] != "1" {
			t.Errorf("%s: the rows are %v", suffix, had)
		}
		run(0, "again.csv: 3 created (SIM", links, filepath.Join(dir, "again.csv"), "--again")
		if calls := sim.State().LinkCalls - before; calls != 4 {
			t.Errorf("%s: %d calls, with 3 for --again", suffix, calls)
		}
		// Later runs show the new links.
		run(0, "3 created", links, filepath.Join(dir, "again.csv"))
		if now := table(t, filepath.Join(dir, "again.csv")); now[0]["url"] == had[0]["url"] || sim.State().LinkCalls-before != 4 {
			t.Errorf("%s: a link that --again made is not shown", suffix)
		}
	}
}

// A run continues in a directory that was renamed or is mounted elsewhere.
func TestRun_ContinuesInAMovedFolder(t *testing.T) {
	t.Parallel()
	sim, setting := upstream(t, `{}`)
	for redis, settings := range backends(t, setting) {
		old, moved := filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "moved")
		if err := os.Mkdir(old, 0o700); err != nil {
			t.Fatal(err)
		}
		run := func(dir string) {
			t.Helper()
			in := write(t, filepath.Join(dir, "in.csv"), "application_id\n"+redis+"-1\n"+redis+"-2\n")
			if code, _, stderr := kyclink(t, settings, "run", in, "-o", filepath.Join(dir, "links.csv"), "--simulate"); code != 0 {
				t.Fatalf("%s Redis: exit code %d:\n%s", redis, code, stderr)
			}
		}
		run(old)
		calls := sim.State().LinkCalls
		journal := filepath.Join(old, "links.csv.journal")
		if redis == "embedded" { // with the batch name of earlier versions
			before, rest, _ := strings.Cut(read(t, journal), `"batch":"`)
			_, after, _ := strings.Cut(rest, `"`)
			write(t, journal, before+`"batch":"run:`+filepath.Join(old, "links.csv")+`"`+after)
		}
		if err := os.Rename(old, moved); err != nil {
			t.Fatal(err)
		}
		run(moved)
		if now := sim.State().LinkCalls; now != calls {
			t.Errorf("%s Redis: %d calls after the folder was moved", redis, now-calls)
		}
	}
}
