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
	if in.garbled(row.raw) {
		row.flaw, row.Err = garbled, broken(s.line, "%s", in.garbledProblem(string(row.raw)))
		return row
	}
	plain := len(in.names.keys) == 0 && len(in.names.carried) == 0
	if plain {
		row.Request, row.Err = tasks.ParseRequest(row.raw)
	}
	if !plain || row.Err != nil {
		in.parseKnown(&row)
	}
	var invalid *tasks.InvalidError
	if errors.As(row.Err, &invalid) && len(invalid.Problems) == 1 && invalid.Problems[0].Key == "" {
		row.Err = broken(s.line, "%s", invalid.Problems[0].Message)
	}
	return row
}

// parseKnown reads of a line the members that are a request's keys, by the names
// that they have in the file, and leaves the others out where they may be there. A
// key that is nearly a request's is never left out.
func (in *Input) parseKnown(row *Row) {
	members, ok := object(row.raw)
	if !ok {
		row.Request, row.Err = tasks.ParseRequest(row.raw)
		return
	}
	line := []byte("{")
	near := make(map[string]string)
	for _, m := range members {
		if key, ok := in.names.keys[m.key]; ok {
			m.key = key
		} else if !isKey(m.key) {
			meant := in.names.meant(m.key)
			if meant == "" && (!in.reading.Strict || in.names.allowed(m.key)) {
				in.carry(m.key)
				continue
			}
			near[m.key] = meant
		} else if in.names.carried[m.key] {
			in.carry(m.key)
			continue
		}
		if len(line) > 1 {
			line = append(line, ',')
		}
		line = append(append(append(line, quote(m.key)...), ':'), m.value...)
	}
	row.Request, row.Err = tasks.ParseRequest(append(line, '}'))
	invalid, ok := errors.AsType[*tasks.InvalidError](row.Err)
	if !ok {
		return
	}
	for i, p := range invalid.Problems {
		if key := near[p.Key]; key != "" {
			row.flaw = misnamed
			invalid.Problems[i].Message += "; " + in.names.suggestion(p.Key, key)
		}
	}
}

// maxOtherKeys is how many columns the keys of NDJSON may become.
const maxOtherKeys = 1000

// carry notes a key that is carried over.
func (in *Input) carry(key string) {
	if in.seen != nil && !in.seen[key] && len(in.otherKeys) <= maxOtherKeys {
		in.seen[key] = true
		in.otherKeys = append(in.otherKeys, key)
	}
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
