package output

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/workbook"
)

// maxQuoted is how much of a line that is not a JSON object is written, in bytes.
const maxQuoted = 1 << 10

// Encoding describes how rows are encoded.
type Encoding struct {
	Format input.Format
	Layout input.Layout // of the rows
	// Extra columns follow the layout's, and replace those of the same name.
	Extra []string
	// Spreadsheet escapes cells of a CSV that a spreadsheet may evaluate.
	Spreadsheet bool
}

func (e Encoding) isExtra(name string) bool { return slices.Contains(e.Extra, name) }

// Encoder writes rows in a format. It is for one goroutine.
type Encoder struct {
	Encoding
	w       io.Writer
	kept    []int    // columns of the layout that are written
	names   []string // of kept, in the file
	records records  // CSV and workbooks
	cells   []string // of the last record
	keys    [][]byte // NDJSON: the labels of kept and Extra, encoded
	line    []byte   // NDJSON: the last one
}

// records writes records of cells.
type records interface{ Write(cells []string) error }

// NewEncoder returns an encoder for CSV or NDJSON.
func NewEncoder(w io.Writer, encoding Encoding) *Encoder {
	e := &Encoder{Encoding: encoding, w: w}
	for i, c := range e.Layout.Columns {
		if !e.isExtra(c.Name) && !c.Empty {
			e.kept, e.names = append(e.kept, i), append(e.names, c.Name)
			e.keys = append(e.keys, input.AppendString(nil, c.Label))
		}
	}
	for _, name := range e.Extra {
		e.keys = append(e.keys, input.AppendString(nil, name))
	}
	// LF ends a line: in its CRLF mode csv.Writer changes the line breaks in cells.
	text := csv.NewWriter(w)
	if c := e.Layout.Delimiter; c != 0 {
		text.Comma = rune(c)
	}
	e.records = text
	return e
}

// newWorkbookEncoder returns an encoder that writes cells to a workbook.
func newWorkbookEncoder(book *workbook.Writer, encoding Encoding) *Encoder {
	encoding.Spreadsheet = false // no cell of the workbook is a formula
	e := NewEncoder(io.Discard, encoding)
	e.records = book
	return e
}

// Header writes the byte order mark, the line with the delimiter and the column names, as
// far as the format has them.
func (e *Encoder) Header() error {
	if e.Format == input.NDJSON {
		return nil
	}
	if e.Format == input.CSV {
		start := ""
		if e.Layout.Mark {
			start = input.ByteOrderMark
		}
		if e.Layout.SepLine {
			start += "sep=" + string(rune(e.Layout.Delimiter)) + "\n"
		}
		if _, err := io.WriteString(e.w, start); err != nil {
			return err
		}
	}
	e.cells = append(e.cells[:0], e.names...)
	return e.record(e.Extra)
}

// Row writes a row with the values of the extra columns.
func (e *Encoder) Row(row input.Row, extra []string) error {
	if e.Format == input.NDJSON {
		return e.object(row, extra)
	}
	e.cells = e.cells[:0]
	if e.Layout.JSON {
		e.cells = append(e.cells, row.Texts(e.names)...)
	} else {
		for _, i := range e.kept {
			e.cells = append(e.cells, row.Cells[i])
		}
	}
	return e.record(extra)
}

// record writes the record in e.cells with the values of the extra columns.
func (e *Encoder) record(extra []string) error {
	e.cells = append(e.cells, extra...)
	if e.Spreadsheet {
		column.EscapeFormulas(e.cells)
	}
	return e.records.Write(e.cells)
}

// object writes a row as a JSON object.
func (e *Encoder) object(row input.Row, extra []string) error {
	e.line = append(e.line[:0], '{')
	if e.Layout.JSON {
		e.appendMembers(row)
	} else {
		e.appendCells(row)
	}
	for i, text := range extra {
		switch name := e.Extra[i]; {
		case column.IsNumber(name):
			e.line = append(e.member(len(e.kept)+i), text...)
		case text != "" || name == "status":
			e.line = input.AppendString(e.member(len(e.kept)+i), text)
		}
	}
	e.line = append(e.line, "}\n"...)
	_, err := e.w.Write(e.line)
	return err
}

// member begins the member of the nth encoded key.
func (e *Encoder) member(n int) []byte { return append(append(e.separator(), e.keys[n]...), ':') }

// separator separates the next member from the one before it.
func (e *Encoder) separator() []byte {
	if len(e.line) > 1 {
		return append(e.line, ',')
	}
	return e.line
}

// appendCells adds the members of a row of cells, without empty values of keys.
func (e *Encoder) appendCells(row input.Row) {
	for n, i := range e.kept {
		c, cell := e.Layout.Columns[i], row.Cells[i]
		if cell != "" || c.Key == "" && c.Name != "" {
			e.line = appendValue(e.member(n), c.Key, cell)
		}
	}
}

// appendMembers adds the members of a JSON row, or the beginning of a line that is not
// a JSON object.
func (e *Encoder) appendMembers(row input.Row) {
	members, ok := input.Members(row.JSON)
	if !ok {
		quoted := row.JSON[:min(len(row.JSON), maxQuoted)]
		for len(quoted) > 0 && len(quoted) < len(row.JSON) && !utf8.RuneStart(row.JSON[len(quoted)]) {
			quoted = quoted[:len(quoted)-1]
		}
		e.line = input.AppendString(append(e.line, `"input":`...), string(quoted))
		return
	}
	for _, m := range members {
		if !e.isExtra(m.Key) {
			e.line = append(append(input.AppendString(e.separator(), m.Key), ':'), m.Value...)
		}
	}
}

// appendValue appends a cell with the JSON type of its key, or as a string if it does
// not read as that type.
func appendValue(line []byte, key, cell string) []byte {
	switch key {
	case "expiry_minutes", "generation":
		if n, err := strconv.Atoi(cell); err == nil {
			return strconv.AppendInt(line, int64(n), 10)
		}
	case column.DocumentOptional:
		if b := column.Bool(cell); b == "true" || b == "false" {
			return append(line, b...)
		}
	case "metadata":
		compact := new(bytes.Buffer)
		if strings.HasPrefix(strings.TrimSpace(cell), "{") && utf8.ValidString(cell) && json.Compact(compact, []byte(cell)) == nil {
			return append(line, compact.Bytes()...)
		}
	}
	return input.AppendString(line, cell)
}

// Flush writes buffered records, and completes a workbook.
func (e *Encoder) Flush() error {
	switch w := e.records.(type) {
	case *csv.Writer:
		w.Flush()
		return w.Error()
	case *workbook.Writer:
		return w.Close()
	}
	return nil
}
