package input

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// idProblem describes what a program or a person put into the cell of an id that
// cannot be an id, or returns "".
func idProblem(cell string) string {
	switch {
	case strings.HasPrefix(cell, "#") && isSpreadsheetError(cell):
		return fmt.Sprintf("is %s, which a spreadsheet shows when a formula fails", cell)
	case cell == "":
		return ""
	case cell[0] == '\'' && column.IsFormula(cell[1:]):
		return "begins with ' before a formula's sign, as --spreadsheet writes it; remove the '"
	}
	first, _ := utf8.DecodeRuneInString(cell)
	last, _ := utf8.DecodeLastRuneInString(cell)
	for _, r := range [...]rune{first, last} {
		switch r {
		case '“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›':
			return fmt.Sprintf("begins or ends with %c (U+%04X), a typographic quote, which is not part of an id; remove it", r, r)
		}
	}
	return ""
}

func isSpreadsheetError(cell string) bool {
	switch strings.TrimRight(cell, "!?") {
	case "#N/A", "#REF", "#VALUE", "#NAME", "#DIV/0", "#NUM", "#NULL", "#SPILL", "#CALC":
		return true
	}
	return false
}

// checkID adds the problem of a row's id to the row's error.
func checkID(id string, err error) error {
	problem := idProblem(id)
	if problem == "" {
		return err
	}
	problems := []tasks.Problem{{Key: column.ID, Message: problem}}
	if invalid, ok := err.(*tasks.InvalidError); ok { //nolint:errorlint // ParseText returns no other
		problems = append(problems, invalid.Problems...)
	}
	return tasks.NewInvalidError(problems)
}

// LooksRounded reports whether an id reads like 4.91702E+12: spreadsheets show long
// numbers like this, and then save only the digits shown.
func LooksRounded(id string) bool {
	if id == "" || id[0] < '0' || id[0] > '9' {
		return false
	}
	e := strings.IndexAny(id, "eE")
	if e < 0 {
		return false
	}
	mantissa, exponent := id[1:e], strings.TrimPrefix(id[e+1:], "+")
	if mantissa != "" && (mantissa[0] == '.' || mantissa[0] == ',') {
		mantissa = mantissa[1:]
	} else if mantissa != "" || !strings.HasPrefix(id[e+1:], "+") {
		return false // 1E5 may well be an id
	}
	return isDigits(mantissa) && exponent != "" && isDigits(exponent)
}

func isDigits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}
