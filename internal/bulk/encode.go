package bulk

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
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

// csvEncoder writes LF line ends: the CRLF mode of csv.Writer changes the line
// breaks in cells.
type csvEncoder struct {
	w     *csv.Writer
	cells func(Row) []string
}

func newCSVEncoder(w io.Writer, in *Input) (*csvEncoder, error) {
	e := &csvEncoder{w: csv.NewWriter(w)}
	names := tasks.Keys()
	e.cells = func(row Row) []string { return row.texts(tasks.Keys()) }
	if in.format == CSV {
		kept := keptColumns(in.columns)
		pick := func(from []string) []string {
			picked := make([]string, len(kept))
			for i, at := range kept {
				picked[i] = from[at]
			}
			return picked
		}
		names = pick(in.columns)
		e.cells = func(row Row) []string { return pick(row.cells) }
	}
	return e, e.w.Write(append(names, results[:]...))
}

// keptColumns lists the columns of the input that OUT has too.
func keptColumns(columns []string) []int {
	var kept []int
	for i, name := range columns {
		if !isResult(name) {
			kept = append(kept, i)
		}
	}
	return kept
}

func (e *csvEncoder) row(row Row, l tasks.Link) error {
	return e.w.Write(append(e.cells(row), resultTexts(l)...))
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
	w       *bufio.Writer
	members func(Row) []member
}

func newNDJSONEncoder(w *bufio.Writer, in *Input) *ndjsonEncoder {
	if in.format == NDJSON {
		return &ndjsonEncoder{w, Row.own}
	}
	kept := keptColumns(in.columns)
	return &ndjsonEncoder{w, func(row Row) []member {
		var members []member
		for _, at := range kept {
			name, cell := in.columns[at], row.cells[at]
			if cell != "" || !isKey(name) {
				members = append(members, member{name, typed(name, cell)})
			}
		}
		return members
	}}
}

func (e *ndjsonEncoder) row(row Row, l tasks.Link) error {
	members := e.members(row)
	for i, text := range resultTexts(l) {
		switch name := results[i]; {
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

func (e *ndjsonEncoder) flush() error { return e.w.Flush() }

// own gives the members of a JSON row, or shows the beginning of a line that is
// no JSON object.
func (r Row) own() []member {
	members, ok := object(r.raw)
	if !ok {
		shown := r.raw[:min(len(r.raw), maxShown)]
		for len(shown) > 0 && len(shown) < len(r.raw) && !utf8.RuneStart(r.raw[len(shown)]) {
			shown = shown[:len(shown)-1]
		}
		return []member{{"input", quote(string(shown))}}
	}
	return slices.DeleteFunc(members, func(m member) bool { return isResult(m.key) })
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
		if cell == "true" || cell == "false" {
			return json.RawMessage(cell)
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
