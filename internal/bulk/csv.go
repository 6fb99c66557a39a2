package bulk

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strconv"
	"strings"

	"github.com/kyclink/kyclink/tasks"
)

// readCSV gives the cells of one row, by the rules of csv.Reader; but \r\n within
// a cell stays as it is. Where the quoting is broken they are what is left when
// quotes are taken as they come, for people to recognise the row.
func readCSV(row []byte, comma byte) ([]string, error) {
	row = bytes.TrimSuffix(bytes.TrimSuffix(row, []byte("\n")), []byte("\r"))
	text := string(row) // which the cells share
	cells := make([]string, 0, bytes.Count(row, []byte{comma})+1)
	for at := 0; ; {
		end, err := cellEnd(row[at:], comma)
		if err != nil {
			lazy := csv.NewReader(bytes.NewReader(row))
			lazy.LazyQuotes, lazy.Comma = true, rune(comma)
			cells, _ = lazy.Read()
			return cells, err
		}
		end += at
		cell := text[at:end]
		if cell != "" && cell[0] == '"' {
			if cell = cell[1 : len(cell)-1]; strings.IndexByte(cell, '"') >= 0 {
				cell = strings.ReplaceAll(cell, `""`, `"`)
			}
		}
		if cells = append(cells, cell); end == len(row) {
			return cells, nil
		}
		at = end + 1
	}
}

// cellEnd gives the length of the first cell of a row, with its quotes.
func cellEnd(row []byte, comma byte) (int, error) {
	if len(row) > 0 && row[0] == '"' {
		end, closed := closing(row)
		if !closed || end < len(row) && row[end] != comma {
			return 0, csv.ErrQuote
		}
		return end, nil
	}
	end := bytes.IndexByte(row, comma)
	if end < 0 {
		end = len(row)
	}
	if bytes.IndexByte(row[:end], '"') >= 0 {
		return 0, csv.ErrBareQuote
	}
	return end, nil
}

func (in *Input) decodeCSV(s *scanner) Row {
	if s.tooLong {
		return Row{cells: in.fit(nil), Err: broken(s.line, "is longer than %d bytes", MaxRow)}
	}
	cells, err := readCSV(s.Bytes(), in.comma())
	row := Row{cells: cells}
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		row.Err = broken(s.line, `has a quote (") in the middle of a cell; quote the whole cell and double the quotes in it`)
	case err != nil:
		row.Err = broken(s.line, `has a quoted cell without a proper end; double the quotes (") in it`)
	case len(cells) != len(in.columns):
		row.Err = in.misfit(s.line, cells)
		row.cells = in.fit(cells)
	}
	if row.Err != nil {
		row.cells = in.fit(cells)
		return row
	}
	if in.garbled(s.Bytes()) {
		row.flaw, row.Err = garbled, in.garbledCells(row.cells)
		return row
	}
	if row.Err = in.nameless(s.line, row.cells); row.Err == nil {
		row.Request, row.Err = tasks.ParseText(func(key string) string { return in.value(row.cells, key) })
		row.Err = checkID(row.Request.ApplicationID, row.Err)
	}
	return row
}

// misfit says what is wrong with a row that has not as many cells as the header.
// Spreadsheets leave out the last cells of a row where they are empty, and put
// empty ones after them.
func (in *Input) misfit(line int, cells []string) error {
	have := strconv.Itoa(len(cells)) + " cells"
	if len(cells) == 1 {
		have = "1 cell"
	}
	if len(cells) > len(in.columns) {
		if strings.Join(cells[len(in.columns):], "") == "" {
			return nil
		}
		return broken(line, "has %s, the header has %d", have, len(in.columns))
	}
	for _, c := range []byte(delimiters) {
		if c != in.delimiter && strings.IndexByte(strings.Join(cells, ""), c) >= 0 {
			return broken(line, "has %s, the header has %d: is it split by %s, not by %s?", have, len(in.columns), shown(c), shown(in.delimiter))
		}
	}
	return nil
}

// garbledCells names the cells that hold what means nothing in the file's encoding.
func (in *Input) garbledCells(cells []string) error {
	var problems []tasks.Problem
	for i, cell := range cells {
		if in.garbled([]byte(cell)) {
			problems = append(problems, tasks.Problem{Key: in.columnName(i), Message: in.garbledProblem(cell)})
		}
	}
	return tasks.NewInvalidError(problems)
}

// nameless refuses, where all must have a meaning, what stands in a column that has
// no name.
func (in *Input) nameless(line int, cells []string) error {
	if !in.reading.Strict {
		return nil
	}
	for _, i := range in.unnamed {
		if strings.TrimSpace(cells[i]) != "" {
			return broken(line, "holds a value in %s, which has no name in the header", in.columnName(i))
		}
	}
	return nil
}

// value is what a row holds for a key, as a request's text has it.
func (in *Input) value(cells []string, key string) string {
	i, ok := in.at.of(key)
	switch {
	case !ok:
		return ""
	case key == boolKey:
		return boolean(cells[i])
	}
	return cells[i]
}

// fit gives a row as many cells as the header has.
func (in *Input) fit(cells []string) []string {
	fitted := make([]string, len(in.columns))
	copy(fitted, cells)
	return fitted
}

// blankCSV says of a row that all its cells are empty or blank.
func (in *Input) blankCSV(row []byte) bool {
	quoted := false
	for _, c := range row {
		switch {
		case c == '"':
			quoted = true
		case c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == in.delimiter:
		case in.delimiter == 0 && strings.IndexByte(delimiters, c) >= 0:
		default:
			return false
		}
	}
	if !quoted {
		return true
	}
	cells, err := readCSV(row, in.delimiter)
	return err == nil && strings.TrimSpace(strings.Join(cells, "")) == ""
}

// recordEnd cuts after the first record: its line breaks within quoted cells
// are its own. Where the quoting is broken, a record is one line, so that a
// quote too many costs its own row and not all rows up to the next quote.
func recordEnd(data []byte, comma byte, full bool) int {
	n := lineEnd(data, full)
	if n > 0 && bytes.IndexByte(data[:n], '"') < 0 {
		return n
	}
	if end, ok := quoted(data, comma, full); ok && (end > 0 || !full) {
		return end
	}
	return n
}

// quoted gives the length of the first record of data by the rules of
// csv.Reader, 0 where data does not hold all of it, and false where they are
// broken. A CR ends a record as well.
func quoted(data []byte, comma byte, full bool) (int, bool) {
	stops := string([]byte{comma, '\n', '\r', '"'})
	for at := 0; ; {
		if at < len(data) && data[at] == '"' {
			n, _ := closing(data[at:])
			at += n
			switch {
			case at == len(data):
				return 0, true
			case data[at] == comma:
				at++
			case data[at] == '\n':
				return at + 1, true
			case data[at] == '\r':
				return afterCR(data, at, full), true
			default:
				return 0, false
			}
			continue
		}
		i := bytes.IndexAny(data[at:], stops)
		switch {
		case i < 0:
			return 0, true
		case data[at+i] == '"':
			return 0, false
		case data[at+i] == '\n':
			return at + i + 1, true
		case data[at+i] == '\r':
			return afterCR(data, at+i, full), true
		}
		at += i + 1
	}
}

// closing gives the length of the quoted cell that data begins with; false, and
// all of data, where it does not end there.
func closing(data []byte) (int, bool) {
	for at := 1; ; at += 2 {
		i := bytes.IndexByte(data[at:], '"')
		if i < 0 {
			return len(data), false
		}
		at += i
		if at+1 == len(data) || data[at+1] != '"' {
			return at + 1, true
		}
	}
}
