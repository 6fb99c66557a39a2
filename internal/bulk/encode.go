package bulk

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

// maxShown is how much of a line that is no JSON object OUT shows, in bytes.
const maxShown = 1 << 10

// results are the columns that come after the input's, and take the place of
// input columns of the same name.
var results = [...]string{"status", "link_id", "url", "expires_at", "reason", "attempts", "possible_duplicates"}

func isResult(name string) bool { return slices.Contains(results[:], name) }

// resultTexts gives the values of results, empty where there is none.
func resultTexts(l tasks.Link) []string {
	expires := ""
	if !l.ExpiresAt.IsZero() {
		expires = l.ExpiresAt.UTC().Format(time.RFC3339)
	}
	reason := l.Reason
	if l.Message != "" {
		reason += ": " + l.Message
	}
	return []string{string(l.Status), l.LinkID, l.URL, expires, reason,
		strconv.Itoa(l.Attempts), strconv.Itoa(l.PossibleDuplicates)}
}

// layout is how rows of an input are written: the input's columns, and then others,
// which take the place of input columns of the same name.
type layout struct {
	format      Format
	comma       byte // of a CSV; a comma where 0
	mark        bool // a CSV begins with a byte order mark
	sepLine     bool // and then with a line that names its delimiter
	extra       []string
	spreadsheet bool // no cell is to be taken for a formula
}

// layout writes as the input is written, as far as the format is the same. A CSV of
// what was no UTF-8 without a mark gets one, as spreadsheets take it for the old
// encoding of their language without.
func (in *Input) layout(format Format, extra []string) layout {
	l := layout{format: format, extra: extra}
	if format == CSV {
		l.mark = in.mark || in.decoded || in.kind == XLSX
	}
	if format == CSV && in.kind == CSV {
		l.comma, l.sepLine = in.delimiter, in.sepLine
	}
	return l
}

func (l layout) isExtra(name string) bool { return slices.Contains(l.extra, name) }

// encoder writes rows. texts are the values of the layout's extra columns.
type encoder interface {
	row(row Row, texts []string) error
	flush() error
}

func newEncoder(w io.Writer, in *Input, l layout) (encoder, error) {
	if l.format == NDJSON {
		return newNDJSONEncoder(w, in, l), nil
	}
	return newCSVEncoder(w, in, l)
}

// bookEncoder writes a workbook by way of its CSV.
type bookEncoder struct {
	*csvEncoder
	book *workbookWriter
}

func newBookEncoder(book *workbookWriter, in *Input, l layout) (*bookEncoder, error) {
	l.spreadsheet = false // no text of a workbook is a formula
	e, err := newCSVEncoder(book, in, l)
	return &bookEncoder{e, book}, err
}

func (e *bookEncoder) flush() error { return errors.Join(e.csvEncoder.flush(), e.book.Close()) }

// csvEncoder writes LF line ends: the CRLF mode of csv.Writer changes the line
// breaks in cells.
type csvEncoder struct {
	w     *csv.Writer
	cells func(Row) []string
	layout
}

func newCSVEncoder(w io.Writer, in *Input, l layout) (*csvEncoder, error) {
	e := &csvEncoder{w: csv.NewWriter(w), layout: l}
	if l.comma != 0 {
		e.w.Comma = rune(l.comma)
	}
	start := ""
	if l.mark {
		start = byteOrderMark
	}
	if l.sepLine {
		start += "sep=" + string(e.w.Comma) + "\n"
	}
	if _, err := io.WriteString(w, start); err != nil {
		return nil, err
	}
	if in.format == NDJSON {
		names := slices.DeleteFunc(in.keyColumns(), l.isExtra)
		e.cells = func(row Row) []string { return row.texts(names) }
		return e, e.write(slices.Clone(names), l.extra)
	}
	kept := l.keptColumns(in)
	pick := func(from []string) []string {
		picked := make([]string, len(kept), len(kept)+len(l.extra))
		for i, at := range kept {
			picked[i] = from[at]
		}
		return picked
	}
	e.cells = func(row Row) []string { return pick(row.cells) }
	return e, e.write(pick(in.columns), l.extra)
}

// keyColumns are the columns that the keys of NDJSON become: a request's keys, by
// their names in the file, and those that [Input.Inspect] found to be carried over.
func (in *Input) keyColumns() []string {
	var names []string
	for _, key := range tasks.Keys() {
		names = append(names, in.Column(key))
	}
	return append(names, in.otherKeys...)
}

