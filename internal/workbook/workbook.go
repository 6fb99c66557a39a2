// Package workbook reads a sheet of an .xlsx file as CSV, and writes rows of cells
// as an .xlsx file.
package workbook

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/xuri/excelize/v2"
)

// errCorrupt reports that a file named .xlsx is not a readable workbook.
var errCorrupt = errors.New("not a readable workbook (damaged, protected by a password, or not .xlsx)")

// errTooLarge reports that a workbook exceeds the limits of this package.
var errTooLarge = errors.New("the workbook is too large when unpacked; save the sheet as CSV")

// NoSheetError reports that a workbook has no sheet of the requested name.
type NoSheetError struct {
	Name   string
	Sheets []string // the sheets of the workbook
}

func (e *NoSheetError) Error() string {
	if len(e.Sheets) == 0 {
		return "the workbook has no sheets"
	}
	const most = 20
	list := make([]string, 0, most+1)
	for _, name := range e.Sheets[:min(len(e.Sheets), most)] {
		list = append(list, strconv.Quote(name))
	}
	if more := len(e.Sheets) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("no sheet %q; the workbook has %s", e.Name, strings.Join(list, ", "))
}

// CheckRow reports whether a sheet can hold a row with these cells as its nth row.
func CheckRow(n int, cells []string, moreColumns int) error {
	if err := checkSize(n, len(cells)+moreColumns); err != nil {
		return err
	}
	for _, cell := range cells {
		if strings.ContainsFunc(cell, unwritable) {
			return errors.New("a workbook cannot hold control characters; write a .csv file")
		}
		if err := checkCell(cell); err != nil {
			return err
		}
	}
	return nil
}

// checkSize reports whether a sheet can have this many rows and columns.
func checkSize(rows, columns int) error {
	switch {
	case rows > excelize.TotalRows:
		return fmt.Errorf("a sheet holds at most %d rows; write a .csv file", excelize.TotalRows)
	case columns > excelize.MaxColumns:
		return fmt.Errorf("a sheet holds at most %d columns; write a .csv file", excelize.MaxColumns)
	}
	return nil
}

// checkCell reports whether a cell can hold a text of this length.
func checkCell(cell string) error {
	if len(cell) > excelize.TotalCellChars && len(utf16.Encode([]rune(cell))) > excelize.TotalCellChars {
		return fmt.Errorf("a cell holds at most %d characters; write a .csv file", excelize.TotalCellChars)
	}
	return nil
}

// unwritable reports whether a workbook's XML cannot hold a character.
func unwritable(r rune) bool {
	return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == '\ufffe' || r == '\uffff'
}
