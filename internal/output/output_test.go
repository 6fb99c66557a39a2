package output

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
)

func TestResolve_FollowsSymbolicLinks(t *testing.T) {
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
		if got, err := Resolve(filepath.Join(dir, name)); err != nil || got != filepath.Join(dir, want) {
			t.Errorf("%s: got %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"round", "lost"} {
		var refused *Error
		if got, err := Resolve(filepath.Join(dir, name)); !errors.As(err, &refused) {
			t.Errorf("%s: got %q, %v; want an Error", name, got, err)
		}
	}
	t.Chdir(dir)
	if got, err := Resolve("link"); err != nil || got != "is.csv" {
		t.Errorf("a relative link: got %q, %v; want is.csv", got, err)
	}
}

func TestCheck_RefusesFilesThatCannotBeWritten(t *testing.T) {
	path := fixture.File(t, "a.csv", "application_id,note,note\nA-1,,\n")
	dir := filepath.Dir(path)
	link := filepath.Join(dir, "link.csv")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	in := open(t, path)
	for out, want := range map[string]string{
		dir + "/out.csv":      "",
		dir + "/out":          "",
		dir + "/out.csv.gz":   "the rows cannot be compressed; name a file that ends in .csv, .xlsx, .ndjson or .jsonl",
		dir + "/out.ndjson":   `NDJSON cannot hold two members named "note"; rename a column of the input, or write a .csv file`,
		dir:                   "not a regular file; name another file",
		path:                  "this is the input file; name another file",
		link:                  "this is the input file; name another file",
		dir + "/none/out.csv": "its directory cannot be used: no such file or directory; create it first",
		path + "/out.csv":     "its directory cannot be used; create it first",
	} {
		err := Check(out, in)
		if want == "" {
			if err != nil {
				t.Errorf("%s: got %v, want no error", out, err)
			}
			continue
		}
		var refused *Error
		if !errors.As(err, &refused) || err.Error() != "write "+out+": "+want {
			t.Errorf("%s:\n got %v\nwant %s", out, err, want)
		}
		if _, err := Create(out, in, false); err == nil {
			t.Errorf("%s: Create returned no error", out)
		}
	}
}

func TestCheckName_RefusesOtherSuffixes(t *testing.T) {
	for name, want := range map[string]string{
		"out": "", "out.csv": "", "out.XLSX": "", "a.b/out": "", "out.ndjson": "", "out.jsonl": "",
		"out.xls": "files that end in .xls cannot be written; name one that ends in .csv, .xlsx, .ndjson or .jsonl",
		"out.txt": "files that end in .txt", "links.2026": "files that end in .2026", "out.csv.gz": "the rows cannot be compressed",
	} {
		if err := CheckName(name); (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), "write "+name+": "+want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	for _, c := range []struct {
		name   string
		format input.Format
		want   string
	}{
		{"out.csv", "", ""}, {"out.csv.gz", "", ""}, {"out.xlsx", "", ""}, {"out", input.CSV, ""}, {"out.txt", input.CSV, ""}, {"out.csv", input.CSV, ""},
		{"out.txt", "", "unknown suffix"}, {"out", "", "unknown suffix"},
		{"out.csv", input.NDJSON, "the name ends like csv, but --format is ndjson"}, {"out.xlsx.gz", "", "a workbook is compressed already"}, {"out.zst", input.XLSX, "a workbook is compressed already"},
	} {
		if err := CheckFile(c.name, c.format); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in format %q: got %v, want %q", c.name, c.format, err, c.want)
		}
	}
}
