package bulk

import (
	"strings"
	"unicode/utf8"
)

// formulaStarts is what a cell begins with that a spreadsheet may take for a
// formula, in ASCII and in the full-width forms that some of them accept too.
const formulaStarts = "=+-@\t\r\n＝＋－＠"

// formula says that a spreadsheet may evaluate the cell.
func formula(cell string) bool {
	first, _ := utf8.DecodeRuneInString(cell)
	return cell != "" && strings.ContainsRune(formulaStarts, first)
}

// neutralize puts an apostrophe before each cell that a spreadsheet may take for a
// formula, so that it shows its text.
func neutralize(cells []string) {
	for i, cell := range cells {
		if formula(cell) {
			cells[i] = "'" + cell
		}
	}
}
