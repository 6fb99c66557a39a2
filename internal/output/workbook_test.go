package output

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/input"
)

// cellsOf returns the cells of the first sheet of a workbook.
func cellsOf(t testing.TB, path string) [][]string {
	t.Helper()
	book, err := excelize.OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cells, err := book.GetRows(book.GetSheetName(0))
	if err = errors.Join(err, book.Close()); err != nil {
		t.Fatal(err)
	}
	return cells
}

func TestResults_OfAWorkbookKeepCells(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.xlsx")
	const text = "application_id,n\n00123,=1+1\nA-2,\"a\r\nb, \"\" _x0041_ \"\nA-3,\" Zoë 愛 \"\n"
	in := openInspected(t, fixture.File(t, "a.csv", text), out, input.Options{})
	writeResults(t, in, out)
	want := `[["application_id" "n" "status" "link_id" "url" "expires_at" "reason" "attempts" "possible_duplicates"] ` +
		`["00123" "=1+1" "created" "L-1" "https://simulator.invalid/L-1?a=1&b=2" "2026-11-24T09:00:00Z" "" "1" "0"] ` +
		`["A-2" "a\r\nb, \" _x0041_ " "failed" "" "" "" "upstream_error: HTTP 500" "8" "7"] ` +
		`["A-3" " Zoë 愛 " "created" "L-1" "https://simulator.invalid/L-1?a=1&b=2" "2026-11-24T09:00:00Z" "" "1" "0"]]`
	if got := fmt.Sprintf("%q", cellsOf(t, out)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	again := openInspected(t, out, filepath.Join(dir, "again"), input.Options{})
	if got := fmt.Sprint(idsOf(rows(t, again))); got != "[00123 A-2 A-3]" || len(again.Warnings()) > 0 {
		t.Errorf("read again: got %s and warnings %v", got, again.Warnings())
	}
	for _, name := range []string{"again", "again.csv"} { // in the format of the input, and as CSV for Excel
		writeResults(t, again, filepath.Join(dir, name))
	}
	if err := os.Rename(filepath.Join(dir, "again"), filepath.Join(dir, "again.xlsx")); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", cellsOf(t, filepath.Join(dir, "again.xlsx"))); got != want {
		t.Errorf("written again: got %s", got)
	}
	if got := fixture.Read(t, filepath.Join(dir, "again.csv")); !strings.HasPrefix(got, "\ufeffapplication_id,n,status,") {
		t.Errorf("written as CSV: got %q", got)
	}
	lines := fixture.File(t, "a.ndjson", `{"application_id":"A-1","colour":"red"}`)
	writeResults(t, openInspected(t, lines, out, input.Options{}), out)
	if got := fmt.Sprintf("%q", cellsOf(t, out)); !strings.Contains(got, `"metadata" "colour" "status"`) || !strings.Contains(got, `"red" "created"`) {
		t.Errorf("written from NDJSON: got %s", got)
	}
	if left := temporaryFiles(t, dir); len(left) > 0 {
		t.Errorf("temporary files %q are left behind", left)
	}
}

// The rows are refused before any link is created.
func TestInspect_RefusesRowsThatAWorkbookCannotHold(t *testing.T) {
	for content, want := range map[string]string{
		"application_id,n\nA-1,\nA-2," + strings.Repeat("x", 32_768) + "\n": "row 2 does not fit: a cell holds at most 32767 characters; write a .csv file",
		"application_id,n\nA-1," + strings.Repeat("x", 32_767) + "\n":       "",
		"application_id,n\nA-1,a\x01b\n":                                    "row 1 does not fit: a workbook cannot hold control characters; write a .csv file",
		"application_id" + strings.Repeat(",x", 16_380) + "\nA-1\n":         "row 1 does not fit: a sheet holds at most 16384 columns; write a .csv file",
	} {
		in := open(t, fixture.File(t, "a.csv", content))
		_, err := Inspect("out.xlsx", in)
		refused := new(Error)
		if want == "" && err != nil || want != "" && (!errors.As(err, &refused) || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%.30q…: got %v\nwant %s", content, err, want)
		}
		if _, err := Inspect("out.csv", in); err != nil {
			t.Errorf("%.30q… as CSV: got %v, want no error", content, err)
		}
	}
	var many strings.Builder
	for i := range 1001 {
		fmt.Fprintf(&many, `{"application_id":"A-1","key %d":1}`+"\n", i)
	}
	in := open(t, fixture.File(t, "a.ndjson", many.String()))
	if _, err := Inspect("out.csv", in); err == nil || !strings.Contains(err.Error(), "more than 1000 different keys") {
		t.Errorf("1001 keys as CSV: got %v", err)
	}
	if _, err := Inspect("out.ndjson", in); err != nil {
		t.Errorf("1001 keys as NDJSON: got %v, want no error", err)
	}
}

func TestFile_KeepsCellsThroughAWorkbook(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		cell := rapid.StringOf(rapid.RuneFrom([]rune("ab,;\"'\n\r\t =_x0041é愛😀<>&]"))).Draw(rt, "cell")
		out := filepath.Join(dir, "a.xlsx")
		w, err := CreateFile(out, "")
		if err == nil {
			_, err = w.Write(record("application_id", "n", "end"))
		}
		if err == nil {
			_, err = w.Write(record("A-1", cell, "."))
		}
		if err = errors.Join(err, w.Commit()); err != nil {
			rt.Fatal(err)
		}
		in, err := input.Open(out, input.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		defer in.Close()
		if got := rows(t, in)[0].Cells[1]; got != cell {
			rt.Fatalf("%q became %q", cell, got)
		}
	})
}

// A record may be split between writes in any way, and OUT is unchanged before Commit.
func TestFile_OfAWorkbookAppearsOnCommit(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.xlsx")
	const text = "application_id,note,attempts\n007,\"a\nb\",3\n=1,,0\n"
	for _, size := range []int{1, 7, len(text)} {
		s, err := CreateFile(out, "")
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(text); at += size {
			if _, err := s.Write([]byte(text[at:min(at+size, len(text))])); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%q", cellsOf(t, out)); got != `[["application_id" "note" "attempts"] ["007" "a\nb" "3"] ["=1" "" "0"]]` {
			t.Errorf("in writes of %d bytes: got %s", size, got)
		}
	}
	before := fixture.Read(t, out)
	s, err := CreateFile(out, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	killed := temporaryFiles(t, dir)
	if err := s.Discard(); err != nil || len(killed) != 2 || fixture.Read(t, out) != before || len(temporaryFiles(t, dir)) > 0 {
		t.Errorf("discard: %v; got %q as temporary files before, and %q after it", err, killed, temporaryFiles(t, dir))
	}
	for _, left := range killed { // as a killed process leaves them
		if err := errors.Join(os.MkdirAll(left, 0o700), os.WriteFile(filepath.Join(left, "excelize-1"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = CreateFile(out, ""); err == nil {
		err = s.Discard()
	}
	if err != nil || len(temporaryFiles(t, dir)) > 0 {
		t.Errorf("create and discard: %v; temporary files %q are left behind", err, temporaryFiles(t, dir))
	}
}

// record encodes cells as a record of CSV.
func record(cells ...string) []byte {
	var line bytes.Buffer
	w := csv.NewWriter(&line)
	_ = w.Write(cells) // a write to memory cannot fail
	w.Flush()
	return line.Bytes()
}
