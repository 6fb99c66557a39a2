package input

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/tasks"
)

// Inspection is the result of [File.Inspect].
type Inspection struct {
	Rows    int
	Rounded int // rows whose id [LooksRounded]
	// FirstRounded is the first of them.
	FirstRounded Row
}

// Inspect reads the file once and calls check for each row. An error of check ends it.
// The error is an [*Error] if the file cannot be read, or is read wrongly: it has
// another encoding, or a key is misspelled.
func (in *File) Inspect(check func(Row) error) (Inspection, error) {
	in.seen = make(map[string]bool)
	var found Inspection
	filled := make(map[int]bool)
	var flawed Row
	more := 0
	for row, err := range in.Rows() {
		if err != nil {
			return found, err
		}
		found.Rows++
		if row.flaw != 0 {
			if flawed.flaw == 0 {
				flawed = row
			} else {
				more++
			}
			continue
		}
		if err := check(row); err != nil {
			return found, err
		}
		for _, i := range in.unnamed {
			filled[i] = filled[i] || strings.TrimSpace(row.Cells[i]) != ""
		}
		if LooksRounded(row.Request.ApplicationID) {
			if found.Rounded++; found.Rounded == 1 {
				found.FirstRounded = row
			}
		}
	}
	if flawed.flaw != 0 {
		return found, in.flawError(flawed, more)
	}
	in.seen = nil
	in.empty = make(map[int]bool)
	for _, i := range in.unnamed {
		in.empty[i] = !filled[i]
	}
	return found, nil
}

// flawError returns the error of a file that is read wrongly. row is the first row that
// shows it, and more the number of further ones.
func (in *File) flawError(row Row, more int) error {
	problem := fmt.Sprintf("row %d at line %d, %v", row.Number, row.Line, row.Err)
	if row.flaw == garbled && in.sample != "" {
		// The sample of the whole file gives a better guess than one row.
		var columns []string
		if invalid, ok := row.Err.(*tasks.InvalidError); ok { //nolint:errorlint // it was made here
			for _, p := range invalid.Problems {
				columns = append(columns, p.Key)
			}
		}
		where := ""
		if c := strings.Join(slices.DeleteFunc(columns, func(c string) bool { return c == "" }), ", "); c != "" {
			where = ", column " + c
		}
		problem = fmt.Sprintf("row %d at line %d%s %s", row.Number, row.Line, where, in.garbledProblem(""))
	}
	if more == 1 {
		problem += " (and 1 more such row)"
	} else if more > 1 {
		problem += fmt.Sprintf(" (and %d more such rows)", more)
	}
	return in.readError(problem, nil)
}
