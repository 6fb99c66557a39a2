package input

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

func TestRows_HaveNumbersLinesAndProblems(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxRow)
	for _, c := range []struct {
		name, file, content string
		want                []string // number@line id, or the error
	}{
		{"plain", "a.csv", "application_id\nA-1\nA-2\n", []string{"1@2 A-1", "2@3 A-2"}},
		{"no line break at the end", "a.csv", "application_id,n\nA-1,2", []string{"1@2 A-1"}},
		{"CR at the end", "a.csv", "n,application_id\r\n2,A-1\r", []string{"1@2 A-1"}},
		{"mark, quoted header, capital suffix", "a.CSV", "\ufeff\"application_id\"\nA-1\n", []string{"1@2 A-1"}},
		{"blank lines", "a.csv", "\n\r\napplication_id\n\nA-1\n\r\n\nA-2\n\n", []string{"1@5 A-1", "2@8 A-2"}},
		{"line breaks in cells", "a.csv", "n,application_id\n\"a\nb\r\nc\",A-1\n\"\n\",A-2\n", []string{"1@2 A-1", "2@5 A-2"}},
		{"quoted last cell at the end", "a.csv", "application_id,n\nA-1,\"a\nb\"", []string{"1@2 A-1"}},
		{"cells", "a.csv", "application_id,n\nA-1\nA-2,,\nA-3,\nA-4,,x\nA-5;x\n", []string{
			"1@2 A-1", "2@3 A-2", "3@4 A-3", "4@5 line 5 has 3 cells, the header has 2",
			"5@6 line 6 has 1 cell, the header has 2: is it separated by ';', not by commas?"}},
		{"CR alone", "a.csv", "application_id,n\rA-1,\"a\rb\"\rA-2,\r\rA-3,\r", []string{"1@2 A-1", "2@4 A-2", "3@6 A-3"}},
		{"line breaks of all kinds", "a.csv", "application_id\r\nA-1\rA-2\nA-3\r\r\nA-4", []string{"1@2 A-1", "2@3 A-2", "3@4 A-3", "4@6 A-4"}},
		{"rows of blanks", "a.csv", ",,\napplication_id,n,\n \nA-1,2,\n,,\n\t, ,\n\"\",\" \",\n\"\"\"\",,\n", []string{
			"1@4 A-1", "2@8 \""}},
		{"bare quote", "a.csv", "application_id,n\nA-1,a\"b\nA-2,\n", []string{
			`1@2 line 2 has a quote (") in the middle of a cell; quote the whole cell and double the quotes in it`, "2@3 A-2"}},
		{"text after a quoted cell", "a.csv", "application_id,n\nA-1,\"a\"b\nA-2,\n", []string{
			`1@2 line 2 has a quoted cell without a proper end; double the quotes (") in it`, "2@3 A-2"}},
		{"a quote too many costs one row", "a.csv", "application_id,n\nA-1,\"a\nA-2,\nA-3,\"fine\"\nA-4,\n", []string{
			`1@2 line 2 has a quoted cell without a proper end; double the quotes (") in it`, "2@3 A-2", "3@4 A-3", "4@5 A-4"}},
		{"never closed", "a.csv", "application_id,n\nA-1,\"a\nA-2,\n", []string{
			`1@2 line 2 has a quoted cell without a proper end; double the quotes (") in it`, "2@3 A-2"}},
		{"all problems", "a.csv", "application_id,expiry_minutes,document_optional\n,0,maybe\n", []string{
			"1@2 expiry_minutes: must be at least 1; document_optional: must be true or false; application_id: is required"}},
		{"not UTF-8", "a.csv", "application_id,n\nA\xff,\nA-2,\xff\n", []string{
			"1@2 application_id: is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8",
			"2@3 n: is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"}},
		{"too long", "a.csv", "application_id,n\nA-1," + long + "\nA-2,\n\"" + long + "\"\nA-4,\n", []string{
			"1@2 line 2 is longer than 1048576 bytes", "2@3 A-2", "3@4 line 4 is longer than 1048576 bytes", "4@5 A-4"}},
		{"too long at the end", "a.csv", "application_id\n" + long, []string{"1@2 line 2 is longer than 1048576 bytes"}},
		{"a quoted cell too long for a row", "a.csv", "application_id,n\nA-1,\"a\nA-2,\n" + strings.Repeat("A-3,"+long[:9995]+"\n", maxRow/9000), append([]string{
			`1@2 line 2 has a quoted cell without a proper end; double the quotes (") in it`, "2@3 A-2"}, rowsFrom(3, maxRow/9000, "A-3")...)},

		{"ndjson", "a.ndjson", `{"application_id":"A-1"}` + "\n" + `{"application_id":"A-2"}`, []string{"1@1 A-1", "2@2 A-2"}},
		{"jsonl, mark, CRLF, blank lines", "a.jsonl", "\ufeff\r\n" + `{"application_id":"A-1"}` + "\r\n\n \t\n" + `{"application_id":"A-2"}` + "\r\n",
			[]string{"1@2 A-1", "2@5 A-2"}},
		{"broken lines", "a.ndjson", "{\n[]\nnull\n{\"application_id\":\"A-1\"} x\n\xff\n{\"application_id\":\"A-2\"}", []string{
			"1@1 line 1 is not valid JSON: unexpected end of input", "2@2 line 2 is not a JSON object", "3@3 line 3 is not a JSON object",
			"4@4 line 4 has text after the JSON object", "5@5 line 5 is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8", "6@6 A-2"}},
		{"unknown key", "a.ndjson", `{"application_id":"A-1","colour":1,"lane":"fast"}`, []string{"1@1 lane: must be interactive or bulk"}},
		{"line too long", "a.ndjson", long + "\n" + `{"application_id":"A-2"}`, []string{"1@1 line 1 is longer than 1048576 bytes", "2@2 A-2"}},
		{"CR alone, as JSON", "a.ndjson", "{\"application_id\":\"A-1\"}\r{\"application_id\":\"A-2\"}\r", []string{"1@1 A-1", "2@2 A-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := open(t, fixture.File(t, c.file, c.content))
			for pass := range 2 {
				var got []string
				for _, row := range rows(t, in) {
					text := row.Request.ApplicationID
					if row.Err != nil {
						text = row.Err.Error()
						if invalid := new(tasks.InvalidError); !errors.As(row.Err, &invalid) {
							t.Errorf("row %d: got error of type %T, want an InvalidError", row.Number, row.Err)
						}
					}
					got = append(got, fmt.Sprintf("%d@%d %s", row.Number, row.Line, text))
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Fatalf("reading %d:\n got %.300q\nwant %.300q", pass+1, got, c.want)
				}
			}
		})
	}
}

