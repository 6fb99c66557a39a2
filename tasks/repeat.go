package tasks

import (
	"bytes"
	"encoding/json"
	"reflect"

	"github.com/kyclink/kyclink/internal/request"
)

// content returns the part of the request that is stored and compared with repeats.
func (r Request) content() request.Content {
	return request.Content{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter, Metadata: r.Metadata,
	}
}

// differences returns the keys that the repeat sets and that had another value, or
// none, in the first request.
func differences(first, repeat request.Content) []string {
	var keys []string
	differ := func(key string, given, equal bool) {
		if given && !equal {
			keys = append(keys, key)
		}
	}
	differ("redirect_url", repeat.RedirectURL != "", repeat.RedirectURL == first.RedirectURL)
	differ("expiry_minutes", repeat.ExpiryMinutes != 0, repeat.ExpiryMinutes == first.ExpiryMinutes)
	differ("document_optional", repeat.DocumentOptional != nil, reflect.DeepEqual(repeat.DocumentOptional, first.DocumentOptional))
	differ("workflow_id", repeat.WorkflowID != "", repeat.WorkflowID == first.WorkflowID)
	differ("callback_url", repeat.CallbackURL != "", repeat.CallbackURL == first.CallbackURL)
	differ("not_after", !repeat.NotAfter.IsZero(), repeat.NotAfter.Equal(first.NotAfter))
	differ("metadata", len(repeat.Metadata) > 0, sameJSON(repeat.Metadata, first.Metadata))
	return keys
}

func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	read := func(raw json.RawMessage) (v any) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if dec.Decode(&v) != nil {
			return nil
		}
		return v
	}
	x, y := read(a), read(b)
	return x != nil && reflect.DeepEqual(x, y)
}
