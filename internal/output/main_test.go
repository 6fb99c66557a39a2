package output

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

func file(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *input.File {
	t.Helper()
	in, err := input.Open(path, input.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	return in
}

func rows(t testing.TB, in *input.File) []input.Row {
	t.Helper()
	var all []input.Row
	for row, err := range in.Rows() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, row)
	}
	return all
}

func read(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func idsOf(all []input.Row) (list []string) {
	for _, row := range all {
		list = append(list, row.Request.ApplicationID)
	}
	return list
}

func openFuzzed(t *testing.T, dir, name string, data []byte) *input.File {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := input.Open(path, input.Options{})
	if err != nil {
		if unusable := new(input.Error); !errors.As(err, &unusable) {
			t.Fatalf("%T: %v", err, err)
		}
		return nil
	}
	return in
}

var update = flag.Bool("update", false, "rewrite the golden files")

// export writes OUT with an invented link for every row that can have one.
func writeResults(t testing.TB, in *input.File, out string) {
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
			l = column.Rejection(fault.Invalid, row.Err.Error(), tasks.Link{})
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

// temporaryFiles lists the temporary files of outputs.
func temporaryFiles(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ".kyclink-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

// inspected opens a file as run does.
func openInspected(t testing.TB, path, out string, o input.Options) *input.File {
	t.Helper()
	in, err := input.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if _, err := Inspect(out, in); err != nil {
		t.Fatal(err)
	}
	return in
}
