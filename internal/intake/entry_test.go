package intake

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

// FuzzParse checks that an entry is either a valid request, or is rejected with a reason
// and valid JSON of its fields.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"application_id=A-1", "request={}", `request={"application_id":"A-1","generation":2}`, "application_id=A-1\nlane=bulk\nexpiry_minutes=7",
		"application_id=A-1\napplication_id=A-1", "=\n=", "metadata={}\napplication_id=x", "not_after=2026-12-01T00:00:00Z\napplication_id=x", "\xff=\xfe",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var fields []Field
		for line := range strings.SplitSeq(text, "\n") {
			name, value, _ := strings.Cut(line, "=")
			fields = append(fields, Field{name, value})
		}
		var entry map[string]any
		if err := json.Unmarshal([]byte(original(fields)), &entry); err != nil {
			t.Fatalf("original of %q: %v", fields, err)
		}
		req, err := Parse(fields)
		if err != nil {
			if _, invalid := errors.AsType[*tasks.InvalidError](err); !invalid {
				t.Fatalf("%q: got error %v of type %T, want an InvalidError", fields, err, err)
			}
			if o := rejected(rawEntry{id: "1-1", fields: fields}, err); o.reason != "invalid" || o.message == "" || o.original == "" {
				t.Fatalf("%q: got rejection %+v, want reason invalid with a message and the original", fields, o)
			}
			return
		}
		if req.Lane != tasks.Interactive && req.Lane != tasks.Bulk {
			t.Fatalf("%q: got lane %q", fields, req.Lane)
		}
		if err := req.Validate(); err != nil {
			t.Fatalf("%q was parsed, but is invalid: %v", fields, err)
		}
		if len(fields) == 1 && fields[0].Name == requestField {
			return
		}
		seen := map[string]bool{}
		for _, field := range fields {
			if seen[field.Name] || field.Value == "" {
				t.Fatalf("%q was parsed, although field %q is empty or repeated", fields, field.Name)
			}
			seen[field.Name] = true
		}
	})
}

// FuzzEntryOf checks that no reply of Redis makes entryOf panic.
func FuzzEntryOf(f *testing.F) {
	f.Add(`["1-1",["a","b"]]`)
	f.Add(`["1-1"]`)
	f.Add(`["1-1",["a","b"],70000]`)
	f.Add(`[1,2]`)
	f.Fuzz(func(_ *testing.T, text string) {
		var reply any
		if json.Unmarshal([]byte(text), &reply) != nil {
			return
		}
		_, _ = entryOf(reply)
	})
}