func rowsFrom(from, n int, id string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%d@%d %s", from+i, from+i+1, id))
	}
	return all
}

func TestRows_HaveTheSameRequestInEachFormat(t *testing.T) {
	t.Parallel()
	yes := true
	want := tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 60, DocumentOptional: &yes, Lane: tasks.Bulk, Metadata: []byte(`{"a": 1}`)}
	for name, content := range map[string]string{
		"a.csv":    "metadata,other,document_optional,application_id,lane,expiry_minutes\n\"{\"\"a\"\": 1}\",x,true,A-1,,60\n",
		"a.ndjson": `{"metadata":{"a": 1},"document_optional":true,"application_id":"A-1","expiry_minutes":60}`,
	} {
		in := open(t, fixture.File(t, name, content))
		if got := rows(t, in)[0].Request; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	in := open(t, fixture.File(t, "a.csv", "application_id,lane\nA-1,interactive\n"))
	if got := rows(t, in)[0].Request.Lane; got != tasks.Interactive {
		t.Errorf("got lane %q, want interactive", got)
	}
}

func TestOpen_RefusesUnusableFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.csv"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"missing.csv", "", "no such file; check the path"},
		{"dir.csv", "", "a directory; name a file in it"},
		{"pipe.csv", "", "not a regular file, but it is read more than once; save it to a file first"},
		{"a.txt", "application_id\n", "unknown suffix; use .csv, .xlsx, .ndjson or .jsonl, optionally followed by .gz or .zst"},
		{"a.csv.gz", "application_id\n", "the name ends in .gz, but the file holds no gzip data; check how it was made"},
		{"empty.csv", "", "the file is empty; it must hold at least a header or one request"},
		{"mark.csv", "\ufeff", "the file is empty; it must hold at least a header or one request"},
		{"empty.ndjson", "", "the file is empty; it must hold at least a header or one request"},
		{"blank.csv", "\n\r\n", "no header; the first line must name the columns, including application_id"},
		{"rows.csv", "A-1,x\nA-2,y\n", `no column application_id; the first line must name the columns, including application_id, separated by commas (columns found: "A-1", "x")`},
		{"semicolon.csv", "name;lane\n", `no column application_id; the first line must name the columns, including application_id, separated by ';' (columns found: "name", "lane")`},
		{"header.csv", "application_id,full_name", "a header without rows; check that the file was saved completely"},
		{"blanks.csv", "application_id,full_name\n,\n\n", "a header without rows; check that the file was saved completely"},
		{"blanks.ndjson", "\n\n", "no requests, only blank lines"},
		{"tab.csv", "application_id,\"full\tname\"\nA-1,\n", `a line break or another control character in the column name "full\tname"; write the name without it`},
		{"zip.csv", "PK\x03\x04", "an Excel workbook or another zip file, not text; give a workbook the suffix .xlsx, or save it as CSV"},
		{"old.csv", "\xd0\xcf\x11\xe0\xa1", "a workbook of an old Excel version, or one with a password; save it as .xlsx without a password, or as CSV"},
		{"twice.csv", "application_id,lane,lane\n", "two columns are named lane; rename or remove one"},
		{"utf16.csv", "\xff\xfea\x00\n", "column 1 of the header has characters that are not valid in the encoding UTF-16; check the encoding of the file"},
		{"markless.csv", "a\x00,\x00\n\x00", "zero bytes in the header: the file is probably UTF-16 without a byte order mark: read it with --encoding utf-16le, or save it as UTF-8"},
		{"latin.csv", "application_id,stra\xdfe\n", "column 2 of the header is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"quote.csv", "application_id,\"a\nA-1,b\n", "the header is not readable as CSV: a name may have a line break or an open quote; the first line must name the columns, including application_id, separated by commas"},
		{"long.csv", strings.Repeat("application_id,", maxRow), "the header is longer than 1048576 bytes; the first line must name the columns, including application_id, separated by commas"},
	} {
		path := filepath.Join(dir, c.name)
		if _, err := os.Stat(path); err != nil && c.name != "missing.csv" {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		in, err := Open(path, Options{})
		var unusable *Error
		if !errors.As(err, &unusable) {
			t.Errorf("%s: got %v, %v; want an Error", c.name, in, err)
			continue
		}
		if want := "open " + path + ": " + c.want; err.Error() != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, err, want)
		}
	}
}

