package bulk

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

// Limits of a workbook that is read: unpacked, sheets go to temporary files and
// everything else to memory.
const (
	maxSheets   = 2 << 30  // bytes of all sheets and their texts
	maxElse     = 64 << 20 // bytes of styles, pictures and so on
	maxCopy     = 2 << 30  // bytes of a sheet as CSV
	inMemory    = 1 << 20  // bytes of a part that need no temporary file
	maxTag      = 4 << 20  // bytes from one tag to the next
	maxTags     = 32 << 20 // of all texts
	exactDigits = 15       // of a number in a spreadsheet

	largeWorkbook = 4 << 20 // bytes of one whose memory is given back at once
)

// errCorrupt says that a workbook does not hold what its file name says.
var errCorrupt = errors.New("it is damaged, has a password, or is no .xlsx file")

// unpackWorkbook makes a copy of a sheet as CSV, and lets it be read in the
// workbook's place: its cells as they are displayed, every row of the sheet a row.
func (in *Input) unpackWorkbook() error {
	switch {
	case !in.regular():
		return in.unusable("is a workbook that comes through a pipe; save it to a file first", nil)
	case uncompressed(in.path) != in.path:
		return in.unusable("is a workbook that is compressed once more; unpack it first", nil)
	}
	copied, err := os.CreateTemp("", "kyclink-sheet-")
	if err == nil {
		err = os.Remove(copied.Name()) // it lives until it is closed
	}
	if err != nil {
		return in.unusable("cannot be copied to a temporary file", err)
	}
	// The library lists all texts of the workbook, some 60 bytes for each, which must
	// not be multiplied by what the collector leaves until later.
	percent := debug.SetGCPercent(50)
	err = in.copySheet(copied)
	debug.SetGCPercent(percent)
	if in.size > largeWorkbook {
		debug.FreeOSMemory()
	}
	if err != nil {
		_ = copied.Close() // it is gone with that
		if _, said := errors.AsType[*InputError](err); said {
			return err
		}
		return in.unusable("cannot be read as a workbook", err)
	}
	if in.size, err = copied.Seek(0, io.SeekCurrent); err == nil {
		err = in.file.Close()
	}
	in.file = copied
	if err != nil {
		return in.unusable("cannot be read", err)
	}
	return nil
}

