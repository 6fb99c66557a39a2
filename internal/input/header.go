package input

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// delimiters are the characters that are detected between cells, the most likely
// first.
const delimiters = ",;\t|"

func delimiterName(c byte) string {
	switch c {
	case ',':
		return "commas"
	case '\t':
		return "tabs"
	}
	return strconv.QuoteRune(rune(c))
}

// skipToHeader advances s to the line that names the columns, after the line with
// which Excel names the delimiter. From there s splits by records: the header is one
// line, so that a whole file is never taken for one long header.
func (in *File) skipToHeader(s *scanner) bool {
	found := s.row()
	if c, ok := parseSepLine(s.Bytes()); found && ok {
		in.sepLine = true
		if in.delimiter == 0 {
			in.delimiter = c
		}
		found = s.row()
	}
	s.cut = func(data []byte, final bool) int { return recordEnd(data, in.delimiter, final) }
	return found
}

// parseSepLine parses a line such as sep=; which may be quoted.
func parseSepLine(line []byte) (byte, bool) {
	line = bytes.Trim(bytes.TrimRight(line, "\r\n"), `"`)
	if len(line) != len("sep=;") || !bytes.EqualFold(line[:4], []byte("sep=")) || !isDelimiter(line[4]) {
		return 0, false
	}
	return line[4], true
}

// isDelimiter reports whether a character can separate cells.
func isDelimiter(c byte) bool {
	return c == '\t' || c > ' ' && c <= '~' && c != '"' && c != '_' && !unicode.IsLetter(rune(c)) && !unicode.IsDigit(rune(c))
}

// readHeader reads and checks the names of the columns.
func (in *File) readHeader(s *scanner) error {
	in.delimiter = in.options.Delimiter
	if in.kind == XLSX {
		in.delimiter = ','
	}
	found := in.skipToHeader(s)
	if err := s.Err(); err != nil {
		return in.openError("not readable", err)
	}
	line := s.Bytes()
	if found && in.delimiter == 0 {
		in.delimiter = in.detectDelimiter(line)
	}
	want := "the first line must name the columns, including " + in.Name(column.ID)
	if in.delimiter != 0 {
		want += ", separated by " + delimiterName(in.delimiter)
	}
	if !found {
		return in.openError("no header; "+want, nil)
	}
	names, err := parseRecord(line, in.delimiter)
	switch {
	case s.tooLong:
		return in.openError(fmt.Sprintf("the header is longer than %d bytes; %s", maxRow, want), nil)
	case err != nil:
		return in.openError("the header is not readable as CSV: a name may have a line break or an open quote; "+want, nil)
	case bytes.IndexByte(line, 0) >= 0:
		return in.openError("zero bytes in the header: the file is probably UTF-16 without a byte order mark: "+in.encodingAdvice("utf-16le")+", or save it as UTF-8", nil)
	}
	in.columns = slices.Clone(names)
	for i, name := range names {
		switch {
		case in.isGarbled([]byte(name)):
			return in.openError(fmt.Sprintf("column %d of the header %s", i+1, in.garbledProblem(name)), nil)
		case strings.ContainsFunc(name, unicode.IsControl):
			return in.openError(fmt.Sprintf("a line break or another control character in the column name %q; write the name without it", legible.Shorten(name)), nil)
		}
	}
	in.isExport = hasExportColumns(func(name string) bool { return slices.Contains(in.columns, name) })
	if err := in.placeKeys(); err != nil {
		return err
	}
	if _, ok := in.keys.column(column.ID); !ok {
		return in.columnError(fmt.Sprintf("no column %s; %s (columns found: %s)", in.Name(column.ID), want, quoteNames(in.columns)))
	}
	return nil
}

