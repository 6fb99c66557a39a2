package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

func (in *Input) decodeNDJSON(s *scanner) Row {
	if s.tooLong {
		return Row{raw: bytes.Clone(s.Bytes()[:maxShown+1]), Err: broken(s.line, "is longer than %d bytes", MaxRow)}
	}
	row := Row{raw: bytes.Clone(bytes.TrimRight(s.Bytes(), "\r\n"))}
	row.Request, row.Err = tasks.ParseRequest(in.renamed(row.raw))
	var invalid *tasks.InvalidError
	if errors.As(row.Err, &invalid) && len(invalid.Problems) == 1 && invalid.Problems[0].Key == "" {
		row.Err = broken(s.line, "%s", invalid.Problems[0].Message)
	}
	return row
}

// renamed gives a line its members' keys as requests call them. What is no object
// stays as it is.
func (in *Input) renamed(line []byte) []byte {
	if len(in.reading.Columns) == 0 {
		return line
	}
	members, ok := object(line)
	if !ok {
		return line
	}
	keys := make(map[string]string, len(in.reading.Columns))
	for key, name := range in.reading.Columns {
		keys[name] = key
	}
	out := []byte("{")
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		if key, ok := keys[m.key]; ok {
			m.key = key
		}
		out = append(append(append(out, quote(m.key)...), ':'), m.value...)
	}
	return append(out, '}')
}

// member is one key and value of a JSON object, in the order of the text.
type member struct {
	key   string
	value json.RawMessage
}

// object takes a line apart; false where it is no JSON object in UTF-8.
func object(line []byte) ([]member, bool) {
	if !utf8.Valid(line) || !json.Valid(line) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, false
	}
	var members []member
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
		members = append(members, member{name, value})
	}
	return members, true
}
