package input

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func open(t testing.TB, path string) *File {
	t.Helper()
	in, err := Open(path, Options{})
	return fixture.Opened(t, in, err)
}

func rows(t testing.TB, in *File) []Row { t.Helper(); return fixture.Collect(t, in.Rows()) }

func compressed(t *testing.T, suffix, text string) string {
	t.Helper()
	var out bytes.Buffer
	switch suffix {
	case ".gz":
		w := gzip.NewWriter(&out)
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	case ".zst":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
	default:
		return text
	}
	return out.String()
}

func idsOf(all []Row) (list []string) {
	for _, row := range all {
		list = append(list, row.Request.ApplicationID)
	}
	return list
}

// openFuzzed opens a file with any content; nil if it is unusable.
func openFuzzed(t *testing.T, dir, name string, data []byte) *File {
	t.Helper()
	path := filepath.Join(dir, name)
	fixture.Must(t, os.WriteFile(path, data, 0o600))
	in, err := Open(path, Options{})
	if err == nil {
		return in
	}
	if unusable := new(Error); !errors.As(err, &unusable) {
		t.Fatalf("%T: %v", err, err)
	}
	return nil
}

// checkRows holds for every file: rows are numbered, their lines ascend, and
// each is a valid request or has its reason.
func checkRows(t *testing.T, in *File) {
	t.Helper()
	line := 0
	for i, row := range rows(t, in) {
		if row.Number != i+1 || row.Line <= line {
			t.Fatalf("row %d at line %d after line %d", row.Number, row.Line, line)
		}
		line = row.Line
		invalid := new(tasks.InvalidError)
		if row.Err != nil && !errors.As(row.Err, &invalid) {
			t.Fatalf("row %d: %T", row.Number, row.Err)
		}
		if row.Err == nil && row.Request.Validate() != nil {
			t.Fatalf("row %d is not valid: %v", row.Number, row.Request.Validate())
		}
	}
}

// anyRow accepts every row.
func anyRow(Row) error { return nil }
