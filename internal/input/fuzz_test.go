package input

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/column"
)

// FuzzCSV checks that rows which are read one by one equal those of csv.Reader.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{
		"A-1,x\nA-2,\"y\"\n", "\"a\r\nb\",c\r\n", "\"\"\"\",\n\n", "a\"b,c\nd,e", "\"open\na,b\n", "\"a\"\r\r\n", "\"a\"\r", "a\r\r\nb", ",\"\",\n\"\"",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append([]byte("application_id,note\n"), data...)
		if in := openFuzzed(t, dir, "a.csv", data); in != nil {
			defer in.Close()
			checkRows(t, in)
		}
		data = withLF(data) // csv.Reader does not accept CR alone as a line break
		in := openFuzzed(t, dir, "b.csv", data)
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
				t.Fatalf("got %d rows, want %d", i, len(want))
			}
			got, err := parseRecord(s.Bytes(), ',')
			for k := range got {
				got[k] = strings.ReplaceAll(got[k], "\r\n", "\n")
				want[i][k] = strings.ReplaceAll(want[i][k], "\r\n", "\n")
			}
			if err != nil || !slices.Equal(got, want[i]) {
				t.Fatalf("row %d: got %q, %v; want %q", i, got, err, want[i])
			}
		}
		if s.row() {
			t.Fatalf("got another row %q, want %d", s.Text(), len(want))
		}
	})
}

// withLF replaces each CR without a LF by a LF.
func withLF(data []byte) []byte {
	crlf := []byte("\r\n")
	parts := bytes.Split(data, crlf)
	for i, part := range parts {
		parts[i] = bytes.ReplaceAll(part, []byte("\r"), []byte("\n"))
	}
	return bytes.Join(parts, crlf)
}

// FuzzLineBreaks checks that a text gives the same rows with each kind of line break.
func FuzzLineBreaks(f *testing.F) {
	for _, s := range []string{"A-1,x\nA-2,\"y\"\n", "\n\nA-1,\n", "A-1,\"\"\"\n\"\nA-2,\"\n", "A-1,\"\n" + strings.Repeat("x", 2000) + "\nA-2"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		text = "application_id,note\n" + strings.ReplaceAll(text, "\r", "")
		var all [3][]string
		for i, lineBreak := range []string{"\n", "\r\n", "\r"} {
			in := openFuzzed(t, dir, "a.csv", []byte(strings.ReplaceAll(text, "\n", lineBreak)))
			if in == nil {
				continue
			}
			checkRows(t, in)
			for _, row := range rows(t, in) {
				all[i] = append(all[i], fmt.Sprintf("%d@%d %q %v", row.Number, row.Line, strings.ReplaceAll(strings.Join(row.Cells, "|"), lineBreak, "\n"), row.Err == nil))
			}
			in.Close()
		}
		for _, other := range all[1:] {
			if !slices.Equal(all[0], other) {
				t.Fatalf("%q:\nwith LF    %q\nwith others %q", text, all[0], other)
			}
		}
	})
}

// FuzzHeader checks that each key has exactly one column, or that the file is refused.
func FuzzHeader(f *testing.F) {
	for _, s := range []string{"application_id", "sep=;\nApplication ID;x", "\"sep=|\"\r\nappId|\"a|b\"", "redirect_ulr,application-id", "\ufeffapplicationId\t\t", "application_id,application_id", "a;b\x00", "\"application_id\nx\""} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, header []byte) {
		in := openFuzzed(t, dir, "a.csv", append(header, "\nA-1\n"...))
		if in == nil {
			return
		}
		defer in.Close()
		if _, ok := in.keys.column(column.ID); !ok {
			t.Fatalf("%q: no column of %q is the id", header, in.columns)
		}
		if in.sepLine && !isDelimiter(in.delimiter) || !in.sepLine && !strings.ContainsRune(delimiters, rune(in.delimiter)) {
			t.Fatalf("%q: got delimiter %q", header, in.delimiter)
		}
		taken := make(map[int]bool)
		for _, c := range in.keys {
			if taken[c.column] || column.Key(in.columns[c.column]) != c.key {
				t.Fatalf("%q: column %q is the key %s, or has two keys", header, in.columns[c.column], c.key)
			}
			taken[c.column] = true
		}
		checkRows(t, in)
	})
}

// FuzzUTF16 checks that text in UTF-16 gives the same rows as in UTF-8.
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
		a, b := openFuzzed(t, dir, "a.csv", []byte(text)), openFuzzed(t, dir, "b.csv", wide)
		if (a == nil) != (b == nil) {
			t.Fatalf("%q: UTF-8 was opened as %v, UTF-16 as %v", text, a, b)
		}
		if a == nil {
			return
		}
		defer a.Close()
		defer b.Close()
		x, y := rows(t, a), rows(t, b)
		if !slices.EqualFunc(x, y, func(a, b Row) bool { return slices.Equal(a.Cells, b.Cells) && a.Line == b.Line }) {
			t.Fatalf("%q:\nin UTF-8  %+v\nin UTF-16 %+v", text, x, y)
		}
	})
}

func FuzzNDJSON(f *testing.F) {
	for _, s := range []string{`{"application_id":"A-1"}`, "{\n}\n\n[]", `{"application_id":"A-1","status":1,"a":{"b":[null]}}`, "\xff", `{"":1}`} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if in := openFuzzed(t, dir, "a.ndjson", data); in != nil {
			defer in.Close()
			checkRows(t, in)
		}
	})
}
