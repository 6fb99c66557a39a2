package request

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// AppendJSON appends c to dst as one line of JSON. The result is equivalent to that of
// [json.Marshal], but much faster, since every row of a batch is encoded here. Metadata must
// be valid JSON; it is compacted.
func (c Content) AppendJSON(dst []byte) ([]byte, error) {
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
	text("redirect_url", c.RedirectURL)
	number("expiry_minutes", c.ExpiryMinutes)
	if c.DocumentOptional != nil {
		key("document_optional")
		dst = strconv.AppendBool(dst, *c.DocumentOptional)
	}
	text("workflow_id", c.WorkflowID)
	text("callback_url", c.CallbackURL)
	if !c.NotAfter.IsZero() {
		text("not_after", c.NotAfter.Format(time.RFC3339Nano))
	}
	if len(c.Metadata) > 0 {
		key("metadata")
		var err error
		if dst, err = appendCompact(dst, c.Metadata); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	text("by", c.By)
	number("row", c.Row)
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
	if !bytes.ContainsAny(raw, " \t\r\n") {
		return append(dst, raw...), nil
	}
	compact := bytes.NewBuffer(dst)
	err := json.Compact(compact, raw)
	return compact.Bytes(), err
}
