package input

import (
	"bytes"
	"encoding/csv"
	"errors"
	"strconv"
	"strings"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// parseRecord returns the cells of one record, by the rules of csv.Reader, but keeps
// \r\n within a cell. If the quoting is broken, it returns an error and the cells
// that result when quotes are taken literally, for people to recognize the row.
func parseRecord(row []byte, comma byte) ([]string, error) {
	row = bytes.TrimSuffix(bytes.TrimSuffix(row, []byte("\n")), []byte("\r"))
	text := string(row) // shared by the cells
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
			cell = unescape(cell[1 : len(cell)-1])
		}
		if cells = append(cells, cell); end == len(row) {
			return cells, nil
		}
		at = end + 1
	}
}

// unescape replaces the doubled quotes of a quoted cell, in which cellEnd has found no
// others. It is a ReplaceAll in a third of the time.
func unescape(cell string) string {
	quote := strings.IndexByte(cell, '"')
	if quote < 0 {
		return cell
	}
	var b strings.Builder
	b.Grow(len(cell))
	for quote >= 0 {
		b.WriteString(cell[:quote+1])
		cell = cell[quote+2:]
		quote = strings.IndexByte(cell, '"')
	}
	b.WriteString(cell)
	return b.String()
}

// cellEnd returns the length of the first cell of a row, with its quotes.
func cellEnd(row []byte, comma byte) (int, error) {
	if len(row) > 0 && row[0] == '"' {
		end, closed := closingQuote(row)
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

func (in *File) decodeCSV(s *scanner) Row {
	if s.tooLong {
		return Row{Cells: in.fit(nil), Err: malformed(s.line, "is longer than %d bytes", maxRow)}
	}
	cells, err := parseRecord(s.Bytes(), in.delimiter)
	row := Row{Cells: cells}
	switch {
	case errors.Is(err, csv.ErrBareQuote):
		row.Err = malformed(s.line, `has a quote (") in the middle of a cell; quote the whole cell and double the quotes in it`)
	case err != nil:
		row.Err = malformed(s.line, `has a quoted cell without a proper end; double the quotes (") in it`)
	case len(cells) != len(in.columns):
		row.Err = in.checkWidth(s.line, cells)
		row.Cells = in.fit(cells)
	}
	if row.Err != nil {
		row.Cells = in.fit(cells)
		return row
	}
	if in.isGarbled(s.Bytes()) {
		row.flaw, row.Err = garbled, in.garbledCells(row.Cells)
		return row
	}
	if row.Err = in.checkUnnamed(s.line, row.Cells); row.Err == nil {
		row.Request, row.Err = tasks.ParseText(func(key string) string { return in.cell(row.Cells, key) })
		row.Err = checkID(row.Request.ApplicationID, row.Err)
	}
	return row
}

// checkWidth checks a row whose number of cells differs from that of the header. Spreadsheets
// leave out empty cells at the end of a row, and add empty ones.
func (in *File) checkWidth(line int, cells []string) error {
	have := strconv.Itoa(len(cells)) + " cells"
	if len(cells) == 1 {
		have = "1 cell"
	}
	if len(cells) > len(in.columns) {
		if strings.Join(cells[len(in.columns):], "") == "" {
			return nil
		}
		return malformed(line, "has %s, the header has %d", have, len(in.columns))
	}
	for _, c := range []byte(delimiters) {
		if c != in.delimiter && strings.IndexByte(strings.Join(cells, ""), c) >= 0 {
			return malformed(line, "has %s, the header has %d: is it separated by %s, not by %s?", have, len(in.columns), delimiterName(c), delimiterName(in.delimiter))
		}
	}
	return nil
}

// garbledCells returns an error that names the cells with text that is not valid in
// the file's encoding.
func (in *File) garbledCells(cells []string) error {
	var problems []tasks.Problem
	for i, cell := range cells {
		if in.isGarbled([]byte(cell)) {
			problems = append(problems, tasks.Problem{Key: in.columnLabel(i), Message: in.garbledProblem(cell)})
		}
	}
	return tasks.NewInvalidError(problems)
}

// checkUnnamed refuses, when reading is strict, a value in a column without a name.
func (in *File) checkUnnamed(line int, cells []string) error {
	if !in.options.Strict {
		return nil
	}
	for _, i := range in.unnamed {
		if strings.TrimSpace(cells[i]) != "" {
			return malformed(line, "has a value in %s, which has no name in the header", in.columnLabel(i))
		}
	}
	return nil
}

// cell returns a row's value of a key, as the text of a request has it.
func (in *File) cell(cells []string, key string) string {
	i, ok := in.keys.column(key)
	switch {
	case !ok:
		return ""
	case key == column.DocumentOptional:
		return column.Bool(cells[i])
	}
	return cells[i]
}

// fit returns as many cells as the header has.
func (in *File) fit(cells []string) []string {
	fitted := make([]string, len(in.columns))
	copy(fitted, cells)
	return fitted
}

// isBlank reports whether all cells of a row are empty or blank.
func (in *File) isBlank(row []byte) bool {
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
	cells, err := parseRecord(row, in.delimiter)
	return err == nil && strings.TrimSpace(strings.Join(cells, "")) == ""
}

// CutRecord splits the first complete record off a CSV text that is separated by
// commas. It returns its cells and its length; 0 if text has no complete record.
func CutRecord(text []byte) (cells []string, size int, err error) {
	size = recordEnd(text, ',', false)
	if size == 0 {
		return nil, 0, nil
	}
	cells, err = parseRecord(text[:size], ',')
	return cells, size, err
}

// recordEnd returns the length of the first record, whose quoted cells may have line
// breaks. If the quoting is broken, the record is one line, so that a stray quote
// spoils its own row and not all rows up to the next quote.
func recordEnd(data []byte, comma byte, final bool) int {
	n := lineEnd(data, final)
	if n > 0 && bytes.IndexByte(data[:n], '"') < 0 {
		return n
	}
	if end, ok := quotedRecordEnd(data, comma, final); ok && (end > 0 || !final) {
		return end
	}
	return n
}

// quotedRecordEnd returns the length of the first record of data by the rules of
// csv.Reader, 0 if data does not hold all of it, and false if the rules are broken. A
// CR ends a record as well.
func quotedRecordEnd(data []byte, comma byte, final bool) (int, bool) {
	stops := string([]byte{comma, '\n', '\r', '"'})
	for at := 0; ; {
		if at < len(data) && data[at] == '"' {
			n, _ := closingQuote(data[at:])
			at += n
			switch {
			case at == len(data):
				return 0, true
			case data[at] == comma:
				at++
			case data[at] == '\n':
				return at + 1, true
			case data[at] == '\r':
				return afterCR(data, at, final), true
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
			return afterCR(data, at+i, final), true
		}
		at += i + 1
	}
}

// closingQuote returns the length of the quoted cell that data begins with, or the
// length of data and false if the cell does not end in it.
func closingQuote(data []byte) (int, bool) {
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
