package lua

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Args are the arguments of a script by name. A value is of any type that go-redis encodes; a
// bool becomes '1' or '0'.
type Args map[string]any

// Rows are the repeated arguments of a script.
type Rows struct {
	columns []string
	values  []any
}

// NewRows returns empty rows with the script's columns, in its order.
func NewRows(columns ...string) *Rows { return &Rows{columns: columns} }

// Column returns rows with one column.
func Column[T any](name string, values []T) *Rows {
	r := &Rows{columns: []string{name}, values: make([]any, len(values))}
	for i, v := range values {
		r.values[i] = v
	}
	return r
}

// Add adds a row with one value for each column. It panics if their number differs.
func (r *Rows) Add(values ...any) {
	if len(values) != len(r.columns) {
		panic(fmt.Sprintf("%d values for the columns %v", len(values), r.columns))
	}
	r.values = append(r.values, values...)
}

// Len returns the number of rows.
func (r *Rows) Len() int { return len(r.values) / len(r.columns) }

// parameters are the parameters of a script or of one of its functions.
type parameters struct {
	path    string
	names   []string
	columns []string
}

var (
	argsLine = regexp.MustCompile(`(?m)^local (\w+(?:, \w+)*) = unpack\(ARGV(?:, 1, (\d+))?\)$`)
	rowLoop  = regexp.MustCompile(`(?m)^for i = (\d+), #ARGV(?:, (\d+))? do$`)
	rowLine  = regexp.MustCompile(`(?m)^ +local (\w+(?:, \w+)*) = unpack\(ARGV, i, i(?: \+ (\d+))?\)$`)
)

// continued matches a comma after which a list of names may continue in the next line.
var continued = regexp.MustCompile(`,\s+`)

// readParameters reads the lines in which a script unpacks its arguments.
func readParameters(f file) (parameters, error) {
	p := parameters{path: f.path}
	text := continued.ReplaceAllString(f.text, ", ")
	args := argsLine.FindAllStringSubmatch(text, -1)
	if len(args) > 1 {
		return p, fmt.Errorf("%s unpacks its arguments twice", f.path)
	}
	for _, m := range args {
		p.names = strings.Split(m[1], ", ")
		if m[2] != "" && m[2] != strconv.Itoa(len(p.names)) {
			return p, fmt.Errorf("%s unpacks %s arguments but names %d", f.path, m[2], len(p.names))
		}
	}
	return p, p.readRows(text)
}

// readRows parses the loop over the rows, and the columns that its first line unpacks.
func (p *parameters) readRows(text string) error {
	loop, row := rowLoop.FindStringSubmatch(text), rowLine.FindStringSubmatch(text)
	if loop == nil && row == nil {
		return nil
	}
	if loop == nil || row == nil {
		return fmt.Errorf("%s must have both a loop over rows and a line that unpacks a row", p.path)
	}
	p.columns = strings.Split(row[1], ", ")
	n := len(p.columns)
	step, last := "", ""
	if n > 1 {
		step, last = strconv.Itoa(n), strconv.Itoa(n-1)
	}
	if loop[1] != strconv.Itoa(len(p.names)+1) || loop[2] != step || row[2] != last {
		return fmt.Errorf("%s: the loop over the rows does not fit %d arguments and %d columns", p.path, len(p.names), n)
	}
	return nil
}

// list returns the arguments in the script's order, followed by the rows.
func (p parameters) list(args Args, rows ...*Rows) ([]any, error) {
	size := len(p.names)
	for _, r := range rows {
		size += len(r.values)
	}
	out := make([]any, len(p.names), size)
	for i, name := range p.names {
		value, ok := args[name]
		if !ok {
			return nil, fmt.Errorf("%s: argument %s is missing", p.path, name)
		}
		out[i] = value
	}
	if len(args) != len(p.names) {
		return nil, fmt.Errorf("%s: unknown arguments: it takes %v and got %v", p.path, p.names, args.names())
	}
	if len(rows) == 0 && p.columns != nil {
		return nil, fmt.Errorf("%s: rows with the columns %v are missing", p.path, p.columns)
	}
	for _, r := range rows {
		if !slices.Equal(r.columns, p.columns) {
			return nil, fmt.Errorf("%s: its rows have the columns %v, not %v", p.path, p.columns, r.columns)
		}
		out = append(out, r.values...)
	}
	return out, nil
}

func (a Args) names() []string {
	names := make([]string, 0, len(a))
	for name := range a {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
