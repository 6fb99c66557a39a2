package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"unicode/utf8"

	"github.com/kyclink/kyclink/tasks"
)

func decodeNDJSON(s *scanner) Row {
	if s.tooLong {
		return Row{raw: bytes.Clone(s.Bytes()[:maxShown+1]), Err: broken(s.line, "is longer than %d bytes", MaxRow)}
	}
	row := Row{raw: bytes.Clone(bytes.TrimRight(s.Bytes(), "\r\n"))}
	row.Request, row.Err = tasks.ParseRequest(row.raw)
	var invalid *tasks.InvalidError
	if errors.As(row.Err, &invalid) && len(invalid.Problems) == 1 && invalid.Problems[0].Key == "" {
		row.Err = broken(s.line, "%s", invalid.Problems[0].Message)
	}
	return row
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
