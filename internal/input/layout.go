package input

import (
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// Column is a column of a file, or a key of NDJSON that becomes a column.
type Column struct {
	Key  string // the request's key that it holds, if any
	Name string // in the file
	// Label is the name in messages and JSON; it differs for a column without a name.
	Label string
	// Empty columns have neither a name nor a value; they are known after
	// [File.Inspect].
	Empty bool
}

// Layout describes how the rows of a file are written.
type Layout struct {
	JSON      bool // rows are JSON objects, not cells
	Columns   []Column
	Delimiter byte // 0 for a comma
	Mark      bool // a CSV needs a byte order mark
	SepLine   bool // the first line of a CSV names the delimiter
}

// Layout returns the file's layout. A CSV that was not plain UTF-8 needs a byte order
// mark, as without one a spreadsheet takes it for the old encoding of its language.
func (in *File) Layout() Layout {
	l := Layout{JSON: in.format == NDJSON, Mark: in.mark || in.decoded || in.kind == XLSX}
	if in.kind == CSV {
		l.Delimiter, l.SepLine = in.delimiter, in.sepLine
	}
	if l.JSON {
		for _, key := range tasks.Keys() {
			l.Columns = append(l.Columns, Column{Key: key, Name: in.Name(key), Label: in.Name(key)})
		}
		for _, key := range in.otherKeys {
			l.Columns = append(l.Columns, Column{Name: key, Label: key})
		}
		return l
	}
	for i, name := range in.columns {
		l.Columns = append(l.Columns, Column{Name: name, Label: in.columnLabel(i), Empty: in.empty[i]})
	}
	for _, c := range in.keys {
		l.Columns[c.column].Key = c.key
	}
	return l
}

// TooManyKeys reports whether [File.Inspect] found more carried-over keys of NDJSON
// than can become columns, and how many can.
func (in *File) TooManyKeys() (most int, tooMany bool) {
	return maxOtherKeys, len(in.otherKeys) > maxOtherKeys
}

// Name returns what the file calls a key of a request.
func (in *File) Name(key string) string {
	if i, ok := in.keys.column(key); ok {
		return in.columns[i]
	}
	if name, ok := in.options.Columns[key]; ok {
		return name
	}
	return key
}

// Mapping returns which columns are read as which keys, and the names of the others.
// For NDJSON, whose lines have keys of their own, it returns the names in the options
// and the carried-over keys that [File.Inspect] found.
func (in *File) Mapping() (used []Column, others []string) {
	if in.format == NDJSON {
		for _, key := range tasks.Keys() {
			if name, ok := in.options.Columns[key]; ok {
				used = append(used, Column{Key: key, Name: name})
			}
		}
		return used, in.otherKeys
	}
	for _, key := range tasks.Keys() {
		if i, ok := in.keys.column(key); ok {
			used = append(used, Column{Key: key, Name: in.columns[i]})
		}
	}
	for i, name := range in.columns {
		isKey := slices.ContainsFunc(in.keys, func(c keyColumn) bool { return c.column == i })
		if !isKey && column.Fold(name) != "" {
			others = append(others, name)
		}
	}
	return used, others
}

// Dialect describes for people how the file is written; empty if it is plain UTF-8
// separated by commas.
func (in *File) Dialect() string {
	var parts []string
	if in.encoding != "" && !strings.EqualFold(in.encoding, "utf-8") {
		parts = append(parts, in.encoding)
	}
	if in.kind == CSV && in.delimiter != ',' {
		parts = append(parts, "separated by "+delimiterName(in.delimiter))
	}
	return strings.Join(parts, ", ")
}
