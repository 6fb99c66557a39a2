package bulk

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

const idKey = "application_id"

func isKey(name string) bool { return slices.Contains(tasks.Keys(), name) }

// delimiters are what may be between cells where nobody says it, the most likely
// first.
const delimiters = ",;\t|"

// comma is what is between the cells.
func (in *Input) comma() byte { return in.delimiter }

func shown(delimiter byte) string {
	switch delimiter {
	case ',':
		return "commas"
	case '\t':
		return "tabs"
	}
	return strconv.QuoteRune(rune(delimiter))
}

// headerLine reads the line that names the columns, and the one before it with
// which Excel names the delimiter. From then on s cuts by records: a header is one
// line, so that a file is never taken for one long header.
func (in *Input) headerLine(s *scanner) bool {
	found := s.row()
	if c, ok := sepLine(s.Bytes()); found && ok {
		in.sepLine = true
		if in.delimiter == 0 {
			in.delimiter = c
		}
		found = s.row()
	}
	s.cut = func(data []byte, full bool) int { return recordEnd(data, in.delimiter, full) }
	return found
}

// sepLine reads a line such as sep=; which may be quoted.
func sepLine(line []byte) (byte, bool) {
	line = bytes.Trim(bytes.TrimRight(line, "\r\n"), `"`)
	if len(line) != len("sep=;") || !bytes.EqualFold(line[:4], []byte("sep=")) || !isDelimiter(line[4]) {
		return 0, false
	}
	return line[4], true
}

// isDelimiter says whether a character can stand between cells.
func isDelimiter(c byte) bool {
	return c == '\t' || c > ' ' && c <= '~' && c != '"' && c != '_' && !unicode.IsLetter(rune(c)) && !unicode.IsDigit(rune(c))
}

// header reads and judges the names of the columns.
func (in *Input) header(s *scanner) error {
	in.delimiter = in.reading.Delimiter
	if in.kind == XLSX {
		in.delimiter = ','
	}
	found := in.headerLine(s)
	if err := s.Err(); err != nil {
		return in.unusable("cannot be read", err)
	}
	line := s.Bytes()
	if found && in.delimiter == 0 {
		in.delimiter = in.detect(line)
	}
	want := "its first line must name the columns, " + in.Column(idKey) + " among them"
	if in.delimiter != 0 {
		want += ", separated by " + shown(in.delimiter)
	}
	if !found {
		return in.unusable("has no header; "+want, nil)
	}
	names, err := readCSV(line, in.delimiter)
	switch {
	case s.tooLong:
		return in.unusable(fmt.Sprintf("has a header of more than %d bytes", MaxRow)+"; "+want, nil)
	case err != nil:
		return in.unusable("has a header that is not readable as CSV, such as a name with a line break or an open quote in it; "+want, nil)
	case bytes.IndexByte(line, 0) >= 0:
		return in.unusable("has zero bytes in its header, so that it is probably UTF-16 without a byte order mark; read it with --encoding utf-16le, or save it as UTF-8", nil)
	}
	in.columns = slices.Clone(names)
	for i, name := range names {
		switch {
		case in.garbled([]byte(name)):
			return in.unusable(fmt.Sprintf("has a header whose column %d %s", i+1, in.garbledProblem(name)), nil)
		case strings.ContainsFunc(name, unicode.IsControl):
			return in.unusable(fmt.Sprintf("has a line break or another control character in the header cell %q; write the name without it", legible.Shorten(name)), nil)
		}
	}
	in.exported = isExport(func(name string) bool { return slices.Contains(in.columns, name) })
	if err := in.placeKeys(); err != nil {
		return err
	}
	if _, ok := in.at.of(idKey); !ok {
		return in.unusable(fmt.Sprintf("has no column %s; %s (it has %s)", in.Column(idKey), want, quoted20(in.columns)), nil)
	}
	return nil
}

// quoted20 lists names, of many the first.
func quoted20(names []string) string {
	const most = 20
	var list []string
	for _, name := range names[:min(len(names), most)] {
		list = append(list, strconv.Quote(legible.Shorten(name)))
	}
	if more := len(names) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, ", ")
}

// detect tells the delimiter: the one by which the header names the id's column,
// or else splits into the most names.
func (in *Input) detect(header []byte) byte {
	best, most := byte(','), 0
	id := fold(in.Column(idKey))
	_, mapped := in.reading.Columns[idKey]
	for _, c := range []byte(delimiters) {
		names, err := readCSV(header, c)
		if err != nil {
			continue
		}
		for _, name := range names {
			if f := fold(name); f == id || !mapped && keyNames()[f] == idKey {
				return c
			}
		}
		if len(names) > most {
			best, most = c, len(names)
		}
	}
	return best
}

