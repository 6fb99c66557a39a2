package bulk

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

const idKey = "application_id"

func isKey(name string) bool { return slices.Contains(tasks.Keys(), name) }

// comma is what is between the cells.
func (in *Input) comma() byte {
	if in.reading.Delimiter != 0 {
		return in.reading.Delimiter
	}
	return ','
}

// header reads and judges the names of the columns.
func (in *Input) header(s *scanner) error {
	found := s.row()
	if err := s.Err(); err != nil {
		return in.unusable("cannot be read", err)
	}
	want := "its first line must name the columns, " + in.Column(idKey) + " among them, separated by "
	if c := in.comma(); c == ',' {
		want += "commas"
	} else {
		want += strconv.QuoteRune(rune(c))
	}
	switch {
	case !found:
		return in.unusable("has no header; "+want, nil)
	case !utf8.Valid(s.Bytes()):
		return in.unusable("has a header that is not UTF-8; save it as \"CSV UTF-8\"", nil)
	}
	names, err := readCSV(s.Bytes(), in.comma())
	if s.tooLong || err != nil {
		return in.unusable("has a header that is not readable as CSV; "+want, nil)
	}
	in.columns = slices.Clone(names)
	if err := in.placeKeys(); err != nil {
		return err
	}
	if _, ok := in.at[idKey]; !ok {
		return in.unusable("has no column "+in.Column(idKey)+"; "+want, nil)
	}
	return nil
}

// placeKeys finds the column of each key.
func (in *Input) placeKeys() error {
	in.at = make(map[string]int)
	keys := make(map[string]string) // by column
	for key, name := range in.reading.Columns {
		keys[name] = key
	}
	var unknown []string
	for i, name := range in.columns {
		key, mapped := keys[name]
		_, elsewhere := in.reading.Columns[name]
		switch {
		case !mapped && !isKey(name):
			unknown = append(unknown, strconv.Quote(name))
			continue
		case !mapped && elsewhere:
			return in.unusable(fmt.Sprintf("has a column %s, and %q was to be taken for it; rename or remove one", name, in.Column(name)), nil)
		case !mapped:
			key = name
		}
		if _, twice := in.at[key]; twice {
			return in.unusable("has two columns named "+name+"; rename or remove one", nil)
		}
		in.at[key] = i
	}
	for _, key := range tasks.Keys() {
		if name, mapped := in.reading.Columns[key]; mapped && !slices.Contains(in.columns, name) {
			return in.unusable(fmt.Sprintf("has no column %q, which was to be taken for %s; its columns are %s", name, key, strings.Join(in.columns, ", ")), nil)
		}
	}
	if _, ok := in.at[idKey]; ok && in.reading.Strict && len(unknown) > 0 {
		do := "remove them"
		if in.file != nil {
			do += ", or say which key each is with --map KEY=COLUMN"
		}
		return in.unusable(fmt.Sprintf("has columns that no request has: %s; %s (the keys are %s)",
			strings.Join(unknown, ", "), do, strings.Join(tasks.Keys(), ", ")), nil)
	}
	return nil
}

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
	case len(cells) == 1 && len(in.columns) != 1:
		row.Err = broken(s.line, "has 1 cell, the header has %d", len(in.columns))
	case len(cells) != len(in.columns):
		row.Err = broken(s.line, "has %d cells, the header has %d", len(cells), len(in.columns))
	default:
		row.Request, row.Err = tasks.ParseText(func(key string) string {
			if i, ok := in.at[key]; ok {
				return cells[i]
			}
			return ""
		})
		return row
	}
	row.cells = in.fit(cells)
	return row
}

// fit gives a row as many cells as the header has.
func (in *Input) fit(cells []string) []string {
	fitted := make([]string, len(in.columns))
	copy(fitted, cells)
	return fitted
}

// recordEnd cuts after the first record: its line breaks within quoted cells
// are its own. Where the quoting is broken, a record is one line, so that a
// quote too many costs its own row and not all rows up to the next quote.
func recordEnd(data []byte, comma byte, full bool) int {
	if n := lineEnd(data, full); n > 0 && bytes.IndexByte(data[:n], '"') < 0 {
		return n
	}
	n, ok := quoted(data, comma)
	if ok && (n > 0 || !full) {
		return n
	}
	return lineEnd(data, full)
}

// quoted gives the length of the first record of data by the rules of
// csv.Reader, 0 where data does not hold all of it, and false where they are
// broken.
func quoted(data []byte, comma byte) (int, bool) {
	stops := string([]byte{comma, '\n', '"'})
	for at := 0; ; {
		if at < len(data) && data[at] == '"' {
			n, _ := closing(data[at:])
			at += n
			switch rest := data[at:]; {
			case len(rest) == 0 || string(rest) == "\r":
				return 0, true
			case rest[0] == comma:
				at++
			case rest[0] == '\n':
				return at + 1, true
			case bytes.HasPrefix(rest, []byte("\r\n")):
				return at + 2, true
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
