package input

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// Text that is invalid in a file's encoding is not passed on.
func TestInspect_RefusesGarbledText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, content, encoding, want string }{
		{"a.csv", "application_id,n\nA-1,ok\nA-2,Zo\xebk\nA-3,\xa3ukasz\n", "", "row 2 at line 3, column n is not valid UTF-8; the file is probably windows-1250: read it with --encoding windows-1250, or save it as UTF-8 (and 1 more such row)"},
		{"a.csv", "application_id,n,m\nA-1,\xeb,\xe4\n", "", "row 1 at line 2, column n, m is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,\x8e\n", "macintosh", ""},
		{"a.csv", "application_id,n\nA-1,\xcc\xee\xf1\xea\xe2\xe0\n", "", "row 1 at line 2, column n is not valid UTF-8; the file is probably windows-1251: read it with --encoding windows-1251, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,M\x8fller Ren\x8e\n", "", "row 1 at line 2, column n is not valid UTF-8; the file is probably macintosh: read it with --encoding macintosh, or save it as UTF-8"},
		{"a.ndjson", `{"application_id":"A-1","n":"Zo` + "\xeb\"}\n", "", "row 1 at line 1 is not valid UTF-8; the file is probably windows-1252: read it with --encoding windows-1252, or save it as UTF-8"},
		{"a.csv", "application_id,n\nA-1,\x90\n", "shift_jis", "row 1 at line 2, n: has characters that are not valid in the encoding shift_jis; check the encoding of the file"},
		{"a.csv", "\xff\xfea\x00p\x00p\x00i\x00d\x00,\x00n\x00\n\x00A\x00,\x00\x00\xd8\n\x00", "", "row 1 at line 2, n: has characters that are not valid in the encoding UTF-16; check the encoding of the file"},
	} {
		in, err := Open(fixture.File(t, c.name, c.content), Options{Encoding: c.encoding})
		if err != nil {
			t.Errorf("%q: %v", c.content, err)
			continue
		}
		_, err = in.Inspect(anyRow)
		_ = in.Close()
		if c.want == "" && err == nil {
			continue
		}
		if err == nil || !strings.HasSuffix(err.Error(), ": "+c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.content, err, c.want)
		}
	}
}

func TestRows_UnderstandCellsOfSpreadsheets(t *testing.T) {
	t.Parallel()
	for cell, want := range map[string]string{"TRUE": "true", "Yes": "true", "1": "true", "False": "false", "no": "false", "0": "false", "": "none"} {
		in := open(t, fixture.File(t, "a.csv", "application_id,document_optional\nA-1,"+cell+"\n"))
		row := rows(t, in)[0]
		got := "none"
		if b := row.Request.DocumentOptional; b != nil {
			got = fmt.Sprint(*b)
		}
		if got != want || row.Err != nil {
			t.Errorf("%q: got %s, %v; want %s", cell, got, row.Err, want)
		}
	}
	for id, want := range map[string]string{
		"“A-1”":     "application_id: begins or ends with “ (U+201C), a typographic quote, which is not part of an id; remove it",
		"A-1’":      "application_id: begins or ends with ’ (U+2019), a typographic quote, which is not part of an id; remove it",
		"O’1":       "<nil>",
		"#N/A":      "application_id: is #N/A, which a spreadsheet shows when a formula fails",
		"#A-1":      "<nil>",
		"A-1\u00a0": "application_id: contains '\\u00a0' (a non-breaking space); use printable characters without spaces",
		"A-1\u200b": "application_id: contains '\\u200b' (a zero-width space); use printable characters without spaces",
	} {
		if got := rows(t, open(t, fixture.File(t, "a.csv", "application_id\n"+id+"\n")))[0].Err; fmt.Sprint(got) != want {
			t.Errorf("%s: got %v, want %s", id, got, want)
		}
	}
	in, err := OpenStream(t.Context(), fixture.File(t, "a.csv", "application_id,,\nA-1,,\nA-2,x,\n"), Options{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got := rows(t, in); got[0].Err != nil || fmt.Sprint(got[1].Err) != "line 3 has a value in column 2, which has no name in the header" {
		t.Errorf("got %v, %v", got[0].Err, got[1].Err)
	}
}

func TestLooksRounded_FindsIDsThatASpreadsheetRounded(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"4.91702E+12": true, "4,91702E+12": true, "1E+12": true, "4.9e15": true, "4.91702E+12x": false, "1E5": false, "12E34": false, "E+1": false,
		"4.E+": false, "A-1": false, "": false, "491702000000": false, "4E+1+1": false,
	} {
		if got := LooksRounded(id); got != want {
			t.Errorf("%s: got rounded %t, want %t", id, got, want)
		}
	}
	in := open(t, fixture.File(t, "a.csv", "application_id\nA-1\n4.91702E+12\n1E+12\n"))
	if found, err := in.Inspect(anyRow); err != nil || found.Rows != 3 || found.Rounded != 2 || found.FirstRounded.Number != 2 {
		t.Errorf("got %+v, %v; want 3 rows, 2 rounded from row 2 on", found, err)
	}
}

func TestDuplicates_SpillToFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := NewDuplicates(dir)
	defer r.Close()
	const ids = 50_000
	for i := range 3 * ids {
		if err := r.Add(fmt.Sprint(i%ids), i+1, "fa"[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	found := map[byte]int{}
	err := r.Each(func(d Duplicate) {
		found[d.Label]++
		if d.First != (d.Row-1)%ids+1 {
			t.Errorf("row %d repeats row %d, want row %d", d.Row, d.First, (d.Row-1)%ids+1)
		}
	})
	if err != nil || found['f'] != ids || found['a'] != ids || r.buckets[0].file == nil {
		t.Errorf("got duplicates %v by label, %v, and the first bucket's file %v; want %d of each and a file", found, err, r.buckets[0].file, ids)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files %v are left behind, %v", left, err)
	}
}
