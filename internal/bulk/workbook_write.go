package bulk

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// workbookWriter makes a workbook of CSV with commas, which is written to it in any
// pieces. Every cell is a text, so that ids keep their zeros and nothing is a formula;
// but numbers that this program makes are numbers.
type workbookWriter struct {
	to      io.Writer
	book    *excelize.File
	sheet   *excelize.StreamWriter
	text    []byte // not yet a whole record
	rows    int
	numbers []int // their columns
}

const outSheet = "links"

// newWorkbookWriter keeps large sheets in files in a directory on the way to w; in
// the system's for temporary files where it is empty.
func newWorkbookWriter(to io.Writer, dir string) (*workbookWriter, error) {
	book := excelize.NewFile(excelize.Options{TmpDir: dir})
	// The library would keep the whole file in memory before it writes it.
	book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(to) })
	err := book.SetSheetName(book.GetSheetName(0), outSheet)
	w := &workbookWriter{to: to, book: book}
	if err == nil {
		w.sheet, err = book.NewStreamWriter(outSheet)
	}
	if err != nil {
		return nil, errors.Join(err, book.Close())
	}
	return w, nil
}

func (w *workbookWriter) Write(text []byte) (int, error) {
	w.text = append(w.text, text...)
	at := 0
	for {
		n := recordEnd(w.text[at:], ',', false)
		if n == 0 {
			break
		}
		cells, err := readCSV(w.text[at:at+n], ',')
		if err == nil {
			err = w.row(cells)
		}
		if err != nil {
			return 0, err
		}
		at += n
	}
	w.text = append(w.text[:0], w.text[at:]...)
	return len(text), nil
}

func (w *workbookWriter) row(cells []string) error {
	w.rows++
	if err := fitsSheet(w.rows, len(cells)); err != nil {
		return err
	}
	values := make([]any, len(cells))
	for i, cell := range cells {
		if w.rows == 1 && (cell == "attempts" || cell == "possible_duplicates") {
			w.numbers = append(w.numbers, i)
		}
		if err := fitsCell(cell); err != nil {
			return fmt.Errorf("row %d, column %d: %w", w.rows, i+1, err)
		}
		if n, err := strconv.Atoi(cell); err == nil && slices.Contains(w.numbers, i) {
			values[i] = n
		} else if cell != "" {
			values[i] = strings.Map(func(r rune) rune {
				if unwritable(r) {
					return utf8.RuneError
				}
				return r
			}, cell)
		}
	}
	return w.sheet.SetRow("A"+strconv.Itoa(w.rows), values)
}

// fitsSheet says whether a sheet has that many rows and columns.
func fitsSheet(rows, columns int) error {
	switch {
	case rows > excelize.TotalRows:
		return fmt.Errorf("a sheet holds %d rows at most; write a .csv", excelize.TotalRows)
	case columns > excelize.MaxColumns:
		return fmt.Errorf("a sheet holds %d columns at most; write a .csv", excelize.MaxColumns)
	}
	return nil
}

// fitsCell says whether a cell of a sheet is long enough for a text.
func fitsCell(cell string) error {
	if len(cell) > excelize.TotalCellChars && len(utf16.Encode([]rune(cell))) > excelize.TotalCellChars {
		return fmt.Errorf("a cell holds %d characters at most; write a .csv", excelize.TotalCellChars)
	}
	return nil
}

// unwritable says of a character that a workbook's XML cannot hold it.
func unwritable(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff'
}

// Close writes the workbook.
func (w *workbookWriter) Close() error {
	err := w.sheet.Flush()
	if err == nil {
		_, err = w.book.WriteTo(w.to)
	}
	return errors.Join(err, w.book.Close())
}

// discard gives up the workbook.
func (w *workbookWriter) discard() error { return w.book.Close() }
