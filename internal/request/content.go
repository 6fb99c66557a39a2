package request

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// storedContent is a content as it is stored: with short keys, since a million requests may
// wait. Scripts read the callback URL and the trace, and the row, which must remain the last
// key.
type storedContent struct {
	RedirectURL      string          `json:"u,omitempty"`
	ExpiryMinutes    int             `json:"e,omitempty"`
	DocumentOptional *bool           `json:"d,omitempty"`
	WorkflowID       string          `json:"w,omitempty"`
	CallbackURL      string          `json:"c,omitempty"`
	NotAfter         time.Time       `json:"n,omitzero"`
	Metadata         json.RawMessage `json:"m,omitempty"`
	By               string          `json:"k,omitempty"`
	Trace            string          `json:"t,omitempty"`
	Row              int             `json:"r,omitempty"`
}

// AppendStored appends c to dst as one line of a record. The result is equivalent to that of
// [json.Marshal] of a storedContent, but much faster, since every row of a batch is encoded
// here. Metadata must be valid JSON; it is compacted.
func (c Content) AppendStored(dst []byte) ([]byte, error) {
	dst = append(dst, '{')
	first := len(dst)
	key := func(name string) {
		if len(dst) > first {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), '"', ':')
	}
	text := func(name, value string) {
		if value != "" {
			key(name)
			dst = appendString(dst, value)
		}
	}
	number := func(name string, value int) {
		if value != 0 {
			key(name)
			dst = strconv.AppendInt(dst, int64(value), 10)
		}
	}
	text("u", c.RedirectURL)
	number("e", c.ExpiryMinutes)
	if c.DocumentOptional != nil {
		key("d")
		dst = strconv.AppendBool(dst, *c.DocumentOptional)
	}
	text("w", c.WorkflowID)
	text("c", c.CallbackURL)
	if !c.NotAfter.IsZero() {
		text("n", c.NotAfter.Format(time.RFC3339Nano))
	}
	if len(c.Metadata) > 0 {
		key("m")
		var err error
		if dst, err = appendCompact(dst, c.Metadata); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	text("k", c.By)
	text("t", c.Trace)
	number("r", c.Row)
	return append(dst, '}'), nil
}

func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string cannot fail
			return append(dst, quoted...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

func appendCompact(dst []byte, raw json.RawMessage) ([]byte, error) {
	if !slices.ContainsFunc(raw, func(c byte) bool { return c <= ' ' }) {
		return append(dst, raw...), nil
	}
	compact := bytes.NewBuffer(dst)
	err := json.Compact(compact, raw)
	return compact.Bytes(), err
}
