package bulk

import (
	"bytes"
	"encoding/csv"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

const idKey = "application_id"

func isKey(name string) bool { return slices.Contains(tasks.Keys(), name) }

// header reads and judges the names of the columns.
func (in *Input) header() ([]string, error) {
	s := in.scan()
	found := s.row()
	if err := s.Err(); err != nil {
		return nil, in.unusable("cannot be read", err)
	}
	const want = "its first line must name the columns, application_id among them, separated by commas"
	switch {
	case !found:
		return nil, in.unusable("has no header; "+want, nil)
	case !utf8.Valid(s.Bytes()):
		return nil, in.unusable("has a header that is not UTF-8; save it as \"CSV UTF-8\"", nil)
	}
	names, err := readCSV(s.Bytes())
	if s.tooLong || err != nil {
		return nil, in.unusable("has a header that is not readable as CSV; "+want, nil)
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if seen[name] && isKey(name) {
			return nil, in.unusable("has two columns named "+name+"; rename or remove one", nil)
		}
		seen[name] = true
	}
	if !seen[idKey] {
		return nil, in.unusable("has no column application_id; "+want, nil)
	}
	return names, nil
}

// csvDecoder takes rows apart.
type csvDecoder struct {
	columns []string
	at      map[string]int // column by key
}

func newCSVDecoder(columns []string) *csvDecoder {
	d := &csvDecoder{columns: columns, at: make(map[string]int)}
	for i, name := range columns {
		if isKey(name) {
			d.at[name] = i
		}
	}
	return d
}

// readCSV gives the cells of one row. Where the quoting is broken they are what
// is left when quotes are taken as they come, for people to recognise the row.
// Each row has a csv.Reader of its own, so that what is wrong with one never
// reaches the next.
func readCSV(row []byte) ([]string, error) {
	// Within a cell csv.Reader turns \r\n into \n; of \r\r\n it leaves \r\n. A
	// line break that does not end the row is within a cell.
	end := len(row) - len("\r\n")
	if end > 0 && bytes.Contains(row[:end], []byte("\r\n")) {
		row = append(bytes.ReplaceAll(row[:end], []byte("\r\n"), []byte("\r\r\n")), row[end:]...)
	}
	cells, err := csv.NewReader(bytes.NewReader(row)).Read()
	if err != nil {
		lazy := csv.NewReader(bytes.NewReader(bytes.TrimRight(row, "\r\n")))
		lazy.LazyQuotes = true
		cells, _ = lazy.Read()
	}
	return cells, err
}

func (d *csvDecoder) decode(s *scanner) Row {
	if s.tooLong {
		return Row{cells: d.fit(nil), Err: broken(s.line, "is longer than %d bytes", MaxRow)}
	}
	cells, err := readCSV(s.Bytes())
	row := Row{cells: d.fit(cells)}
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		row.Err = broken(s.line, `has a quote (") in the middle of a cell; quote the whole cell and double the quotes in it`)
	case err != nil:
		row.Err = broken(s.line, `has a quoted cell without a proper end; double the quotes (") in it`)
	case len(cells) != len(d.columns):
		row.Err = broken(s.line, "has %d cells, the header has %d", len(cells), len(d.columns))
	default:
		row.Request, row.Err = tasks.ParseText(func(key string) string {
			if i, ok := d.at[key]; ok {
				return cells[i]
			}
			return ""
		})
	}
	return row
}

// fit gives a row as many cells as the header has.
func (d *csvDecoder) fit(cells []string) []string {
	fitted := make([]string, len(d.columns))
	copy(fitted, cells)
	return fitted
}

// recordEnd cuts after the first record: its line breaks within quoted cells
// are its own. Where the quoting is broken, a record is one line, so that a
// quote too many costs its own row and not all rows up to the next quote.
func recordEnd(data []byte, full bool) int {
	n, ok := quoted(data)
	if ok && (n > 0 || !full) {
		return n
	}
	return lineEnd(data, full)
}

// quoted gives the length of the first record of data by the rules of
// csv.Reader, 0 where data does not hold all of it, and false where they are
// broken.
func quoted(data []byte) (int, bool) {
	for at := 0; ; {
		if at < len(data) && data[at] == '"' {
			at += closing(data[at:])
			switch rest := data[at:]; {
			case len(rest) == 0 || string(rest) == "\r":
				return 0, true
			case rest[0] == ',':
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
		i := bytes.IndexAny(data[at:], ",\n\"")
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

// closing gives the length of the quoted cell that data begins with, all of
// data where it does not end there.
func closing(data []byte) int {
	for at := 1; ; at += 2 {
		i := bytes.IndexByte(data[at:], '"')
		if i < 0 {
			return len(data)
		}
		at += i
		if at+1 == len(data) || data[at+1] != '"' {
			return at + 1
		}
	}
}
