package input

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/xuri/excelize/v2"

	"github.com/kyclink/kyclink/internal/fixture"
)

// newWorkbook creates a workbook with the cells that fill sets, and returns its path.
func newWorkbook(t testing.TB, fill func(*excelize.File)) string {
	t.Helper()
	book := excelize.NewFile()
	fill(book)
	path := filepath.Join(t.TempDir(), "people.xlsx")
	if err := errors.Join(book.SaveAs(path), book.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func setCells(t testing.TB, book *excelize.File, sheet string, cells map[string]any) {
	t.Helper()
	for cell, value := range cells {
		if err := book.SetCellValue(sheet, cell, value); err != nil {
			t.Fatal(err)
		}
	}
}

// setStyle sets the number format in which a cell is displayed.
func setStyle(t testing.TB, book *excelize.File, cell string, s excelize.Style) {
	t.Helper()
	id, err := book.NewStyle(&s)
	if err == nil {
		err = book.SetCellStyle("Sheet1", cell, cell, id)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Rows have the numbers of the sheet, and a warning says that ids stored as numbers may
// have lost digits.
func TestOpen_ReadsCellsOfAWorkbookAsDisplayed(t *testing.T) {
	t.Parallel()
	zeros, day := "00000", "yyyy-mm-dd"
	path := newWorkbook(t, func(book *excelize.File) {
		setCells(t, book, "Sheet1", map[string]any{
			"A2": "Application ID", "B2": "Expiry minutes", "C2": "document_optional", "D2": "Joined", "E2": "Share", "F2": "Note",
			"A3": "00123", "B3": 60, "C3": true, "D3": time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), "E3": 0.5, "F3": "a\nb, \"c\"",
			"A5": 491702000000, "B5": 1440, "C5": false, "F5": "=1+1",
			"A6": 42, "E6": 1234567.891,
			"B8": " ",
		})
		setStyle(t, book, "A6", excelize.Style{CustomNumFmt: &zeros})
		setStyle(t, book, "D3", excelize.Style{CustomNumFmt: &day})
		setStyle(t, book, "E3", excelize.Style{NumFmt: 9})
		setStyle(t, book, "E6", excelize.Style{NumFmt: 4})
		if err := book.SetCellFormula("Sheet1", "B6", "30+30"); err != nil {
			t.Fatal(err)
		}
		if _, err := book.NewSheet("Other"); err != nil {
			t.Fatal(err)
		}
		setCells(t, book, "Other", map[string]any{"A1": "application_id", "A2": "B-1"})
	})
	in := open(t, path)
	for range 2 {
		var got []string
		for _, row := range rows(t, in) {
			got = append(got, fmt.Sprintf("%d@%d %q %v", row.Number, row.Line, row.Cells, row.Err))
		}
		want := []string{
			`1@3 ["00123" "60" "TRUE" "2026-11-24" "50%" "a\nb, \"c\""] <nil>`,
			`2@5 ["491702000000" "1440" "FALSE" "" "" "=1+1"] <nil>`,
			`3@6 ["00042" "" "" "" "1,234,567.89" ""] <nil>`,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got  %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
		}
	}
	if got := fmt.Sprint(in.Warnings()); !strings.Contains(got, "2 sheets") || !strings.Contains(got, "application ids stored as numbers in the sheet: 1;") {
		t.Errorf("got warnings %s", got)
	}
	if used, _ := in.Mapping(); fmt.Sprint(keysOf(used)) != "[{application_id Application ID} {expiry_minutes Expiry minutes} {document_optional document_optional}]" {
		t.Errorf("got columns %v", used)
	}
	other, err := OpenStream(t.Context(), path, Options{Sheet: "other"})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := fmt.Sprint(idsOf(rows(t, other))); got != "[B-1]" || len(other.Warnings()) > 0 {
		t.Errorf("the other sheet: got %s and warnings %v, want B-1 and none", got, other.Warnings())
	}
	if _, err := Open(path, Options{Sheet: "none"}); err == nil || !strings.Contains(err.Error(), `no sheet "none"; the workbook has "Sheet1", "Other"`) {
		t.Errorf("a sheet that does not exist: got %v", err)
	}
}

// Excelize unpacks texts and sheets of more than 1 MiB to files.
func TestOpen_ReadsALargeWorkbookThroughTemporaryFiles(t *testing.T) {
	const n = 300
	note := func(i int) string { return fmt.Sprintf("note %d %s", i, strings.Repeat("with some text ", 300)) }
	texts := newWorkbook(t, func(book *excelize.File) {
		setCells(t, book, "Sheet1", map[string]any{"A1": "application_id", "B1": "note"})
		for i := range n {
			setCells(t, book, "Sheet1", map[string]any{fmt.Sprintf("A%d", i+2): fmt.Sprintf("P-%07d", i), fmt.Sprintf("B%d", i+2): note(i)})
		}
	})
	var sheet strings.Builder
	row := func(id, note string) {
		fmt.Fprintf(&sheet, `<row><c t="inlineStr"><is><t>%s</t></is></c><c t="inlineStr"><is><t>%s</t></is></c></row>`, id, note)
	}
	sheet.WriteString(`<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`)
	row("application_id", "note")
	for i := range n {
		row(fmt.Sprintf("P-%07d", i), note(i))
	}
	sheet.WriteString(`</sheetData></worksheet>`)
	if size := n * len(note(0)); size < 1<<20 || sheet.Len() < 1<<20 {
		t.Fatalf("texts of %d bytes and a sheet of %d are too small for this test", size, sheet.Len())
	}
	small := newWorkbook(t, func(book *excelize.File) { setCells(t, book, "Sheet1", map[string]any{"A1": "application_id"}) })
	for name, path := range map[string]string{"texts": texts, "sheet": replacePart(t, small, "xl/worksheets/sheet1.xml", sheet.String())} {
		t.Setenv("TMPDIR", t.TempDir())
		in := open(t, path)
		all := rows(t, in)
		if len(all) != n || all[n-1].Request.ApplicationID != fmt.Sprintf("P-%07d", n-1) || strings.TrimSpace(all[n-1].Cells[1]) != strings.TrimSpace(note(n-1)) {
			t.Errorf("%s: got %d rows, the last one %.200v", name, len(all), all[len(all)-1])
		}
		if left, err := filepath.Glob(filepath.Join(os.TempDir(), "*")); err != nil || len(left) > 0 {
			t.Errorf("%s: files %q are left behind, %v", name, left, err)
		}
	}
}

// replacePart returns the path of a copy of a workbook in which a part is replaced.
func replacePart(t *testing.T, path, name, content string) string {
	t.Helper()
	from, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	var out bytes.Buffer
	to := zip.NewWriter(&out)
	to.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	for _, f := range from.File {
		if f.Name == name {
			continue
		}
		if err := to.Copy(f); err != nil {
			t.Fatal(err)
		}
	}
	w, err := to.Create(name)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err = errors.Join(err, to.Close()); err != nil {
		t.Fatal(err)
	}
	return fixture.File(t, "people.xlsx", out.String())
}

func TestOpen_RefusesUnusableWorkbooks(t *testing.T) {
	t.Parallel()
	good := newWorkbook(t, func(book *excelize.File) {
		setCells(t, book, "Sheet1", map[string]any{"A1": "application_id", "A2": "A-1"})
	})
	whole := fixture.Read(t, good)
	const sheet = "xl/worksheets/sheet1.xml"
	start := `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>application_id</t></is></c></row>`
	for name, c := range map[string]struct{ path, want string }{
		"text":            {fixture.File(t, "a.xlsx", "application_id\nA-1\n"), "not a readable workbook (damaged, protected by a password, or not .xlsx)"},
		"truncated":       {fixture.File(t, "a.xlsx", whole[:len(whole)/2]), "not a readable workbook (damaged"},
		"no sheet":        {replacePart(t, good, sheet, ""), "is empty"},
		"truncated sheet": {replacePart(t, good, sheet, start+`<row r="2"><c r="A2" t="inlineStr"><is><t>A-1</t></is></c></row>`), "is damaged: unexpected EOF"},
		"a broken tag":    {replacePart(t, good, sheet, start+`<row r="2"><c r="A2" t="inlineStr"><is><t>A-1</t></is></c></row><row <</sheetData></worksheet>`), "is damaged: XML syntax error"},
		"one large tag":   {replacePart(t, good, sheet, start+strings.Repeat(" ", 4<<20+1)), "too large when unpacked"},
		"a large image":   {replacePart(t, good, "xl/media/image1.png", strings.Repeat(" ", 64<<20+1)), "too large when unpacked"},
		"only its header": {replacePart(t, good, sheet, start+`</sheetData></worksheet>`), "a header without rows"},
		"compressed":      {fixture.File(t, "a.xlsx.gz", compressed(t, ".gz", whole)), "a workbook that is compressed again"},
	} {
		in, err := Open(c.path, Options{})
		if unusable := new(Error); !errors.As(err, &unusable) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, %v; want %s", name, in, err, c.want)
		}
	}
}

// FuzzSheet checks that a sheet with any XML is read or refused.
func FuzzSheet(f *testing.F) {
	good := newWorkbook(f, func(book *excelize.File) { setCells(f, book, "Sheet1", map[string]any{"A1": "application_id"}) })
	seeds := map[string]string{
		`<row><c t="inlineStr"><is><t>application_id</t></is></c></row><row><c><v>1</v></c></row>`:                                                                  "1@2",
		`<row r="3"><c r="B3" t="inlineStr"><is><t>application_id</t></is></c></row><row r="7"><c r="B7"><v>1</v></c></row><row r="9"><c r="B9"><v>2</v></c></row>`: "1@7 2@9",
		`<row><c r="XFD1" t="s"><v>-1</v></c></row><row r="2"><c r="A2" t="e"><v>#N/A</v></c><c r="?"/></row>`:                                                      "refused",
	}
	for cells := range seeds {
		f.Add(cells)
	}
	f.Fuzz(func(t *testing.T, cells string) {
		const start = `<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>`
		in, err := Open(replacePart(t, good, "xl/worksheets/sheet1.xml", start+cells+`</sheetData></worksheet>`), Options{})
		if err != nil {
			if unusable := new(Error); !errors.As(err, &unusable) {
				t.Fatalf("got error %v of type %T, want an Error", err, err)
			}
			if want := seeds[cells]; want != "" && want != "refused" {
				t.Fatalf("%s: got error %v, want %s", cells, err, want)
			}
			return
		}
		defer in.Close()
		checkRows(t, in)
		if want := seeds[cells]; want != "" {
			var got []string
			for _, row := range rows(t, in) {
				got = append(got, fmt.Sprintf("%s@%d", row.Request.ApplicationID, row.Line))
			}
			if strings.Join(got, " ") != want {
				t.Fatalf("%s: got %q, want %q", cells, got, want)
			}
		}
	})
}
