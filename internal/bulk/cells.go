package bulk

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

const boolKey = "document_optional"

// boolean reads what spreadsheets and people write for true and false; anything
// else stays as it is.
func boolean(cell string) string {
	switch strings.ToLower(cell) {
	case "true", "yes", "1":
		return "true"
	case "false", "no", "0":
		return "false"
	}
	return cell
}

// notAnID says what a cell holds that a program or a person put there, but that is
// nobody's id; empty where there is nothing of the kind.
func notAnID(cell string) string {
	switch {
	case strings.HasPrefix(cell, "#") && isSpreadsheetError(cell):
		return fmt.Sprintf("is %s, which a spreadsheet shows where a formula failed", cell)
	case cell == "":
		return ""
	case cell[0] == '\'' && formula(cell[1:]):
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

// checkID adds to a row's error what is wrong with its id.
func checkID(id string, err error) error {
	problem := notAnID(id)
	if problem == "" {
		return err
	}
	problems := []tasks.Problem{{Key: idKey, Message: problem}}
	if invalid, ok := err.(*tasks.InvalidError); ok { //nolint:errorlint // ParseText gives no other
		problems = append(problems, invalid.Problems...)
	}
	return tasks.NewInvalidError(problems)
}
