package faceki

import "fmt"

// Secret is text that must never be displayed: printed, marshalled or logged, it reads
// "[redacted]", or is empty if the secret is. Only string(s) returns the content.
type Secret string

// String hides the content.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString hides the content from %#v.
func (s Secret) GoString() string { return s.String() }

// Format hides the content from every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText hides the content.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalJSON hides the content.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }
