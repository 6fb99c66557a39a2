package bulk

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

func fuzzInput(t *testing.T, dir, name string, data []byte) *Input {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := Open(path, Reading{})
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
		if in := fuzzInput(t, dir, "a.csv", data); in != nil {
			defer in.Close()
			checkRows(t, in)
		}
		data = withLF(data) // csv.Reader knows no CR alone
		in := fuzzInput(t, dir, "b.csv", data)
		if in == nil {
			return
		}
		defer in.Close()
		whole := csv.NewReader(bytes.NewReader(data))
		whole.FieldsPerRecord = -1
		want, err := whole.ReadAll()
		if err != nil {
			return
		}
		want = slices.DeleteFunc(want[1:], func(cells []string) bool { return strings.Trim(strings.Join(cells, ""), " \t\r\n") == "" })
		s, err := in.firstRow()
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

// withLF makes LF of each CR that stands alone.
func withLF(data []byte) []byte {
	crlf := []byte("\r\n")
	parts := bytes.Split(data, crlf)
	for i, part := range parts {
		parts[i] = bytes.ReplaceAll(part, []byte("\r"), []byte("\n"))
	}
	return bytes.Join(parts, crlf)
}

// A text reads the same whichever its line breaks are.
func FuzzLineBreaks(f *testing.F) {
	for _, s := range []string{"A-1,x\nA-2,\"y\"\n", "\n\nA-1,\n", "A-1,\"\"\"\n\"\nA-2,\"\n", "A-1,\"\n" + strings.Repeat("x", 2000) + "\nA-2"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		text = "application_id,note\n" + strings.ReplaceAll(text, "\r", "")
		var all [3][]string
		for i, lineBreak := range []string{"\n", "\r\n", "\r"} {
			in := fuzzInput(t, dir, "a.csv", []byte(strings.ReplaceAll(text, "\n", lineBreak)))
			if in == nil {
				continue
			}
			checkRows(t, in)
			for _, row := range rows(t, in) {
				all[i] = append(all[i], fmt.Sprintf("%d@%d %q %v", row.Number, row.Line, strings.ReplaceAll(strings.Join(row.cells, "|"), lineBreak, "\n"), row.Err == nil))
			}
			in.Close()
		}
		for _, other := range all[1:] {
			if !slices.Equal(all[0], other) {
				t.Fatalf("%q\nreads %q\nand   %q", text, all[0], other)
			}
		}
	})
}

// Whatever a header is, each key has one column of the delimiter's cells, or the
// file is refused.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"application_id", "sep=;\nApplication ID;x", "\"sep=|\"\r\nappId|\"a|b\"", "redirect_ulr,application-id", "\ufeffapplicationId\t\t", "application_id,application_id", "a;b\x00", "\"application_id\nx\""} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, header []byte) {
		in := fuzzInput(t, dir, "a.csv", append(header, "\nA-1\n"...))
		if in == nil {
			return
		}
		defer in.Close()
		if _, ok := in.at.of(idKey); !ok {
			t.Fatalf("%q: no id among %q", header, in.columns)
		}
		if in.sepLine && !isDelimiter(in.delimiter) || !in.sepLine && !strings.ContainsRune(delimiters, rune(in.delimiter)) {
			t.Fatalf("%q: split by %q", header, in.delimiter)
		}
		taken := make(map[int]bool)
		for _, c := range in.at {
			if taken[c.column] || keyNames()[fold(in.columns[c.column])] != c.key {
				t.Fatalf("%q: %q is %s", header, in.columns[c.column], c.key)
			}
			taken[c.column] = true
		}
		checkRows(t, in)
	})
}

// Text in UTF-16 reads as the same text in UTF-8 does.
func FuzzUTF16(f *testing.F) {
	f.Add("A-1,Zoë 愛 😀\r\n", true)
	f.Add("\n\"\U0010ffff\",\"\n\"", false)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string, little bool) {
		if !utf8.ValidString(text) || strings.ContainsRune(text, utf8.RuneError) {
			return
		}
		text = "\ufeffapplication_id,note\n" + text
		wide := []byte{}
		for _, unit := range utf16.Encode([]rune(text)) {
			if little {
				wide = binary.LittleEndian.AppendUint16(wide, unit)
			} else {
				wide = binary.BigEndian.AppendUint16(wide, unit)
			}
		}
		a, b := fuzzInput(t, dir, "a.csv", []byte(text)), fuzzInput(t, dir, "b.csv", wide)
		if (a == nil) != (b == nil) {
			t.Fatalf("%q: %v and %v", text, a, b)
		}
		if a == nil {
			return
		}
		defer a.Close()
		defer b.Close()
		x, y := rows(t, a), rows(t, b)
		if !slices.EqualFunc(x, y, func(a, b Row) bool { return slices.Equal(a.cells, b.cells) && a.Line == b.Line }) {
			t.Fatalf("%q:\n%+v\n%+v", text, x, y)
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
