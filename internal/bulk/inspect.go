package bulk

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/tasks"
)

// Inspection is what one reading of the whole file shows before the work begins.
type Inspection struct {
	Rows    int
	Rounded int // rows whose id looks like a number that a spreadsheet rounded
	// FirstRounded is the first of them.
	FirstRounded Row
}

// Inspect reads the file once. The error is an [*InputError] where the file cannot
// be read, or was read wrongly: its encoding is another one, or a key is misspelled;
// and an [*OutputError] where out cannot hold all of it.
func (in *Input) Inspect(out string) (Inspection, error) {
	format := outFormat(out, in)
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
		if err := in.fits(row, format); err != nil {
			return found, &OutputError{Path: out, Problem: fmt.Sprintf("cannot hold row %d", row.Number), Err: err}
		}
		for _, i := range in.unnamed {
			filled[i] = filled[i] || strings.TrimSpace(row.cells[i]) != ""
		}
		if LooksRounded(row.Request.ApplicationID) {
			if found.Rounded++; found.Rounded == 1 {
				found.FirstRounded = row
			}
		}
	}
	if flawed.flaw != 0 {
		return found, in.flawedRow(flawed, more)
	}
	if format != NDJSON && len(in.otherKeys) > maxOtherKeys {
		return found, &OutputError{Path: out, Problem: fmt.Sprintf("cannot hold the more than %d keys that the lines have; write an .ndjson", maxOtherKeys)}
	}
	in.seen = nil
	in.empty = make(map[int]bool)
	for _, i := range in.unnamed {
		in.empty[i] = !filled[i]
	}
	return found, nil
}

// fits says whether a file of a format can hold a row.
func (in *Input) fits(row Row, format Format) error {
	if format != XLSX {
		return nil
	}
	cells := row.cells
	if in.format == NDJSON {
		cells = row.texts(in.keyColumns())
	}
	if err := fitsSheet(row.Number+1, len(cells)+len(results)); err != nil {
		return err
	}
	for _, cell := range cells {
		if strings.ContainsFunc(cell, unwritable) {
			return errors.New("a workbook cannot hold its control characters; write a .csv")
		}
		if err := fitsCell(cell); err != nil {
			return err
		}
	}
	return nil
}

// flawedRow is the error of a file that was read wrongly, as its first such row
// shows it.
func (in *Input) flawedRow(row Row, more int) error {
	problem := fmt.Sprintf("cannot be used: row %d at line %d, %v", row.Number, row.Line, row.Err)
	if row.flaw == garbled && in.sample != "" {
		// All of the file tells more of its encoding than one row does.
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
		problem = fmt.Sprintf("cannot be used: row %d at line %d%s %s", row.Number, row.Line, where, in.garbledProblem(""))
	}
	if more == 1 {
		problem += " (and 1 more such row)"
	} else if more > 1 {
		problem += fmt.Sprintf(" (and %d more such rows)", more)
	}
	return in.unusable(problem, nil)
}

// LooksRounded says of an id that it reads like 4.91702E+12: as spreadsheets show
// long numbers, of which they then save only the digits shown.
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
		return false // 1E5 may well be somebody's id
	}
	return digits(mantissa) && exponent != "" && digits(exponent)
}

func digits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// Used is a column of the file, and the request's key that it is read as.
type Used struct{ Key, Column string }

// Mapping tells which columns are read as which keys, and which others there are.
// Of NDJSON, of which every line has its own, it tells the names that were given, and
// the keys that [Input.Inspect] found to be carried over.
func (in *Input) Mapping() (used []Used, others []string) {
	if in.format == NDJSON {
		for _, key := range tasks.Keys() {
			if name, ok := in.reading.Columns[key]; ok {
				used = append(used, Used{key, name})
			}
		}
		return used, in.otherKeys
	}
	for _, key := range tasks.Keys() {
		if i, ok := in.at.of(key); ok {
			used = append(used, Used{key, in.columns[i]})
		}
	}
	for i, name := range in.columns {
		taken := slices.ContainsFunc(in.at, func(c keyColumn) bool { return c.column == i })
		if !taken && fold(name) != "" {
			others = append(others, name)
		}
	}
	return used, others
}

// Style tells how the file is written where that is not plain UTF-8 with commas,
// for people; empty where it is.
func (in *Input) Style() string {
	var parts []string
	if in.encoding != "" && !strings.EqualFold(in.encoding, "utf-8") {
		parts = append(parts, in.encoding)
	}
	if in.kind == CSV && in.delimiter != ',' {
		parts = append(parts, "split by "+shown(in.delimiter))
	}
	return strings.Join(parts, ", ")
}