// keptColumns lists the columns of the input that are written, too.
func (l layout) keptColumns(in *Input) []int {
	var kept []int
	for i, name := range in.columns {
		if !l.isExtra(name) && !in.empty[i] {
			kept = append(kept, i)
		}
	}
	return kept
}

func (e *csvEncoder) row(row Row, texts []string) error { return e.write(e.cells(row), texts) }

func (e *csvEncoder) write(cells, texts []string) error {
	cells = append(cells, texts...)
	if e.spreadsheet {
		neutralize(cells)
	}
	return e.w.Write(cells)
}

func (e *csvEncoder) flush() error {
	e.w.Flush()
	return e.w.Error()
}

// texts gives a JSON row as cells: strings as they read, else the JSON. A line
// that is no JSON object has none; its reason names the line.
func (r Row) texts(keys []string) []string {
	cells := make([]string, len(keys))
	members, _ := object(r.raw)
	for _, m := range members {
		i := slices.Index(keys, m.key)
		if i < 0 {
			continue
		}
		var s string
		if json.Unmarshal(m.value, &s) != nil || string(m.value) == "null" {
			s = string(m.value)
		}
		cells[i] = s
	}
	return cells
}

type ndjsonEncoder struct {
	w       io.Writer
	members func(Row) []member
	layout
}

func newNDJSONEncoder(w io.Writer, in *Input, l layout) *ndjsonEncoder {
	e := &ndjsonEncoder{w: w, layout: l}
	if in.format == NDJSON {
		e.members = e.own
		return e
	}
	kept := l.keptColumns(in)
	keys := make(map[int]string)
	for _, c := range in.at {
		keys[c.column] = c.key
	}
	e.members = func(row Row) []member {
		var members []member
		for _, at := range kept {
			cell := row.cells[at]
			if cell != "" || keys[at] == "" && in.columns[at] != "" {
				members = append(members, member{in.columnName(at), typed(keys[at], cell)})
			}
		}
		return members
	}
	return e
}

func (e *ndjsonEncoder) row(row Row, texts []string) error {
	members := e.members(row)
	for i, text := range texts {
		switch name := e.extra[i]; {
		case name == "attempts" || name == "possible_duplicates":
			members = append(members, member{name, json.RawMessage(text)})
		case text != "":
			members = append(members, member{name, quote(text)})
		}
	}
	text := []byte("{")
	for i, m := range members {
		if i > 0 {
			text = append(text, ',')
		}
		text = append(append(append(text, quote(m.key)...), ':'), m.value...)
	}
	_, err := e.w.Write(append(text, "}\n"...))
	return err
}

func (e *ndjsonEncoder) flush() error { return nil }

// own gives the members of a JSON row, or shows the beginning of a line that is
// no JSON object.
func (l layout) own(r Row) []member {
	members, ok := object(r.raw)
	if !ok {
		shown := r.raw[:min(len(r.raw), maxShown)]
		for len(shown) > 0 && len(shown) < len(r.raw) && !utf8.RuneStart(r.raw[len(shown)]) {
			shown = shown[:len(shown)-1]
		}
		return []member{{"input", quote(string(shown))}}
	}
	return slices.DeleteFunc(members, func(m member) bool { return l.isExtra(m.key) })
}

// typed gives a cell the JSON type of its key, or a string where the cell does
// not read as that type.
func typed(key, cell string) json.RawMessage {
	switch key {
	case "expiry_minutes", "generation":
		if n, err := strconv.Atoi(cell); err == nil {
			return strconv.AppendInt(nil, int64(n), 10)
		}
	case "document_optional":
		if b := boolean(cell); b == "true" || b == "false" {
			return json.RawMessage(b)
		}
	case "metadata":
		compact := new(bytes.Buffer)
		if strings.HasPrefix(strings.TrimSpace(cell), "{") && utf8.ValidString(cell) && json.Compact(compact, []byte(cell)) == nil {
			return compact.Bytes()
		}
	}
	return quote(cell)
}

// quote writes a JSON string as people read it; what is not UTF-8 is replaced.
func quote(s string) json.RawMessage {
	out := new(bytes.Buffer)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory: it cannot fail
	return bytes.TrimRight(out.Bytes(), "\n")
}
