package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/record"
)

// Limits of a request's fields.
const (
	MaxApplicationID = 128         // characters
	MaxURL           = 2048        // bytes
	MaxExpiryMinutes = 10 * 525600 // ten years
	MaxGeneration    = 999
	MaxMetadata      = 2 << 10 // bytes of compact JSON
)

// Lane is the way a request takes.
type Lane string

// The lanes. Interactive requests go before bulk ones.
const (
	Interactive = Lane(record.Interactive)
	Bulk        = Lane(record.Bulk)
)

// Request asks for one person's KYC link. Only ApplicationID is required, and
// it is the identity: asking again with the same id never makes a second link.
// Zero values mean "not given".
type Request struct {
	// ApplicationID is 1 to 128 printable characters without blanks.
	ApplicationID string `json:"application_id"`
	// RedirectURL is where the person goes afterwards; https.
	RedirectURL string `json:"redirect_url,omitempty"`
	// ExpiryMinutes is the link's life, from 1; the worker's default where 0.
	ExpiryMinutes int `json:"expiry_minutes,omitempty"`
	// DocumentOptional lets the person choose one document of several.
	DocumentOptional *bool `json:"document_optional,omitempty"`
	// WorkflowID names a FaceKi workflow; the worker's default where empty.
	WorkflowID string `json:"workflow_id,omitempty"`
	// Lane is interactive by default; in files and batches it is bulk.
	Lane Lane `json:"lane,omitempty"`
	// CallbackURL gets the signed event; https.
	CallbackURL string `json:"callback_url,omitempty"`
	// NotAfter is when the request ends as failed if it has no link by then.
	NotAfter time.Time `json:"not_after,omitzero"`
	// Generation N asks for a new link after generation N-1 has ended; 0 means
	// the latest, or the first.
	Generation int `json:"generation,omitempty"`
	// Metadata is a JSON object of at most 2 KiB that events carry along.
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// Problem is one thing that is wrong with one key of a request.
type Problem struct {
	Key     string `json:"key"`
	Message string `json:"message"`
}

func (p Problem) String() string {
	if p.Key == "" {
		return p.Message
	}
	return p.Key + ": " + p.Message
}

// InvalidError says everything that is wrong with a request (reason "invalid").
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		parts[i] = p.String()
	}
	return strings.Join(parts, "; ")
}

func invalid(problems []Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return &InvalidError{problems}
}

// field is one key of a request: how its text and its JSON are read. Text is
// what a CSV cell or a flag holds.
type field struct {
	key  string
	text func(*Request, string) error
	json func(*Request, json.RawMessage) error
}

var fields = []field{
	stringField("application_id", func(r *Request, s string) { r.ApplicationID = s }),
	stringField("redirect_url", func(r *Request, s string) { r.RedirectURL = s }),
	intField("expiry_minutes", func(r *Request, n int) { r.ExpiryMinutes = n }),
	{"document_optional",
		func(r *Request, s string) error { return setBool(&r.DocumentOptional, s) },
		func(r *Request, raw json.RawMessage) error { return setBool(&r.DocumentOptional, string(raw)) }},
	stringField("workflow_id", func(r *Request, s string) { r.WorkflowID = s }),
	stringField("lane", func(r *Request, s string) { r.Lane = Lane(s) }),
	stringField("callback_url", func(r *Request, s string) { r.CallbackURL = s }),
	{"not_after",
		func(r *Request, s string) error { return setTime(&r.NotAfter, s) },
		func(r *Request, raw json.RawMessage) error {
			s, err := text(raw)
			if err != nil {
				return err
			}
			return setTime(&r.NotAfter, s)
		}},
	intField("generation", func(r *Request, n int) { r.Generation = n }),
	{"metadata",
		func(r *Request, s string) error { r.Metadata = json.RawMessage(s); return nil },
		func(r *Request, raw json.RawMessage) error { r.Metadata = raw; return nil }},
}

func stringField(key string, set func(*Request, string)) field {
	return field{key,
		func(r *Request, s string) error { set(r, s); return nil },
		func(r *Request, raw json.RawMessage) error {
			s, err := text(raw)
			if err == nil {
				set(r, s)
			}
			return err
		}}
}

func intField(key string, set func(*Request, int)) field {
	read := func(r *Request, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("must be a whole number")
		}
		if n < 1 {
			return errors.New("must be at least 1")
		}
		set(r, n)
		return nil
	}
	return field{key, read, func(r *Request, raw json.RawMessage) error { return read(r, string(raw)) }}
}

func text(raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("must be a string")
	}
	if s == "" {
		return "", errors.New("is empty; leave the key out where nothing is given")
	}
	return s, nil
}

func setBool(to **bool, s string) error {
	if s != "true" && s != "false" {
		return errors.New("must be true or false")
	}
	v := s == "true"
	*to = &v
	return nil
}

func setTime(to *time.Time, s string) error {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return errors.New("must be a time such as 2026-12-01T00:00:00Z (RFC 3339)")
	}
	*to = t.UTC()
	return nil
}

// Keys lists the keys of a request, in the order in which they are documented.
func Keys() []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// ParseRequest reads a request from a JSON object and validates it. Unknown
// and repeated keys are errors. The error is an [*InvalidError] with all
// problems.
func ParseRequest(data []byte) (Request, error) {
	var r Request
	values, problems := object(data)
	for _, f := range fields {
		raw, given := values[f.key]
		if !given {
			continue
		}
		delete(values, f.key)
		if string(raw) == "null" {
			problems = append(problems, Problem{f.key, "is null; leave the key out where nothing is given"})
		} else if err := f.json(&r, raw); err != nil {
			problems = append(problems, Problem{f.key, err.Error()})
		}
	}
	for key := range values {
		problems = append(problems, Problem{key, "unknown key"})
	}
	return r, finish(&r, problems)
}