func TestRows_FailWhenTheFileChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, path string){
		"grown": func(t *testing.T, path string) {
			f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteString("A-3\n")
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
		},
		"rewritten": func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("application_id\n"), 0); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\nA-2\n"))
			var during, after error
			for row, err := range in.Rows() {
				if row.Number == 1 {
					change(t, in.path)
				}
				during = err
			}
			for _, err := range in.Rows() {
				after = err
			}
			for _, err := range []error{during, after} {
				if unusable := new(Error); !errors.As(err, &unusable) || !strings.Contains(err.Error(), "was changed") {
					t.Errorf("got %v, want an error that says that the file was changed", err)
				}
			}
		})
	}
}

func TestRows_AreOfTheOpenFileAfterItIsReplaced(t *testing.T) {
	t.Parallel()
	in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\n"))
	if err := os.Rename(fixture.File(t, "b.csv", "application_id\nA-2\n"), in.path); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, in)[0].Request.ApplicationID; got != "A-1" {
		t.Errorf("got %s, want A-1 of the opened file", got)
	}
}

// The text before the failure looks like a whole row.
func TestRows_NeverEndInTheMiddleWhenTheDiskFails(t *testing.T) {
	t.Parallel()
	in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\nA-2\n"))
	failure := errors.New("disk gone")
	s := in.scanFrom(&failingReader{text: "application_id\nA-1\nA-", err: failure})
	var got []string
	for s.row() {
		got = append(got, s.Text())
	}
	want := []string{"application_id\n", "A-1\n"}
	if !errors.Is(s.Err(), failure) || !reflect.DeepEqual(got, want) {
		t.Errorf("got rows %q, %v; want %q and the failure", got, s.Err(), want)
	}
}

// failingReader returns a text and then an error.
type failingReader struct {
	text string
	err  error
}

func (f *failingReader) Read(p []byte) (int, error) {
	n := copy(p, f.text)
	f.text = f.text[n:]
	if n == 0 {
		return 0, f.err
	}
	return n, nil
}
