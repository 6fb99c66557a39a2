package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// field is a key of a request, with functions that read its value from text (a CSV cell
// or a flag) and from JSON.
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
		func(r *Request, s string) error { r.Metadata = compact(json.RawMessage(s)); return nil },
		func(r *Request, raw json.RawMessage) error { r.Metadata = compact(raw); return nil }},
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
		switch {
		case errors.Is(err, strconv.ErrRange) && s[0] != '-':
			return errors.New("is too large")
		case errors.Is(err, strconv.ErrRange) || err == nil && n < 1:
			return errors.New("must be at least 1")
		case err != nil || strconv.Itoa(n) != s: // as in JSON: no plus sign, no leading zeros
			return errors.New("must be a whole number")
		}
		set(r, n)
		return nil
	}
	return field{key, read, func(r *Request, raw json.RawMessage) error { return read(r, string(raw)) }}
}

// compact removes the white space of an object that is longer than the limit, so that
// the limit does not depend on the formatting.
func compact(raw json.RawMessage) json.RawMessage {
	var short bytes.Buffer
	if len(raw) <= MaxMetadata || json.Compact(&short, raw) != nil {
		return raw
	}
	return bytes.Clone(short.Bytes())
}

func text(raw json.RawMessage) (string, error) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("must be a string")
	}
	if s == "" {
		return "", errors.New("is empty; omit the key to leave it unset")
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
	if t.IsZero() { // it would mean "not set"
		return errors.New(notAfterRange)
	}
	*to = t.UTC()
	return nil
}

// Keys returns the keys of a request, in the order of the documentation.
func Keys() []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.key
	}
	return keys
}

// ParseRequest reads a request from a JSON object and validates it. Unknown and repeated
// keys are errors. The error is an [*InvalidError] with all problems; equal input gives
// equal errors.
func ParseRequest(data []byte) (Request, error) {
	var r Request
	given, unreadable := object(data)
	if unreadable != "" {
		return r, invalid([]Problem{{Message: unreadable}})
	}
	var problems []Problem
	values := make(map[string]json.RawMessage, len(given))
	for _, m := range given {
		if m.times == 2 {
			problems = append(problems, Problem{m.key, "is given twice"})
		}
		values[m.key] = m.value
	}
	for _, f := range fields {
		raw, ok := values[f.key]
		if !ok {
			continue
		}
		delete(values, f.key)
		if string(raw) == "null" {
			problems = append(problems, Problem{f.key, "is null; omit the key to leave it unset"})
		} else if err := f.json(&r, raw); err != nil {
			problems = append(problems, Problem{f.key, err.Error()})
		}
	}
	for _, m := range given {
		if _, unknown := values[m.key]; unknown && m.times == 1 {
			problems = append(problems, Problem{m.key, "unknown key"})
		}
	}
	return r, finish(&r, problems)
}

// ParseText reads a request from text values, such as CSV cells or flags, and validates
// it. value returns the value of one of [Keys]; an empty value means "not set". The
// error is an [*InvalidError] with all problems.
func ParseText(value func(key string) string) (Request, error) {
	var (
		r        Request
		problems []Problem
	)
	long := false
	for _, f := range fields {
		s := value(f.key)
		long = long || len(s) > MaxMetadata
		if s == "" {
			continue
		}
		if !utf8.ValidString(s) {
			problems = append(problems, Problem{f.key, "is not valid UTF-8"})
		} else if err := f.text(&r, s); err != nil {
			problems = append(problems, Problem{f.key, err.Error()})
		}
	}
	if long {
		r.detach()
	}
	return r, finish(&r, problems)
}

// detach copies the strings of r, so that they do not keep a long row in memory.
func (r *Request) detach() {
	for _, text := range []*string{&r.ApplicationID, &r.RedirectURL, &r.WorkflowID, (*string)(&r.Lane), &r.CallbackURL} {
		*text = strings.Clone(*text)
	}
}

// member is a key and value of a JSON object. times counts the members with the same
// key, up to this one.
type member struct {
	key   string
	value json.RawMessage
	times int
}

// object splits a JSON object into its members, or returns why it cannot.
func object(data []byte) (members []member, unreadable string) {
	if !utf8.Valid(data) {
		return nil, "is not valid UTF-8"
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, "is not a JSON object"
	}
	times := make(map[string]int)
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, "is not valid JSON: " + err.Error()
		}
		m := member{key: key.(string)} // a decoder returns no other token here
		if err := dec.Decode(&m.value); err != nil {
			return nil, "is not valid JSON: " + err.Error()
		}
		times[m.key]++
		m.times = times[m.key]
		members = append(members, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, "is not valid JSON: unexpected end of input"
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, "has text after the JSON object"
	}
	return members, ""
}

// finish adds the problems of [Request.Validate], at most one per key.
func finish(r *Request, problems []Problem) error {
	seen := make(map[string]bool, len(problems))
	for _, p := range problems {
		seen[p.Key] = true
	}
	for _, p := range r.problems() {
		if !seen[p.Key] {
			problems = append(problems, p)
		}
	}
	return invalid(problems)
}
