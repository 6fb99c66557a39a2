package column

import (
	"strings"
	"unicode/utf8"
)

// formulaStarts are the first characters of cells that a spreadsheet may evaluate,
// in ASCII and in the full-width forms that some spreadsheets accept.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// IsFormula reports whether a spreadsheet may evaluate the cell.
func IsFormula(cell string) bool {
	first, _ := utf8.DecodeRuneInString(cell)
	return cell != "" && strings.ContainsRune(formulaStarts, first)
}

// EscapeFormulas puts an apostrophe before each cell that a spreadsheet may
// evaluate, so that the spreadsheet shows the cell's text.
func EscapeFormulas(cells []string) {
	for i, cell := range cells {
		if IsFormula(cell) {
			cells[i] = "'" + cell
		}
	}
}