// ParseText reads a request from text values by key, as CSV cells and flags
// hold them, and validates it. Empty values mean "not given"; keys that are
// not a request's are left alone. The error is an [*InvalidError] with all
// problems.
func ParseText(value func(key string) string) (Request, error) {
	var (
		r        Request
		problems []Problem
	)
	for _, f := range fields {
		s := value(f.key)
		if s == "" {
			continue
		}
		if !utf8.ValidString(s) {
			problems = append(problems, Problem{f.key, "is not valid UTF-8"})
		} else if err := f.text(&r, s); err != nil {
			problems = append(problems, Problem{f.key, err.Error()})
		}
	}
	return r, finish(&r, problems)
}

// object splits a JSON object into its values.
func object(data []byte) (map[string]json.RawMessage, []Problem) {
	whole := func(message string) []Problem { return []Problem{{Message: message}} }
	if !utf8.Valid(data) {
		return nil, whole("is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, whole("is not a JSON object")
	}
	values := make(map[string]json.RawMessage)
	var problems []Problem
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, whole("is not readable JSON: " + err.Error())
		}
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, whole("is not readable JSON: " + err.Error())
		}
		name, _ := key.(string)
		if _, twice := values[name]; twice {
			problems = append(problems, Problem{name, "is given twice"})
		}
		values[name] = raw
	}
	if _, err := dec.Token(); err != nil {
		return nil, whole("is not readable JSON: it breaks off")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, whole("has text after the JSON object")
	}
	return values, problems
}

// finish adds what [Request.Validate] finds to what reading found, a key once.
func finish(r *Request, problems []Problem) error {
	if compact := new(bytes.Buffer); len(r.Metadata) > 0 && json.Compact(compact, r.Metadata) == nil {
		r.Metadata = compact.Bytes()
	}
	seen := make(map[string]bool, len(problems))
	for _, p := range problems {
		seen[p.Key] = true
	}
	if !seen[""] {
		for _, p := range r.problems() {
			if !seen[p.Key] {
				problems = append(problems, p)
			}
		}
	}
	return invalid(problems)
}

// Validate checks every field and gives all problems at once, as an
// [*InvalidError].
func (r Request) Validate() error { return invalid(r.problems()) }

func (r Request) problems() []Problem {
	var found []Problem
	check := func(key, problem string) {
		if problem != "" {
			found = append(found, Problem{key, problem})
		}
	}
	if r.ApplicationID == "" {
		check("application_id", "is required")
	} else {
		check("application_id", printable(r.ApplicationID))
	}
	check("redirect_url", httpsURL(r.RedirectURL))
	if r.ExpiryMinutes < 0 || r.ExpiryMinutes > MaxExpiryMinutes {
		check("expiry_minutes", fmt.Sprintf("must be from 1 to %d", MaxExpiryMinutes))
	}
	check("workflow_id", printable(r.WorkflowID))
	if r.Lane != "" && r.Lane != Interactive && r.Lane != Bulk {
		check("lane", "must be interactive or bulk")
	}
	check("callback_url", httpsURL(r.CallbackURL))
	if y := r.NotAfter.Year(); !r.NotAfter.IsZero() && (y < 2000 || y > 9999) {
		check("not_after", "must lie between the years 2000 and 9999")
	}
	if r.Generation < 0 || r.Generation > MaxGeneration {
		check("generation", fmt.Sprintf("must be from 1 to %d", MaxGeneration))
	}
	check("metadata", metadata(r.Metadata))
	return found
}

func printable(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	if utf8.RuneCountInString(s) > MaxApplicationID {
		return fmt.Sprintf("is longer than %d characters", MaxApplicationID)
	}
	for _, c := range s {
		if unicode.IsSpace(c) || !unicode.IsPrint(c) {
			return fmt.Sprintf("holds %q; only printable characters without blanks may be used", c)
		}
	}
	return ""
}

func httpsURL(s string) string {
	if s == "" {
		return ""
	}
	if len(s) > MaxURL {
		return fmt.Sprintf("is longer than %d bytes", MaxURL)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || !utf8.ValidString(s):
		return "is not a URL"
	case u.Scheme != "https":
		return "must start with https://"
	case u.Hostname() == "":
		return "names no host"
	case u.User != nil:
		return "must not hold a user name or password"
	}
	return ""
}

func metadata(raw json.RawMessage) string {
	if len(raw) == 0 {
		return ""
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil || object == nil {
		return "must be a JSON object"
	}
	if len(raw) > MaxMetadata {
		return fmt.Sprintf("is longer than %d bytes", MaxMetadata)
	}
	return ""
}

// content is what of the request is stored, and compared with a repeat.
func (r Request) content() record.Content {
	return record.Content{
		RedirectURL: r.RedirectURL, ExpiryMinutes: r.ExpiryMinutes, DocumentOptional: r.DocumentOptional,
		WorkflowID: r.WorkflowID, CallbackURL: r.CallbackURL, NotAfter: r.NotAfter, Metadata: r.Metadata,
	}
}

// differences names the keys that the repeat gives and that were given
// otherwise, or not at all, the first time.
func differences(first, repeat record.Content) []string {
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