// placeKeys finds the column of each key.
func (in *Input) placeKeys() error {
	in.at = nil
	m, err := in.mapping(in.columns)
	if err != nil {
		return err
	}
	in.names = m
	var unknown []string
	for i, name := range in.columns {
		key, problem := m.key(name)
		switch {
		case problem != "":
			return in.unusable("has a column "+strconv.Quote(legible.Shorten(name))+", "+problem, nil)
		case fold(name) == "":
			in.unnamed = append(in.unnamed, i)
		case key == "" && !m.allowed(name):
			unknown = append(unknown, name)
		}
		if key == "" {
			continue
		}
		if other, twice := in.at.of(key); twice {
			problem := fmt.Sprintf("has the columns %q and %q, which both mean %s; rename or remove one", in.columns[other], name, key)
			if in.columns[other] == name {
				problem = "has two columns named " + name + "; rename or remove one"
			} else if in.file != nil {
				problem += fmt.Sprintf(", or keep one as data with --carry %q", name)
			}
			return in.unusable(problem, nil)
		}
		in.at = append(in.at, keyColumn{key, i})
	}
	if _, ok := in.at.of(idKey); ok && in.reading.Strict && len(unknown) > 0 {
		do := "remove them"
		if in.file != nil {
			do = "map them with --map KEY=COLUMN, or leave them out with --ignore-unknown"
		}
		return in.unusable(fmt.Sprintf("has unknown columns %s; %s (the keys are %s)", quoted20(unknown), do, strings.Join(tasks.Keys(), ", ")), nil)
	}
	return nil
}

// keyColumns are the columns that stand for a key. They are few, and looked up
// many times a row.
type keyColumns []keyColumn

type keyColumn struct {
	key    string
	column int
}

// of gives the column of a key.
func (k keyColumns) of(key string) (int, bool) {
	for i := range k {
		if k[i].key == key {
			return k[i].column, true
		}
	}
	return 0, false
}

// columnName is what people call a column.
func (in *Input) columnName(i int) string {
	if name := in.columns[i]; fold(name) != "" {
		return name
	}
	return fmt.Sprintf("column %d", i+1)
}

// mapping tells which names are which keys.
type mapping struct {
	keys    map[string]string // by a name that was given for a key
	mapped  map[string]string // the name of each key that was given one
	carried map[string]bool
	hint    bool // options can be given
}

// mapping applies what the reading says to the names that a file has; the names
// of a reading that no column has are errors.
func (in *Input) mapping(names []string) (mapping, error) {
	m := mapping{keys: make(map[string]string), mapped: in.reading.Columns, carried: make(map[string]bool), hint: in.file != nil}
	for _, key := range tasks.Keys() {
		want, given := in.reading.Columns[key]
		if !given {
			continue
		}
		m.keys[want] = key
		if names == nil || slices.Contains(names, want) {
			continue
		}
		found := false
		for _, name := range names {
			if fold(name) == fold(want) {
				m.keys[name], found = key, true
			}
		}
		if !found {
			return m, in.unusable(fmt.Sprintf("has no column %q, which was to be taken for %s; it has %s", want, key, quoted20(names)), nil)
		}
	}
	for _, name := range in.reading.Carry {
		if names != nil && !slices.Contains(names, name) {
			return m, in.unusable(fmt.Sprintf("has no column %q, which was to be carried over; it has %s", name, quoted20(names)), nil)
		}
		m.carried[name] = true
	}
	return m, nil
}

// key gives the key that a column stands for, empty where it stands for none; or
// says why it must not be used.
func (m mapping) key(name string) (key, problem string) {
	if m.carried[name] || fold(name) == "" {
		return "", ""
	}
	if key, ok := m.keys[name]; ok {
		return key, ""
	}
	if key, ok := keyNames()[fold(name)]; ok {
		if other, ok := m.mapped[key]; ok {
			return "", fmt.Sprintf("which means %s, and %q was to be taken for it; rename or remove one", key, other)
		}
		return key, ""
	}
	if near := m.meant(name); near != "" {
		return "", "which is nearly " + near + "; " + m.suggestion(name, near)
	}
	return "", ""
}

// meant gives the key that a name which is none was probably meant to be.
func (m mapping) meant(name string) string {
	if m.carried[name] || isResult(name) {
		return ""
	}
	key := keyNames()[fold(name)]
	if key == "" {
		key = nearKey(name)
	}
	if _, ok := m.mapped[key]; ok {
		return ""
	}
	return key
}

func (m mapping) suggestion(name, key string) string {
	text := fmt.Sprintf("write %s if that is meant", key)
	if m.hint {
		text += fmt.Sprintf(", or keep it as data with --carry %q", name)
	}
	return text
}

// allowed says whether a name that is no key's is nothing unexpected: it was to be
// carried over, or an export or a file of rejects has it.
func (m mapping) allowed(name string) bool {
	return m.carried[name] || isResult(name) || name == "message"
}
