package bulk

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

var update = flag.Bool("update", false, "write the golden files anew")

// export writes OUT with an invented link for every row that can have one.
func export(t testing.TB, in *Input, out string) {
	t.Helper()
	o, err := Create(out, in, false)
	if err != nil {
		t.Fatal(err)
	}
	for row, err := range in.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		l := tasks.Link{
			Status: tasks.Created, LinkID: "L-1", URL: "https://simulator.invalid/L-1?a=1&b=2",
			ExpiresAt: time.Date(2026, 11, 24, 10, 0, 0, 0, time.FixedZone("", 3600)), Attempts: 1,
		}
		switch {
		case row.Err != nil:
			l = Rejection(fault.Invalid, row.Err.Error(), tasks.Link{})
		case row.Number%2 == 0:
			l = tasks.Link{Status: tasks.Failed, Reason: string(fault.UpstreamError), Message: "HTTP 500", Attempts: 8, PossibleDuplicates: 7}
		}
		if err := o.Write(row, l); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
}

func TestGolden(t *testing.T) {
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
			export(t, open(t, filepath.Join("testdata", c.in)), out)
			golden := filepath.Join("testdata", c.golden)
			if *update {
				if err := os.WriteFile(golden, []byte(read(t, out)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := read(t, out), read(t, golden); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// A file goes from one format to the other and back, and asks for the same.
func TestFormatsSayTheSame(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(drawRequest), 1, 5).Draw(rt, "requests")
		var text strings.Builder
		for _, r := range want {
			line, err := json.Marshal(r)
			if err != nil {
				rt.Fatal(err)
			}
			text.Write(append(line, '\n'))
		}
		in := fuzzInput(t, dir, "a.ndjson", []byte(text.String()))
		defer in.Close()
		table := filepath.Join(dir, "b.csv")
		export(t, in, table)
		back := fuzzInput(t, dir, "b.csv", []byte(read(t, table)))
		defer back.Close()
		lines := filepath.Join(dir, "c.ndjson")
		export(t, back, lines)
		for i, row := range rows(t, back) {
			r := want[i]
			if r.Lane == "" {
				r.Lane = tasks.Bulk
			}
			if row.Err != nil || !reflect.DeepEqual(row.Request, r) {
				rt.Fatalf("as CSV: got %+v, %v; want %+v", row.Request, row.Err, r)
			}
		}
		for i, line := range strings.Split(strings.TrimSpace(read(t, lines)), "\n") {
			members, _ := object([]byte(line))
			kept := make(map[string]json.RawMessage)
			for _, m := range members {
				if !isResult(m.key) {
					kept[m.key] = m.value
				}
			}
			again, err := json.Marshal(kept)
			if err != nil {
				rt.Fatal(err)
			}
			if got, err := tasks.ParseRequest(again); err != nil || !reflect.DeepEqual(got, want[i]) {
				rt.Fatalf("as JSON again: got %+v, %v; want %+v", got, err, want[i])
			}
		}
	})
}

func drawRequest(t *rapid.T) tasks.Request {
	optional := func(name string, values ...string) string {
		return rapid.SampledFrom(append(values, "")).Draw(t, name)
	}
	r := tasks.Request{
		ApplicationID: rapid.StringMatching(`[-A-Za-z0-9"',;:äß愛]{1,20}`).Filter(func(id string) bool { return notAnID(id) == "" }).Draw(t, "id"),
		RedirectURL:   optional("redirect", "https://shop.example/done?a=1&b=<2>", `https://shop.example/"x",y`),
		ExpiryMinutes: rapid.IntRange(0, tasks.MaxExpiryMinutes).Draw(t, "expiry"),
		WorkflowID:    optional("workflow", "w-1", `w"2"`),
		Lane:          tasks.Lane(optional("lane", "bulk", "interactive")),
		CallbackURL:   optional("callback", "https://shop.example/hooks"),
		Generation:    rapid.IntRange(0, tasks.MaxGeneration).Draw(t, "generation"),
	}
	if rapid.Bool().Draw(t, "has option") {
		b := rapid.Bool().Draw(t, "option")
		r.DocumentOptional = &b
	}
	if rapid.Bool().Draw(t, "has deadline") {
		r.NotAfter = time.Unix(rapid.Int64Range(1e9, 4e9).Draw(t, "deadline"), 0).UTC()
	}
	if m := optional("metadata", `{"a":"b\n\"c\"","n":1.50}`, `{}`, `{"愛":[null,true]}`); m != "" {
		r.Metadata = json.RawMessage(m)
	}
	return r
}

func TestOutputIsWholeOrNotThere(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	if err := os.WriteFile(out, []byte("before"), 0o644); err != nil {
		t.Fatal(err)
	}
	// A person's own file beside it is nobody's to touch.
	if err := os.WriteFile(out+".tmp", []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	in := open(t, file(t, "a.csv", "application_id\nA-1\n"))
	o, err := Create(out, in, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Write(rows(t, in)[0], tasks.Link{Status: tasks.Created}); err != nil {
		t.Fatal(err)
	}
	if got := beside(t, dir); len(got) != 1 || mode(t, got[0]) != 0o600 {
		t.Errorf("prepared as %q", got)
	}
	if err := o.Discard(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, out); got != "before" {
		t.Errorf("after Discard OUT holds %q", got)
	}
	export(t, in, out)
	if got := read(t, out); !strings.HasPrefix(got, "application_id,status,") {
		t.Errorf("after Commit OUT holds %q", got)
	}
	if got := mode(t, out); got != 0o600 {
		t.Errorf("OUT has mode %o", got)
	}
	if got := read(t, out+".tmp"); got != "precious" {
		t.Errorf("another file was written: %q", got)
	}
	if left := beside(t, dir); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// beside lists what is being written.
func beside(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ".kyclink-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// What a killed run left is removed by the next run of the same OUT, not
// followed; another OUT's is left to that one.
func TestCreateClearsAway(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	in := open(t, file(t, "a.csv", "application_id\nA-1\n"))
	begin := func(out string) *Output {
		t.Helper()
		o, err := Create(out, in, false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = o.file.Close() })
		return o
	}
	killed, other := begin(out).file.Name(), begin(out+"-other.csv").file.Name()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(killed), os.Symlink(victim, killed)); err != nil {
		t.Fatal(err)
	}
	o := begin(out)
	if got, want := beside(t, dir), []string{other, o.file.Name()}; !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		t.Errorf("beside OUT lie %q, want %q", got, want)
	}
	if got := read(t, victim); got != "mine" {
		t.Errorf("what a link pointed to holds %q", got)
	}
}

func TestTarget(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(filepath.Join(dir, "deep", "sub"), 0o700), os.WriteFile(filepath.Join(dir, "is.csv"), nil, 0o600))
	for name, to := range map[string]string{
		"link": "is.csv", "chain": "link", "new": filepath.Join(dir, "deep", "not-yet.csv"), "sub": "deep/sub", "up": "sub/../x.csv",
		"round": "about", "about": "round", "lost": "none/x.csv",
	} {
		err = errors.Join(err, os.Symlink(to, filepath.Join(dir, name)))
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"is.csv": "is.csv", "absent": "absent", "link": "is.csv", "chain": "is.csv", "new": "deep/not-yet.csv", "up": "deep/x.csv", "none/x.csv": "none/x.csv",
	} {
		if got, err := Target(filepath.Join(dir, name)); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"round", "lost"} {
		var refused *OutputError
		if got, err := Target(filepath.Join(dir, name)); !errors.As(err, &refused) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	t.Chdir(dir)
	if got, err := Target("link"); err != nil || got != "is.csv" {
		t.Errorf("a relative one: %q, %v", got, err)
	}
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestCommitThatFails(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.csv")
	o, err := Create(out, open(t, file(t, "a.csv", "application_id\nA-1\n")), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(out, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	var failed *OutputError
	if err := o.Commit(); !errors.As(err, &failed) {
		t.Errorf("got %v", err)
	}
	if left := beside(t, dir); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestCheck(t *testing.T) {
	path := file(t, "a.csv", "application_id,note,note\nA-1,,\n")
	dir := filepath.Dir(path)
	link := filepath.Join(dir, "link.csv")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	in := open(t, path)
	for out, want := range map[string]string{
		dir + "/out.csv":      "",
		dir + "/out":          "",
		dir + "/out.csv.gz":   "cannot be written compressed; name a file that ends in .csv, .xlsx, .ndjson or .jsonl",
		dir + "/out.ndjson":   `cannot hold two members of the name "note"; rename a column of the input, or write a .csv`,
		dir:                   "is no regular file; name another",
		path:                  "is the input file; name another",
		link:                  "is the input file; name another",
		dir + "/none/out.csv": "lies in a directory that cannot be used; make it first: no such file or directory",
		path + "/out.csv":     "lies in a directory that cannot be used; make it first",
	} {
		err := Check(out, in)
		if want == "" {
			if err != nil {
				t.Errorf("%s: %v", out, err)
			}
			continue
		}
		var refused *OutputError
		if !errors.As(err, &refused) || err.Error() != "output file "+out+" "+want {
			t.Errorf("%s:\n got %v\nwant %s", out, err, want)
		}
		if _, err := Create(out, in, false); err == nil {
			t.Errorf("%s: created all the same", out)
		}
	}
}

func TestLongBrokenLineIsShownCut(t *testing.T) {
	in := open(t, file(t, "a.ndjson", strings.Repeat("ä愛", MaxRow/4)))
	out := filepath.Join(t.TempDir(), "out.ndjson")
	export(t, in, out)
	var got struct{ Input string }
	if err := json.Unmarshal([]byte(read(t, out)), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Input) > maxShown || len(got.Input) < maxShown-4 || slices.Contains([]rune(got.Input), '\ufffd') {
		t.Errorf("%d bytes shown: …%q", len(got.Input), got.Input[len(got.Input)-12:])
	}
}
