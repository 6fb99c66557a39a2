package bulk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xuri/excelize/v2"
	"pgregory.net/rapid"
)

// inspected opens a file as run does.
func inspected(t testing.TB, path, out string, r Reading) *Input {
	t.Helper()
	in, err := Open(path, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	if _, err := in.Inspect(out); err != nil {
		t.Fatal(err)
	}
	return in
}

// OUT is written as the input is, where the format is the same, and loses nothing
// where it is another.
func TestOutputStyle(t *testing.T) {
	const end = "status,link_id,url,expires_at,reason,attempts,possible_duplicates\n"
	const first = ",created,L-1,https://simulator.invalid/L-1?a=1&b=2,2026-11-24T09:00:00Z,,1,0\n"
	semicolons := func(s string) string { return strings.ReplaceAll(s, ",", ";") }
	for _, c := range []struct {
		name, content string
		reading       Reading
		out, want     string
	}{
		{"a.csv", "application_id,n\nA-1,x\n", Reading{}, "out.csv", "application_id,n," + end + "A-1,x" + first},
		{"a.csv", "\ufeffapplication_id,n\r\nA-1,Zoë\r\n", Reading{}, "out.csv", "\ufeffapplication_id,n," + end + "A-1,Zoë" + first},
		{"a.csv", "\ufeffapplication_id;n\r\nA-1;Zoë\r\n", Reading{}, "out", "\ufeff" + semicolons("application_id,n,"+end+"A-1,Zoë"+first)},
		{"a.csv", "sep=;\r\napplication_id;n\r\nA-1;\"a;b\"\r\n", Reading{}, "out.csv", "sep=;\n" + semicolons("application_id,n,"+end) + `A-1;"a;b"` + semicolons(first)},
		{"a.csv", "application_id,n\nA-1,Zo\xeb\n", Reading{Encoding: "windows-1252"}, "out.csv", "\ufeffapplication_id,n," + end + "A-1,Zoë" + first},
		{"a.csv", "\ufeffapplication_id;n\nA-1;x\n", Reading{}, "out.ndjson",
			`{"application_id":"A-1","n":"x","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.csv", "Application ID,Expiry Time,documentOptional,note,\nA-1,60,TRUE,,\n", Reading{}, "out.ndjson",
			`{"Application ID":"A-1","Expiry Time":60,"documentOptional":true,"note":"","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.csv", "application_id,,n,\nA-1,,x,\n,,,\n", Reading{}, "out.csv", "application_id,n," + end + "A-1,x" + first},
		{"a.csv", "application_id,,n,\nA-1,,x,y\n", Reading{}, "out.csv", "application_id,n,," + end + "A-1,x,y" + first},
		{"a.csv", "application_id,,n,\nA-1,,x,y\n", Reading{}, "out.ndjson",
			`{"application_id":"A-1","n":"x","column 4":"y","status":"created","link_id":"L-1","url":"https://simulator.invalid/L-1?a=1&b=2","expires_at":"2026-11-24T09:00:00Z","attempts":1,"possible_duplicates":0}` + "\n"},
		{"a.ndjson", `{"application_id":"A-1","b":{"c":1},"a":"x"}`, Reading{}, "out.csv",
			"application_id,redirect_url,expiry_minutes,document_optional,workflow_id,lane,callback_url,not_after,generation,metadata,b,a," + end +
				`A-1,,,,,,,,,,"{""c"":1}",x` + first},
		{"a.ndjson", `{"Ref":"A-1","application_id":"x"}`, Reading{Columns: map[string]string{"application_id": "Ref"}, Carry: []string{"application_id"}}, "out.csv",
			"Ref,redirect_url,expiry_minutes,document_optional,workflow_id,lane,callback_url,not_after,generation,metadata,application_id," + end +
				`A-1,,,,,,,,,,x` + first},
	} {
		out := filepath.Join(t.TempDir(), c.out)
		export(t, inspected(t, file(t, c.name, c.content), out, c.reading), out)
		if got := read(t, out); got != c.want {
			t.Errorf("%q to %s:\n got %q\nwant %q", c.content, c.out, got, c.want)
		}
	}
}

// cellsOf reads a sheet as the library gives it.
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

func TestWorkbookOutput(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.xlsx")
	const text = "application_id,n\n00123,=1+1\nA-2,\"a\r\nb, \"\" _x0041_ \"\nA-3,\" Zoë 愛 \"\n"
	in := inspected(t, file(t, "a.csv", text), out, Reading{})
	export(t, in, out)
	want := `[["application_id" "n" "status" "link_id" "url" "expires_at" "reason" "attempts" "possible_duplicates"] ` +
		`["00123" "=1+1" "created" "L-1" "https://simulator.invalid/L-1?a=1&b=2" "2026-11-24T09:00:00Z" "" "1" "0"] ` +
		`["A-2" "a\r\nb, \" _x0041_ " "failed" "" "" "" "upstream_error: HTTP 500" "8" "7"] ` +
		`["A-3" " Zoë 愛 " "created" "L-1" "https://simulator.invalid/L-1?a=1&b=2" "2026-11-24T09:00:00Z" "" "1" "0"]]`
	if got := fmt.Sprintf("%q", cellsOf(t, out)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	again := inspected(t, out, filepath.Join(dir, "again"), Reading{})
	if got := fmt.Sprint(idsOf(rows(t, again))); got != "[00123 A-2 A-3]" || len(again.Warnings()) > 0 {
		t.Errorf("read again: %s, %v", got, again.Warnings())
	}
	for _, name := range []string{"again", "again.csv"} { // of a workbook's own format, and as CSV that Excel reads
		export(t, again, filepath.Join(dir, name))
	}
	if err := os.Rename(filepath.Join(dir, "again"), filepath.Join(dir, "again.xlsx")); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", cellsOf(t, filepath.Join(dir, "again.xlsx"))); got != want {
		t.Errorf("written again: %s", got)
	}
	if got := read(t, filepath.Join(dir, "again.csv")); !strings.HasPrefix(got, "\ufeffapplication_id,n,status,") {
		t.Errorf("as CSV: %q", got)
	}
	lines := file(t, "a.ndjson", `{"application_id":"A-1","colour":"red"}`)
	export(t, inspected(t, lines, out, Reading{}), out)
	if got := fmt.Sprintf("%q", cellsOf(t, out)); !strings.Contains(got, `"metadata" "colour" "status"`) || !strings.Contains(got, `"red" "created"`) {
		t.Errorf("of NDJSON: %s", got)
	}
	if left := beside(t, dir); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// What a workbook cannot hold is refused before any link is paid for.
func TestWorkbookHoldsAll(t *testing.T) {
	for content, want := range map[string]string{
		"application_id,n\nA-1,\nA-2," + strings.Repeat("x", 32_768) + "\n": "cannot hold row 2: a cell holds 32767 characters at most; write a .csv",
		"application_id,n\nA-1," + strings.Repeat("x", 32_767) + "\n":       "",
		"application_id,n\nA-1,a\x01b\n":                                    "cannot hold row 1: a workbook cannot hold its control characters; write a .csv",
		"application_id" + strings.Repeat(",x", 16_380) + "\nA-1\n":         "cannot hold row 1: a sheet holds 16384 columns at most; write a .csv",
	} {
		in := open(t, file(t, "a.csv", content))
		_, err := in.Inspect("out.xlsx")
		refused := new(OutputError)
		if want == "" && err != nil || want != "" && (!errors.As(err, &refused) || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%.30q…: got %v\nwant %s", content, err, want)
		}
		if _, err := in.Inspect("out.csv"); err != nil {
			t.Errorf("%.30q… as CSV: %v", content, err)
		}
	}
	if err := fitsSheet(excelize.TotalRows, 1); err != nil {
		t.Error(err)
	}
	if err := fitsSheet(excelize.TotalRows+1, 1); err == nil {
		t.Error("a sheet has one more row than it may have")
	}
	var many strings.Builder
	for i := range maxOtherKeys + 1 {
		fmt.Fprintf(&many, `{"application_id":"A-1","key %d":1}`+"\n", i)
	}
	in := open(t, file(t, "a.ndjson", many.String()))
	if _, err := in.Inspect("out.csv"); err == nil || !strings.Contains(err.Error(), "cannot hold the more than 1000 keys") {
		t.Errorf("got %v", err)
	}
	if _, err := in.Inspect("out.ndjson"); err != nil {
		t.Error(err)
	}
}

// Cells come through a workbook as they are.
func TestCellsThroughAWorkbook(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		cell := rapid.StringOf(rapid.RuneFrom([]rune("ab,;\"'\n\r\t =_x0041é愛😀<>&]"))).Draw(rt, "cell")
		var buf strings.Builder
		w, err := newWorkbookWriter(&buf, "")
		if err == nil {
			_, err = w.Write(csvLine([]string{"application_id", "n", "end"}))
		}
		if err == nil {
			_, err = w.Write(csvLine([]string{"A-1", cell, "."}))
		}
		if err = errors.Join(err, w.Close()); err != nil {
			rt.Fatal(err)
		}
		in := fuzzInput(t, dir, "a.xlsx", []byte(buf.String()))
		defer in.Close()
		if got := rows(t, in)[0].cells[1]; got != cell {
			rt.Fatalf("%q became %q", cell, got)
		}
	})
}

func TestNamesOfOutputs(t *testing.T) {
	for name, want := range map[string]string{
		"out": "", "out.csv": "", "out.XLSX": "", "a.b/out": "", "out.ndjson": "", "out.jsonl": "",
		"out.xls": "ends in .xls, which is no format that can be written; name a file that ends in .csv, .xlsx, .ndjson or .jsonl",
		"out.txt": "ends in .txt,", "links.2026": "ends in .2026,", "out.csv.gz": "cannot be written compressed",
	} {
		if got := UnknownSuffix(name); (got == "") != (want == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q", name, got)
		}
	}
	for _, c := range []struct {
		name   string
		format Format
		want   string
	}{
		{"out.csv", "", ""}, {"out.csv.gz", "", ""}, {"out.xlsx", "", ""}, {"out", CSV, ""}, {"out.txt", CSV, ""}, {"out.csv", CSV, ""},
		{"out.txt", "", "has a suffix that is not known"}, {"out", "", "has a suffix that is not known"},
		{"out.csv", NDJSON, "would hold ndjson under a name for csv"}, {"out.xlsx.gz", "", "is compressed in itself"}, {"out.zst", XLSX, "is compressed in itself"},
	} {
		if err := CheckSheet(c.name, c.format); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s, %s: %v", c.name, c.format, err)
		}
	}
}

// An export is a workbook, however it is written to it, or not there.
func TestSheetOfAWorkbook(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out.xlsx")
	const text = "application_id,note,attempts\n007,\"a\nb\",3\n=1,,0\n"
	for _, size := range []int{1, 7, len(text)} {
		s, err := OpenSheet(out, "")
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
			t.Errorf("by %d bytes: %s", size, got)
		}
	}
	before := read(t, out)
	s, err := OpenSheet(out, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	killed := beside(t, dir)
	if err := s.Discard(); err != nil || len(killed) != 2 || read(t, out) != before || len(beside(t, dir)) > 0 {
		t.Errorf("%v: beside OUT were %q, and are %q", err, killed, beside(t, dir))
	}
	for _, left := range killed { // as a killed process leaves it
		if err := errors.Join(os.MkdirAll(left, 0o700), os.WriteFile(filepath.Join(left, "excelize-1"), nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if s, err = OpenSheet(out, ""); err == nil {
		err = s.Discard()
	}
	if err != nil || len(beside(t, dir)) > 0 {
		t.Errorf("%v: beside OUT are %q", err, beside(t, dir))
	}
}