// quoteNames lists the first names for a message.
func quoteNames(names []string) string {
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

// detectDelimiter returns the delimiter by which the header names the id's column,
// or else the one that splits it into the most names.
func (in *File) detectDelimiter(header []byte) byte {
	best, most := byte(','), 0
	id := column.Fold(in.Name(column.ID))
	_, mapped := in.options.Columns[column.ID]
	for _, c := range []byte(delimiters) {
		names, err := parseRecord(header, c)
		if err != nil {
			continue
		}
		for _, name := range names {
			if column.Fold(name) == id || !mapped && column.Key(name) == column.ID {
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
func (in *File) placeKeys() error {
	in.keys = nil
	m, err := in.mapNames(in.columns)
	if err != nil {
		return err
	}
	in.names = m
	var unknown []string
	for i, name := range in.columns {
		key, problem := m.key(name)
		switch {
		case problem != "":
			return in.columnError("column " + strconv.Quote(legible.Shorten(name)) + " " + problem)
		case column.Fold(name) == "":
			in.unnamed = append(in.unnamed, i)
		case key == "" && !m.allowed(name):
			unknown = append(unknown, name)
		}
		if key == "" {
			continue
		}
		if other, twice := in.keys.column(key); twice {
			problem := fmt.Sprintf("the columns %q and %q both mean %s; rename or remove one", in.columns[other], name, key)
			if in.columns[other] == name {
				problem = "two columns are named " + name + "; rename or remove one"
			} else if !in.isUpload() {
				problem += fmt.Sprintf(", or keep one as data with --carry %q", name)
			}
			return in.columnError(problem)
		}
		in.keys = append(in.keys, keyColumn{key, i})
	}
	if _, ok := in.keys.column(column.ID); ok && in.options.Strict && len(unknown) > 0 {
		do := "remove them"
		if !in.isUpload() {
			do = "map them with --map KEY=COLUMN, or drop them with --ignore-unknown"
		}
		return in.columnError(fmt.Sprintf("unknown columns %s; %s (the keys are %s)", quoteNames(unknown), do, strings.Join(tasks.Keys(), ", ")))
	}
	return nil
}

// keyColumns are the columns that hold keys. A slice, as they are few, and looked up
// many times per row.
type keyColumns []keyColumn

type keyColumn struct {
	key    string
	column int
}

// column returns the column of a key.
func (k keyColumns) column(key string) (int, bool) {
	for i := range k {
		if k[i].key == key {
			return k[i].column, true
		}
	}
	return 0, false
}

// columnLabel returns the name of a column in messages.
func (in *File) columnLabel(i int) string {
	if name := in.columns[i]; column.Fold(name) != "" {
		return name
	}
	return fmt.Sprintf("column %d", i+1)
}

// nameMapping maps the names of a file's columns, or of its NDJSON keys, to keys.
type nameMapping struct {
	keys     map[string]string // by a name from the options
	mapped   map[string]string // by key: its name in the options
	carried  map[string]bool
	exact    bool // no other name means a key
	hasFlags bool // messages can name flags
}

// mapNames applies the options to the names that a file has; nil for NDJSON, whose
// lines have names of their own. It fails for a name in the options that no column
// has.
func (in *File) mapNames(names []string) (nameMapping, error) {
	m := nameMapping{keys: make(map[string]string), mapped: in.options.Columns, carried: make(map[string]bool), exact: in.options.Exact && names != nil, hasFlags: !in.isUpload()}
	for _, key := range tasks.Keys() {
		want, given := in.options.Columns[key]
		if !given {
			continue
		}
		m.keys[want] = key
		if names == nil || slices.Contains(names, want) {
			continue
		}
		found := false
		for _, name := range names {
			if column.Fold(name) == column.Fold(want) {
				m.keys[name], found = key, true
			}
		}
		if !found {
			return m, in.columnError(fmt.Sprintf("no column %q to map to %s; columns found: %s", want, key, quoteNames(names)))
		}
	}
	for _, name := range in.options.Carry {
		if names != nil && !slices.Contains(names, name) {
			return m, in.openError(fmt.Sprintf("no column %q to carry over; columns found: %s", name, quoteNames(names)), nil)
		}
		m.carried[name] = true
	}
	return m, nil
}

// key returns the key that a column means, or ""; or the problem for which the column
// must not be used.
func (m nameMapping) key(name string) (key, problem string) {
	if m.carried[name] || column.Fold(name) == "" {
		return "", ""
	}
	if key, ok := m.keys[name]; ok || m.exact {
		return key, ""
	}
	if key := column.Key(name); key != "" {
		if other, ok := m.mapped[key]; ok {
			return "", fmt.Sprintf("means %s, but %q is mapped to it; rename or remove one", key, other)
		}
		return key, ""
	}
	if near := m.meant(name); near != "" {
		return "", "is nearly " + near + "; " + m.suggestion(name, near)
	}
	return "", ""
}

// meant returns the key that an unknown name was probably meant to be, or "".
func (m nameMapping) meant(name string) string {
	if m.carried[name] || column.IsResult(name) {
		return ""
	}
	key := column.Key(name)
	if key == "" {
		key = column.NearKey(name)
	}
	if _, ok := m.mapped[key]; ok {
		return ""
	}
	return key
}

func (m nameMapping) suggestion(name, key string) string {
	text := fmt.Sprintf("write %s if that is meant", key)
	if m.hasFlags {
		text += fmt.Sprintf(", or keep it as data with --carry %q", name)
	}
	return text
}

// allowed reports whether a name that is not a key's is expected: it is carried over,
// or it is a column of an export or of a file of rejected rows.
func (m nameMapping) allowed(name string) bool {
	return m.carried[name] || m.exact || column.IsResult(name) || name == "message"
}

// idColumn returns the column of the ids in a workbook's header; -1 if there is none.
func (in *File) idColumn(header []string) int {
	m := nameMapping{keys: map[string]string{}, mapped: in.options.Columns, exact: in.options.Exact}
	for i, name := range header {
		if want, ok := in.options.Columns[column.ID]; ok && column.Fold(want) == column.Fold(name) {
			return i
		}
		if key, _ := m.key(name); key == column.ID {
			return i
		}
	}
	return -1
}
