package output

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

func TestResults_MatchGoldenFiles(t *testing.T) {
	for _, c := range []struct{ in, out, golden string }{
		{"people.csv", "out.csv", "csv-csv.golden"},
		{"people.csv", "out.NDJSON", "csv-ndjson.golden"},
		{"people.ndjson", "out.jsonl", "ndjson-ndjson.golden"},
		{"people.ndjson", "out.csv", "ndjson-csv.golden"},
		{"people.csv", "out", "csv-csv.golden"},
		{"people.ndjson", "out", "ndjson-ndjson.golden"},
	} {
		t.Run(c.in+" to "+c.out, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), c.out)
			writeResults(t, open(t, filepath.Join("testdata", c.in)), out)
			golden := filepath.Join("testdata", c.golden)
			if *update {
				if err := os.WriteFile(golden, []byte(fixture.Read(t, out)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := fixture.Read(t, out), fixture.Read(t, golden); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestResults_ReplaceTheFileOnlyOnCommit(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	// Another file with a similar name is not touched.
	if err := os.WriteFile(out+".tmp", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\n"))
	o, err := Create(out, in, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Write(rows(t, in)[0], tasks.Link{Status: tasks.Created}); err != nil {
		t.Fatal(err)
	}
	if got := temporaryFiles(t, dir); len(got) != 1 || fixture.Mode(t, got[0]) != 0o600 {
		t.Errorf("got temporary files %q, want one with mode 600", got)
	}
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
	if got := fixture.Read(t, out); got != "before" {
		t.Errorf("after Discard, OUT contains %q", got)
	}
	writeResults(t, in, out)
	if got := fixture.Read(t, out); !strings.HasPrefix(got, "application_id,status,") {
		t.Errorf("after Commit, OUT contains %q", got)
	}
	if got := fixture.Mode(t, out); got != 0o600 {
		t.Errorf("OUT has mode %o, want 600", got)
	}
	if got := fixture.Read(t, out+".tmp"); got != "precious" {
		t.Errorf("the other file contains %q, want it unchanged", got)
	}
	if left := temporaryFiles(t, dir); len(left) > 0 {
		t.Errorf("temporary files %q are left behind", left)
	}
}

// The next process that writes the same OUT removes the file. It does not follow a link
// in its place, and leaves the files of other outputs.
func TestCreate_RemovesFilesOfKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\n"))
	begin := func(out string) *Results {
		t.Helper()
		o, err := Create(out, in, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = o.file.file.Close() })
		return o
	}
	killed, other := begin(out).file.file.Name(), begin(out+"-other.csv").file.file.Name()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(killed), os.Symlink(victim, killed)); err != nil {
		t.Fatal(err)
	}
	o := begin(out)
	if got, want := temporaryFiles(t, dir), []string{other, o.file.file.Name()}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("got temporary files %q, want %q", got, want)
	}
	if got := fixture.Read(t, victim); got != "mine" {
		t.Errorf("the target of the link contains %q, want it unchanged", got)
	}
}

func TestResults_LeaveNothingWhenCommitFails(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	o, err := Create(out, open(t, fixture.File(t, "a.csv", "application_id\nA-1\n")), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(out, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var failed *Error
	if err := o.Commit(); !errors.As(err, &failed) {
		t.Errorf("got %v, want an Error", err)
	}
	if left := temporaryFiles(t, dir); len(left) > 0 {
		t.Errorf("temporary files %q are left behind", left)
	}
}

func TestResults_CutALongInvalidLine(t *testing.T) {
	in := open(t, fixture.File(t, "a.ndjson", strings.Repeat("ä愛", 1<<20/4)))
	out := filepath.Join(t.TempDir(), "out.ndjson")
	writeResults(t, in, out)
	var got struct{ Input string }
	if err := json.Unmarshal([]byte(fixture.Read(t, out)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Input) > maxQuoted || len(got.Input) < maxQuoted-4 || slices.Contains([]rune(got.Input), '\ufffd') {
		t.Errorf("got %d bytes of the line, which end in %q; want at most %d, cut between characters", len(got.Input), got.Input[max(0, len(got.Input)-12):], maxQuoted)
	}
}

// OUT has the dialect of an input of the same format, and loses nothing in another one.
func TestResults_KeepTheInputsDialect(t *testing.T) {
	const end = "status,link_id,url,expires_at,reason,attempts,possible_duplicates\n"
	const first = ",created,L-1,https://simulator.invalid/L-1?a=1&b=2,2026-11-24T09:00:00Z,,1,0\n"
	semicolons := func(s string) string { return strings.ReplaceAll(s, ",", ";") }
	for _, c := range []struct {
		name, content string
		options       input.Options
		out, want     string
	}{
		{"a.csv", "application_id,n\nA-1,x\n", input.Options{}, "out.csv", "application_id,n," + end + "A-1,x" + first},
		{"a.csv", "\ufeffapplication_id,n\r\nA-1,Zoë\r\n", input.Options{}, "out.csv", "\ufeffapplication_id,n," + end + "A-1,Zoë" + first},
		{"a.csv", "\ufeffapplication_id;n\r\nA-1;Zoë\r\n", input.Options{}, "out", "\ufeff" + semicolons("application_id,n,"+end+"A-1,Zoë"+first)},
		{"a.csv", "sep=;\r\napplication_id;n\r\nA-1;\"a;b\"\r\n", input.Options{}, "out.csv", "sep=;\n" + semicolons("application_id,n,"+end) + `A-1;"a;b"` + semicolons(first)},
		{"a.csv", "application_id,n\nA-1,Zo\xeb\n", input.Options{Encoding: "windows-1252"}, "out.csv", "\ufeffapplication_id,n," + end + "A-1,Zoë" + first},
		{"a.csv", "\ufeffapplication_id;n\nA-1;x\n", input.Options{}, "out.ndjson",
			`{"application_id":"A-1","n":"x","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.csv", "Application ID,Expiry Time,documentOptional,note,\nA-1,60,TRUE,,\n", input.Options{}, "out.ndjson",
			`{"Application ID":"A-1","Expiry Time":60,"documentOptional":true,"note":"","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.csv", "application_id,,n,\nA-1,,x,\n,,,\n", input.Options{}, "out.csv", "application_id,n," + end + "A-1,x" + first},
		{"a.csv", "application_id,,n,\nA-1,,x,y\n", input.Options{}, "out.csv", "application_id,n,," + end + "A-1,x,y" + first},
		{"a.csv", "application_id,,n,\nA-1,,x,y\n", input.Options{}, "out.ndjson",
			`{"application_id":"A-1","n":"x","column 4":"y","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.ndjson", `{"application_id":"A-1","b":{"c":1},"a":"x"}`, input.Options{}, "out.csv",
			"application_id,redirect_url,expiry_minutes,document_optional,workflow_id,lane,callback_url,not_after,generation,metadata,b,a," + end +
				`A-1,,,,,,,,,,"{""c"":1}",x` + first},
		{"a.ndjson", `{"Ref":"A-1","application_id":"x"}`, input.Options{Columns: map[string]string{"application_id": "Ref"}, Carry: []string{"application_id"}}, "out.csv",
			"Ref,redirect_url,expiry_minutes,document_optional,workflow_id,lane,callback_url,not_after,generation,metadata,application_id," + end +
				`A-1,,,,,,,,,,x` + first},
	} {
		out := filepath.Join(t.TempDir(), c.out)
		writeResults(t, openInspected(t, fixture.File(t, c.name, c.content), out, c.options), out)
		if got := fixture.Read(t, out); got != c.want {
			t.Errorf("%q to %s:\n got %q\nwant %q", c.content, c.out, got, c.want)
		}
	}
}
