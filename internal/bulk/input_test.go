package bulk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

func TestRows(t *testing.T) {
	long := strings.Repeat("x", MaxRow)
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
			"5@6 line 6 has 1 cell, the header has 2: is it split by ';', not by commas?"}},
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
		{"a quoted cell too long for a row", "a.csv", "application_id,n\nA-1,\"a\nA-2,\n" + strings.Repeat("A-3,"+long[:9995]+"\n", MaxRow/9000), append([]string{
			`1@2 line 2 has a quoted cell without a proper end; double the quotes (") in it`, "2@3 A-2"}, many(3, MaxRow/9000, "A-3")...)},

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
			in := open(t, file(t, c.file, c.content))
			for pass := range 2 {
				var got []string
				for _, row := range rows(t, in) {
					says := row.Request.ApplicationID
					if row.Err != nil {
						says = row.Err.Error()
						if invalid := new(tasks.InvalidError); !errors.As(row.Err, &invalid) {
							t.Errorf("row %d: %T is no InvalidError", row.Number, row.Err)
						}
					}
					got = append(got, fmt.Sprintf("%d@%d %s", row.Number, row.Line, says))
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Fatalf("pass %d:\n got %.300q\nwant %.300q", pass+1, got, c.want)
				}
			}
		})
	}
}

func many(from, n int, id string) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("%d@%d %s", from+i, from+i+1, id))
	}
	return all
}

func TestRequestOfRow(t *testing.T) {
	yes := true
	want := tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 60, DocumentOptional: &yes, Lane: tasks.Bulk, Metadata: []byte(`{"a": 1}`)}
	for name, content := range map[string]string{
		"a.csv":    "metadata,other,document_optional,application_id,lane,expiry_minutes\n\"{\"\"a\"\": 1}\",x,true,A-1,,60\n",
		"a.ndjson": `{"metadata":{"a": 1},"document_optional":true,"application_id":"A-1","expiry_minutes":60}`,
	} {
		in := open(t, file(t, name, content))
		if got := rows(t, in)[0].Request; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	in := open(t, file(t, "a.csv", "application_id,lane\nA-1,interactive\n"))
	if got := rows(t, in)[0].Request.Lane; got != tasks.Interactive {
		t.Errorf("a given lane became %q", got)
	}
}

func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir.csv"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.csv"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want string }{
		{"missing.csv", "", "does not exist; check the path"},
		{"dir.csv", "", "is a directory; name a file in it"},
		{"pipe.csv", "", "is no regular file, and it is read more than once; save it to a file first"},
		{"a.txt", "application_id\n", "has a suffix that is not known; it must end in .csv, .xlsx, .ndjson or .jsonl, which may be followed by .gz or .zst"},
		{"a.csv.gz", "application_id\n", "ends in .gz and does not hold gzip data; check how it was made"},
		{"empty.csv", "", "is empty; it must hold at least a header or one request"},
		{"mark.csv", "\ufeff", "is empty; it must hold at least a header or one request"},
		{"empty.ndjson", "", "is empty; it must hold at least a header or one request"},
		{"blank.csv", "\n\r\n", "has no header; its first line must name the columns, application_id among them"},
		{"rows.csv", "A-1,x\nA-2,y\n", `has no column application_id; its first line must name the columns, application_id among them, separated by commas (it has "A-1", "x")`},
		{"semicolon.csv", "name;lane\n", `has no column application_id; its first line must name the columns, application_id among them, separated by ';' (it has "name", "lane")`},
		{"header.csv", "application_id,full_name", "has a header and no rows; check that it was saved completely"},
		{"blanks.csv", "application_id,full_name\n,\n\n", "has a header and no rows; check that it was saved completely"},
		{"blanks.ndjson", "\n\n", "holds no requests, only blank lines"},
		{"tab.csv", "application_id,\"full\tname\"\nA-1,\n", `has a line break or another control character in the header cell "full\tname"; write the name without it`},
		{"zip.csv", "PK\x03\x04", "is an Excel workbook or another zip file, not text; give a workbook the suffix .xlsx, or save it as CSV"},
		{"old.csv", "\xd0\xcf\x11\xe0\xa1", "is a workbook of an old Excel, or one with a password; save it as .xlsx without a password, or as CSV"},
		{"twice.csv", "application_id,lane,lane\n", "has two columns named lane; rename or remove one"},
		{"utf16.csv", "\xff\xfea\x00\n", "has a header whose column 1 holds characters that are not valid in the encoding UTF-16; check the encoding of the file"},
		{"markless.csv", "a\x00,\x00\n\x00", "has zero bytes in its header, so that it is probably UTF-16 without a byte order mark; read it with --encoding utf-16le, or save it as UTF-8"},
		{"latin.csv", "application_id,stra\xdfe\n", "has a header whose column 2 is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"quote.csv", "application_id,\"a\nA-1,b\n", "has a header that is not readable as CSV, such as a name with a line break or an open quote in it; its first line must name the columns, application_id among them, separated by commas"},
		{"long.csv", strings.Repeat("application_id,", MaxRow), "has a header of more than 1048576 bytes; its first line must name the columns, application_id among them, separated by commas"},
	} {
		path := filepath.Join(dir, c.name)
		if _, err := os.Stat(path); err != nil && c.name != "missing.csv" {
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		in, err := Open(path, Reading{})
		var unusable *InputError
		if !errors.As(err, &unusable) {
			t.Errorf("%s: got %v, %v", c.name, in, err)
			continue
		}
		if want := "input file " + path + " " + c.want; err.Error() != want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, err, want)
		}
	}
}

func TestChangedInput(t *testing.T) {
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
			in := open(t, file(t, "a.csv", "application_id\nA-1\nA-2\n"))
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
				if unusable := new(InputError); !errors.As(err, &unusable) || !strings.Contains(err.Error(), "was changed") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

func TestReplacedInputIsTheOneThatIsOpen(t *testing.T) {
	in := open(t, file(t, "a.csv", "application_id\nA-1\n"))
	if err := os.Rename(file(t, "b.csv", "application_id\nA-2\n"), in.path); err != nil {
		t.Fatal(err)
	}
	if got := rows(t, in)[0].Request.ApplicationID; got != "A-1" {
		t.Errorf("got %s", got)
	}
}

// A row is never read from what came before a failure of the disk.
func TestReadFailure(t *testing.T) {
	in := open(t, file(t, "a.csv", "application_id\nA-1\nA-2\n"))
	failure := errors.New("disk gone")
	s := in.scanFrom(&failing{text: "application_id\nA-1\nA-", err: failure})
	var got []string
	for s.row() {
		got = append(got, s.Text())
	}
	want := []string{"application_id\n", "A-1\n"}
	if !errors.Is(s.Err(), failure) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v", got, s.Err())
	}
}

type failing struct {
	text string
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	n := copy(p, f.text)
	f.text = f.text[n:]
	if n == 0 {
		return 0, f.err
	}
	return n, nil
}
