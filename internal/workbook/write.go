package workbook

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// Writer writes rows as a workbook with one sheet. Each cell is text, so that ids
// keep their leading zeros and nothing is evaluated as a formula; only the columns
// that isNumber names hold numbers. It is for one goroutine.
type Writer struct {
	to       io.Writer
	book     *excelize.File
	sheet    *excelize.StreamWriter
	isNumber func(column string) bool
	rows     int
	numbers  []int // columns that hold numbers
}

const sheetName = "links"

// NewWriter begins a workbook. The first row must name the columns. Large sheets are
// buffered in files in dir, or in the system's directory for temporary files if dir
// is empty.
func NewWriter(to io.Writer, dir string, isNumber func(column string) bool) (*Writer, error) {
	book := excelize.NewFile(excelize.Options{TmpDir: dir})
	// Without its own zip writer the library keeps the whole file in memory.
	book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return zip.NewWriter(to) })
	err := book.SetSheetName(book.GetSheetName(0), sheetName)
	w := &Writer{to: to, book: book, isNumber: isNumber}
	if err == nil {
		w.sheet, err = book.NewStreamWriter(sheetName)
	}
	if err != nil {
		return nil, errors.Join(err, book.Close())
	}
	return w, nil
}

// Write adds a row.
func (w *Writer) Write(cells []string) error {
	w.rows++
	if err := checkSize(w.rows, len(cells)); err != nil {
		return err
	}
	values := make([]any, len(cells))
	for i, cell := range cells {
		if w.rows == 1 && w.isNumber(cell) {
			w.numbers = append(w.numbers, i)
		}
		if err := checkCell(cell); err != nil {
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

// Close writes the workbook.
func (w *Writer) Close() error {
	err := w.sheet.Flush()
	if err == nil {
		_, err = w.book.WriteTo(w.to)
	}
	return errors.Join(err, w.book.Close())
}

// Discard closes the workbook without writing it.
func (w *Writer) Discard() error { return w.book.Close() }