func (in *Input) copySheet(to io.Writer) (err error) {
	parts, err := zip.NewReader(in.file, in.size)
	if err != nil {
		return errCorrupt
	}
	if err := in.boundWorkbook(parts); err != nil {
		return err
	}
	book, err := excelize.OpenFile(in.path, excelize.Options{
		UnzipXMLSizeLimit: inMemory, UnzipSizeLimit: maxSheets + maxElse, ShortDatePattern: "yyyy-mm-dd",
	})
	if err != nil {
		return fmt.Errorf("%w (%w)", errCorrupt, err)
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	sheet, err := in.sheet(book.GetSheetList())
	if err != nil {
		return err
	}
	rows, err := book.Rows(sheet)
	if err != nil {
		return fmt.Errorf("sheet %q: %w", sheet, err)
	}
	c := &sheetCopy{in: in, rows: rows, id: -1}
	err = c.write(to)
	if err = errors.Join(err, rows.Close()); err != nil {
		return err
	}
	return in.lookAtNumbers(parts, sheet, c)
}

// boundWorkbook refuses what would take too much to unpack.
func (in *Input) boundWorkbook(parts *zip.Reader) error {
	var sheets, others uint64
	for _, part := range parts.File {
		name := strings.ToLower(part.Name)
		texts := name == "xl/sharedstrings.xml"
		if !texts && !strings.HasPrefix(name, "xl/worksheets/sheet") {
			others += min(part.UncompressedSize64, maxElse+1)
			continue
		}
		if sheets += min(part.UncompressedSize64, maxSheets+1); sheets > maxSheets {
			break
		}
		if ok, err := boundPart(part, texts); err != nil {
			return fmt.Errorf("%w (%s: %w)", errCorrupt, part.Name, err)
		} else if !ok {
			sheets = maxSheets + 1
			break
		}
	}
	if sheets > maxSheets || others > maxElse {
		return in.unusable("is too large unpacked; save the sheet as CSV", nil)
	}
	return nil
}

// boundPart says whether a part can be read with little memory: what is between
// its tags is held as a whole, and each of its texts is listed.
func boundPart(part *zip.File, texts bool) (ok bool, err error) {
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
		case since > maxTag || texts && tags > maxTags:
			return false, nil
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// sheet gives the name of the sheet that is to be read.
func (in *Input) sheet(names []string) (string, error) {
	if len(names) == 0 {
		return "", in.unusable("has no sheet", nil)
	}
	want := in.reading.Sheet
	if want == "" {
		if len(names) > 1 {
			in.warnings = append(in.warnings, fmt.Sprintf("the workbook has %d sheets; the first, %q, is read (--sheet names another)", len(names), names[0]))
		}
		return names[0], nil
	}
	for _, name := range names {
		if strings.EqualFold(name, want) {
			return name, nil
		}
	}
	return "", in.unusable(fmt.Sprintf("has no sheet %q; it has %s", want, quoted20(names)), nil)
}

// sheetCopy writes a sheet as CSV.
type sheetCopy struct {
	in     *Input
	rows   *excelize.Rows
	header int    // its row, from 1; 0 before it
	id     int    // the column of the ids, from 0; -1 where it is not known
	padded []bool // by row: whether its id is displayed with a leading zero
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
			c.header, c.id = number, c.in.idColumn(cells)
		}
		padded := c.id >= 0 && c.id < len(cells) && strings.HasPrefix(cells[c.id], "0")
		c.padded = append(c.padded, padded)
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return errors.Join(c.rows.Error(), w.Error(), buffered.Flush())
}

// idColumn finds the column of the ids in a header; -1 where there is none.
func (in *Input) idColumn(header []string) int {
	m := mapping{keys: map[string]string{}, mapped: in.reading.Columns}
	for i, name := range header {
		if want, ok := in.reading.Columns[idKey]; ok && fold(want) == fold(name) {
			return i
		}
		if key, _ := m.key(name); key == idKey {
			return i
		}
	}
	return -1
}

// lookAtNumbers reads the sheet once more, for what the library passes over: that
// it is readable to its end, and which ids are numbers.
func (in *Input) lookAtNumbers(parts *zip.Reader, sheet string, c *sheetCopy) error {
	part, err := sheetPart(parts, sheet)
	if err != nil {
		return err
	}
	text, err := part.Open()
	if err != nil {
		return fmt.Errorf("sheet %q: %w", sheet, err)
	}
	defer func() { _ = text.Close() }() // it was only read
	numbers := 0
	err = eachCell(text, func(row, column int, kind string, filled bool) {
		isNumber := kind == "" || kind == "n"
		if column == c.id && row > c.header && isNumber && filled && (row > len(c.padded) || !c.padded[row-1]) {
			numbers++
		}
	})
	if err != nil {
		return fmt.Errorf("sheet %q is damaged: %w", sheet, err)
	}
	if numbers > 0 {
		in.warnings = append(in.warnings, fmt.Sprintf("application ids that are numbers in the sheet, not text: %d; it has lost any leading zeros of them, "+
			"and all digits after the %dth; where your ids have such, format the column as text and enter them again", numbers, exactDigits))
	}
	return nil
}

// sheetPart finds the part of the file that holds a sheet.
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
	return nil, fmt.Errorf("%w (it has no %s)", errCorrupt, name)
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

// eachCell walks through a sheet to its end. Rows count from 1, columns from 0.
func eachCell(sheet io.Reader, tell func(row, column int, kind string, filled bool)) error {
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
				tell(row, column, kind, filled)
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

// limitedWriter fails where more is written than it has room for.
type limitedWriter struct {
	io.Writer
	room int
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.room -= len(p); l.room < 0 {
		return 0, errors.New("the sheet is too large; save it as CSV")
	}
	return l.Writer.Write(p)
}
