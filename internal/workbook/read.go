package workbook

import (
	"archive/zip"
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/xuri/excelize/v2"
)

// Limits of a workbook that is read. Sheets are unpacked to temporary files,
// everything else to memory.
const (
	maxSheets   = 2 << 30  // bytes of all sheets and the shared strings
	maxOthers   = 64 << 20 // bytes of styles, pictures and so on
	maxCopy     = 2 << 30  // bytes of a sheet as CSV
	inMemory    = 1 << 20  // bytes of a part that is unpacked in memory
	maxTag      = 4 << 20  // bytes from one tag to the next
	maxTags     = 32 << 20 // tags in the shared strings
	exactDigits = 15       // digits of a number that a spreadsheet keeps

	largeWorkbook = 4 << 20 // bytes from which memory is returned to the system at once
)

// Source is a workbook file to read.
type Source struct {
	File *os.File
	Path string
	Size int64 // bytes
	// Sheet is the name of the sheet to read; the first sheet if empty.
	Sheet string
	// SheetHint says how to choose another sheet.
	SheetHint string
	// IDColumn finds the column of the ids in a header, counted from 0; -1 if there is
	// none.
	IDColumn func(header []string) int
}

// CSV writes a sheet as CSV to a temporary file that is already unlinked: cells as
// they are displayed, each row of the sheet one record. The warnings describe
// which digits of ids the sheet has lost.
func (s Source) CSV() (file *os.File, warnings []string, err error) {
	file, err = os.CreateTemp("", "kyclink-sheet-")
	if err == nil {
		err = os.Remove(file.Name()) // it exists until it is closed
	}
	if err != nil {
		return nil, nil, fmt.Errorf("create a temporary file: %w", err)
	}
	// The library keeps a list of all strings of the workbook, with some 60 bytes for each.
	// Collect garbage more often, so that the heap does not grow to a multiple of that.
	percent := debug.SetGCPercent(50)
	c := &sheetCopy{source: s, ids: -1}
	err = c.run(file)
	debug.SetGCPercent(percent)
	if s.Size > largeWorkbook {
		debug.FreeOSMemory()
	}
	if err != nil {
		_ = file.Close() // which deletes it
		return nil, nil, err
	}
	return file, c.warnings, nil
}

// sheetCopy copies a sheet as CSV.
type sheetCopy struct {
	source   Source
	rows     *excelize.Rows
	header   int    // the header's row, counted from 1; 0 before it
	ids      int    // the column of the ids, counted from 0; -1 if unknown
	padded   []bool // by row: whether its id is displayed with a leading zero
	warnings []string
}

