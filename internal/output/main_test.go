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
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/tasks"
)

func open(t testing.TB, path string) *input.File {
	t.Helper()
	in, err := input.Open(path, input.Options{})
	return fixture.Opened(t, in, err)
}

func rows(t testing.TB, in *input.File) []input.Row { t.Helper(); return fixture.Collect(t, in.Rows()) }

func idsOf(all []input.Row) (list []string) {
	for _, row := range all {
		list = append(list, row.Request.ApplicationID)
	}
	return list
}

// openFuzzed opens a file with any content; nil if it is unusable.
func openFuzzed(t *testing.T, dir, name string, data []byte) *input.File {
	t.Helper()
	path := filepath.Join(dir, name)
	fixture.Must(t, os.WriteFile(path, data, 0o600))
	in, err := input.Open(path, input.Options{})
	if err == nil {
		return in
	}
	if unusable := new(input.Error); !errors.As(err, &unusable) {
		t.Fatalf("%T: %v", err, err)
	}
	return nil
}

var update = flag.Bool("update", false, "rewrite the golden files")

// writeResults writes OUT with an invented link for every row that can have one.
func writeResults(t testing.TB, in *input.File, out string) {
	t.Helper()
	o, err := Create(out, in, false)
	fixture.Must(t, err)
	for row, err := range in.Rows() {
		fixture.Must(t, err)
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
		fixture.Must(t, o.Write(row, l))
	}
	fixture.Must(t, o.Commit())
	fixture.Must(t, o.Discard())
}

// temporaryFiles lists the temporary files of outputs.
func temporaryFiles(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, ".kyclink-*"))
	fixture.Must(t, err)
	return paths
}

// openInspected opens a file as run does.
func openInspected(t testing.TB, path, out string, o input.Options) *input.File {
	t.Helper()
	in, err := input.Open(path, o)
	fixture.Opened(t, in, err)
	_, err = Inspect(out, in)
	fixture.Must(t, err)
	return in
}
