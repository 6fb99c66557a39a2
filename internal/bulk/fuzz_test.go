package bulk

import (
	"bytes"
	"encoding/csv"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

func fuzzInput(t *testing.T, dir, name string, data []byte) *Input {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := Open(path)
	if err != nil {
		if unusable := new(InputError); !errors.As(err, &unusable) {
			t.Fatalf("%T: %v", err, err)
		}
		return nil
	}
	return in
}

// checkRows holds for every file: rows are numbered, their lines ascend, and
// each is a valid request or has its reason.
func checkRows(t *testing.T, in *Input) {
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

// What csv.Reader reads as a whole, rows read one by one give too.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"A-1,x\nA-2,\"y\"\n", "\"a\r\nb\",c\r\n", "\"\"\"\",\n\n", "a\"b,c\nd,e", "\"open\na,b\n", "\"a\"\r\r\n", "\"a\"\r", "a\r\r\nb", ",\"\",\n\"\"",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte("application_id,note\n"), data...)
		in := fuzzInput(t, dir, "a.csv", data)
		defer in.Close()
		checkRows(t, in)

		whole := csv.NewReader(bytes.NewReader(data))
		whole.FieldsPerRecord = -1
		want, err := whole.ReadAll()
		if err != nil {
			return
		}
		s, err := in.scan()
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if !s.row() {
				t.Fatalf("%d rows, want %d", i, len(want))
			}
			got, err := readCSV(s.Bytes(), ',')
			for k := range got {
				got[k] = strings.ReplaceAll(got[k], "\r\n", "\n")
				want[i][k] = strings.ReplaceAll(want[i][k], "\r\n", "\n")
			}
			if err != nil || !slices.Equal(got, want[i]) {
				t.Fatalf("row %d: got %q, %v; want %q", i, got, err, want[i])
			}
		}
		if s.row() {
			t.Fatalf("one more row: %q", s.Text())
		}
	})
}

// Carried cells come through reading, writing and reading again as they are.
func FuzzCarriedCells(f *testing.F) {
	f.Add("a", "b\r\nc")
	f.Add("\r\n", "\"\n\r\r\n\"")
	f.Add(" x\r", "\\.")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, one, two string) {
		var buf bytes.Buffer
		w := csv.NewWriter(&buf)
		for _, record := range [][]string{{"one", "application_id", "two"}, {one, "A-1", two}, {two, "A-2", one}} {
			if err := w.Write(record); err != nil {
				t.Fatal(err)
			}
		}
		w.Flush()
		if buf.Len() > MaxRow {
			return
		}
		in := fuzzInput(t, dir, "a.csv", buf.Bytes())
		defer in.Close()
		out := filepath.Join(dir, "out.csv")
		export(t, in, out)
		again := fuzzInput(t, dir, "out.csv", []byte(read(t, out)))
		defer again.Close()
		for _, got := range [][]Row{rows(t, in), rows(t, again)} {
			if len(got) != 2 || got[0].cells[0] != one || got[0].cells[2] != two || got[1].cells[0] != two || got[1].cells[2] != one {
				t.Fatalf("got %+v, want %q and %q", got, one, two)
			}
		}
	})
}

func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{`{"application_id":"A-1"}`, "{\n}\n\n[]", `{"application_id":"A-1","status":1,"a":{"b":[null]}}`, "\xff", `{"":1}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		in := fuzzInput(t, dir, "a.ndjson", data)
		if in == nil {
			return
		}
		defer in.Close()
		checkRows(t, in)
		out := filepath.Join(dir, "out.ndjson")
		export(t, in, out)
		lines := strings.Split(strings.TrimSuffix(read(t, out), "\n"), "\n")
		all := rows(t, in)
		if len(all) == 0 {
			return
		}
		if len(lines) != len(all) {
			t.Fatalf("%d lines for %d rows", len(lines), len(all))
		}
		for _, line := range lines {
			if _, ok := object([]byte(line)); !ok {
				t.Fatalf("%q is no JSON object", line)
			}
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(strings.ReplaceAll(goodLine, "created\"", "calling\"")))
	f.Add([]byte(goodLine + `{"rec`))
	f.Add([]byte(strings.ReplaceAll(goodLine, `"bulk"`, `"bulk","content":{"metadata":{"a":"\u2028"}},"past":[{"run":1}]`)))
	f.Add([]byte("{}\n"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		out := filepath.Join(dir, "out.csv")
		if err := os.WriteFile(out+".journal", append([]byte(embeddedLine), data...), 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := OpenJournal(out, embedded, false)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		for r, err := range j.Records() {
			if err != nil {
				return
			}
			if raw, err := r.Encode(); err != nil || r.ApplicationID == "" {
				t.Fatalf("%+v cannot be put back: %q, %v", r, raw, err)
			}
		}
	})
}