func (c *sheetCopy) run(to io.Writer) (err error) {
	parts, err := zip.NewReader(c.source.File, c.source.Size)
	if err != nil {
		return errCorrupt
	}
	if err := checkLimits(parts); err != nil {
		return err
	}
	book, err := excelize.OpenFile(c.source.Path, excelize.Options{
		UnzipXMLSizeLimit: inMemory, UnzipSizeLimit: maxSheets + maxOthers, ShortDatePattern: "yyyy-mm-dd",
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", errCorrupt, err)
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	sheet, err := c.sheet(book.GetSheetList())
	if err != nil {
		return err
	}
	c.rows, err = book.Rows(sheet)
	if err != nil {
		return fmt.Errorf("sheet %q: %w", sheet, err)
	}
	err = c.write(to)
	if err = errors.Join(err, c.rows.Close()); err != nil {
		return err
	}
	return c.checkNumbers(parts, sheet)
}

// checkLimits refuses a workbook that would take too much memory or disk to unpack.
func checkLimits(parts *zip.Reader) error {
	var sheets, others uint64
	for _, part := range parts.File {
		name := strings.ToLower(part.Name)
		isStrings := name == "xl/sharedstrings.xml"
		if !isStrings && !strings.HasPrefix(name, "xl/worksheets/sheet") {
			others += min(part.UncompressedSize64, maxOthers+1)
			continue
		}
		if sheets += min(part.UncompressedSize64, maxSheets+1); sheets > maxSheets {
			break
		}
		if ok, err := checkPart(part, isStrings); err != nil {
			return fmt.Errorf("%w (%s: %w)", errCorrupt, part.Name, err)
		} else if !ok {
			return errTooLarge
		}
	}
	if sheets > maxSheets || others > maxOthers {
		return errTooLarge
	}
	return nil
}

// checkPart reports whether a part can be read with little memory: the library holds
// the text between two tags as a whole, and lists each shared string.
func checkPart(part *zip.File, isStrings bool) (ok bool, err error) {
	r, err := part.Open()
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	buf, tags, since := make([]byte, 64<<10), 0, 0
	for {
		n, err := r.Read(buf)
		tags += bytes.Count(buf[:n], []byte("<"))
		if at := bytes.LastIndexByte(buf[:n], '<'); at >= 0 {
			since = n - at
		} else {
			since += n
		}
		switch {
		case since > maxTag || isStrings && tags > maxTags:
			return false, nil
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// sheet returns the name of the sheet to read.
func (c *sheetCopy) sheet(names []string) (string, error) {
	want := c.source.Sheet
	if want == "" && len(names) > 0 {
		if len(names) > 1 {
			c.warnings = append(c.warnings, fmt.Sprintf("the workbook has %d sheets; only the first, %q, is read (%s)", len(names), names[0], c.source.SheetHint))
		}
		return names[0], nil
	}
	for _, name := range names {
		if strings.EqualFold(name, want) {
			return name, nil
		}
	}
	return "", &NoSheetError{want, names}
}

func (c *sheetCopy) write(to io.Writer) error {
	buffered := bufio.NewWriterSize(&limitedWriter{to, maxCopy}, 1<<16)
	w := csv.NewWriter(buffered)
	for number := 1; c.rows.Next(); number++ {
		cells, err := c.rows.Columns()
		if err != nil {
			return err
		}
		for len(cells) > 0 && cells[len(cells)-1] == "" {
			cells = cells[:len(cells)-1]
		}
		if len(cells) == 0 {
			cells = []string{""} // a blank row
		} else if c.header == 0 && strings.TrimSpace(strings.Join(cells, "")) != "" {
			c.header, c.ids = number, c.source.IDColumn(cells)
		}
		padded := c.ids >= 0 && c.ids < len(cells) && strings.HasPrefix(cells[c.ids], "0")
		c.padded = append(c.padded, padded)
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(c.rows.Error(), w.Error(), buffered.Flush())
}

// checkNumbers reads the sheet's XML to check what the library does not: whether it is
// complete, and which ids are numbers.
func (c *sheetCopy) checkNumbers(parts *zip.Reader, sheet string) error {
	part, err := sheetPart(parts, sheet)
	if err != nil {
		return err
	}
	text, err := part.Open()
	if err != nil {
		return fmt.Errorf("sheet %q: %w", sheet, err)
	}
	defer func() { _ = text.Close() }() // only read
	numbers := 0
	err = eachCell(text, func(row, column int, kind string, filled bool) {
		isNumber := kind == "" || kind == "n"
		if column == c.ids && row > c.header && isNumber && filled && (row > len(c.padded) || !c.padded[row-1]) {
			numbers++
		}
	})
	if err != nil {
		return fmt.Errorf("sheet %q is damaged: %w", sheet, err)
	}
	if numbers > 0 {
		c.warnings = append(c.warnings, fmt.Sprintf("application ids stored as numbers in the sheet: %d; their leading zeros, and their digits after the %dth, are lost; "+
			"if your ids have any, format the column as text and enter them again", numbers, exactDigits))
	}
	return nil
}

// sheetPart returns the part of the file that holds a sheet.
func sheetPart(parts *zip.Reader, sheet string) (*zip.File, error) {
	var book struct {
		Sheets []struct {
			Name string `xml:"name,attr"`
			ID   string `xml:"id,attr"`
		} `xml:"sheets>sheet"`
	}
	var relations struct {
		Relations []struct {
			ID     string `xml:"Id,attr"`
			Target string `xml:"Target,attr"`
		} `xml:"Relationship"`
	}
	if err := errors.Join(readPart(parts, "xl/workbook.xml", &book), readPart(parts, "xl/_rels/workbook.xml.rels", &relations)); err != nil {
		return nil, err
	}
	for _, s := range book.Sheets {
		for _, r := range relations.Relations {
			if s.Name != sheet || r.ID != s.ID {
				continue
			}
			target := r.Target
			if !strings.HasPrefix(target, "/") {
				target = path.Join("xl", target)
			}
			return findPart(parts, strings.TrimPrefix(target, "/"))
		}
	}
	return nil, fmt.Errorf("sheet %q: %w", sheet, errCorrupt)
}

func findPart(parts *zip.Reader, name string) (*zip.File, error) {
	for _, part := range parts.File {
		if strings.EqualFold(strings.ReplaceAll(part.Name, `\`, "/"), name) {
			return part, nil
		}
	}
	return nil, fmt.Errorf("%w (no part %s)", errCorrupt, name)
}

func readPart(parts *zip.Reader, name string, to any) error {
	part, err := findPart(parts, name)
	if err != nil {
		return err
	}
	text, err := part.Open()
	if err != nil {
		return err
	}
	return errors.Join(xml.NewDecoder(text).Decode(to), text.Close())
}

// eachCell calls do for each cell of a sheet. Rows count from 1, columns from 0.
func eachCell(sheet io.Reader, do func(row, column int, kind string, filled bool)) error {
	decoder := xml.NewDecoder(sheet)
	row, column, kind, filled, inValue, depth := 0, -1, "", false, false, 0
	for {
		token, err := decoder.RawToken()
		switch {
		case errors.Is(err, io.EOF) && depth != 0:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			depth++
			switch t.Name.Local {
			case "row":
				row, column = row+1, -1
				if n, err := strconv.Atoi(attribute(t, "r")); err == nil {
					row = n
				}
			case "c":
				column, kind, filled = column+1, attribute(t, "t"), false
				if at, _, err := excelize.CellNameToCoordinates(attribute(t, "r")); err == nil {
					column = at - 1
				}
			case "v":
				inValue = true
			}
		case xml.CharData:
			filled = filled || inValue && len(t) > 0
		case xml.EndElement:
			depth--
			switch t.Name.Local {
			case "v":
				inValue = false
			case "c":
				do(row, column, kind, filled)
			}
		}
	}
}

func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// limitedWriter fails once more than room bytes are written.
type limitedWriter struct {
	io.Writer
	room int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.room -= len(p); l.room < 0 {
		return 0, errTooLarge
	}
	return l.Writer.Write(p)
}
