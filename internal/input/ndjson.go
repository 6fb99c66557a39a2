package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/tasks"
)

// maxQuoted is how much of a line that is too long a row keeps, in bytes.
const maxQuoted = 1 << 10

func (in *File) decodeNDJSON(s *scanner) Row {
	if s.tooLong {
		return Row{JSON: bytes.Clone(s.Bytes()[:maxQuoted+1]), Err: malformed(s.line, "is longer than %d bytes", maxRow)}
	}
	row := Row{JSON: bytes.Clone(bytes.TrimRight(s.Bytes(), "\r\n"))}
	if in.isGarbled(row.JSON) {
		row.flaw, row.Err = garbled, malformed(s.line, "%s", in.garbledProblem(string(row.JSON)))
		return row
	}
	asIs := len(in.names.keys) == 0 && len(in.names.carried) == 0
	if asIs {
		row.Request, row.Err = tasks.ParseRequest(row.JSON)
	}
	if !asIs || row.Err != nil {
		in.parseKeys(&row)
	}
	var invalid *tasks.InvalidError
	if errors.As(row.Err, &invalid) && len(invalid.Problems) == 1 && invalid.Problems[0].Key == "" {
		row.Err = malformed(s.line, "%s", invalid.Problems[0].Message)
	}
	return row
}

// parseKeys parses those members of a line that are a request's keys, by the names
// that the file has for them, and ignores others that are allowed. It refuses a key
// that is nearly a request's.
func (in *File) parseKeys(row *Row) {
	members, ok := Members(row.JSON)
	if !ok {
		row.Request, row.Err = tasks.ParseRequest(row.JSON)
		return
	}
	line := []byte("{")
	misspelled := make(map[string]string)
	for _, m := range members {
		if key, ok := in.names.keys[m.Key]; ok {
			m.Key = key
		} else if !column.IsKey(m.Key) {
			meant := in.names.meant(m.Key)
			if meant == "" && (!in.options.Strict || in.names.allowed(m.Key)) {
				in.carry(m.Key)
				continue
			}
			misspelled[m.Key] = meant
		} else if in.names.carried[m.Key] {
			in.carry(m.Key)
			continue
		}
		if len(line) > 1 {
			line = append(line, ',')
		}
		line = append(append(AppendString(line, m.Key), ':'), m.Value...)
	}
	row.Request, row.Err = tasks.ParseRequest(append(line, '}'))
	invalid, ok := errors.AsType[*tasks.InvalidError](row.Err)
	if !ok {
		return
	}
	for i, p := range invalid.Problems {
		if key := misspelled[p.Key]; key != "" {
			row.flaw = misnamed
			invalid.Problems[i].Message += "; " + in.names.suggestion(p.Key, key)
		}
	}
}

// maxOtherKeys is how many carried-over keys of NDJSON can become columns.
const maxOtherKeys = 1000

// carry notes a key that is carried over.
func (in *File) carry(key string) {
	if in.seen != nil && !in.seen[key] && len(in.otherKeys) <= maxOtherKeys {
		in.seen[key] = true
		in.otherKeys = append(in.otherKeys, key)
	}
}

// Member is one key and value of a JSON object.
type Member struct {
	Key   string
	Value json.RawMessage
}

// Members returns the members of a JSON object in their order, or false if the line
// is not a JSON object in UTF-8.
func Members(line []byte) ([]Member, bool) {
	if !utf8.Valid(line) || !json.Valid(line) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	var members []Member
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, false
		}
		name, _ := key.(string)
		members = append(members, Member{name, value})
	}
	return members, true
}

// AppendString appends a JSON string without escapes for HTML. Bytes that are not
// UTF-8 are replaced.
func AppendString(line []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return append(append(append(line, '"'), s...), '"')
	}
	buf := bytes.NewBuffer(line)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string into memory cannot fail
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// text returns a member's value as a cell: a string as it reads, else its JSON.
func (m Member) text() string {
	var s string
	if json.Unmarshal(m.Value, &s) != nil || string(m.Value) == "null" {
		s = string(m.Value)
	}
	return s
}

// Texts returns the values of a JSON row as cells. A line that is not a JSON object
// has empty ones; its error names the line.
func (r Row) Texts(keys []string) []string {
	cells := make([]string, len(keys))
	members, _ := Members(r.JSON)
	for _, m := range members {
		if i := slices.Index(keys, m.Key); i >= 0 {
			cells[i] = m.text()
		}
	}
	return cells
}
