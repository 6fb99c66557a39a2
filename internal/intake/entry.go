package intake

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

// parsed parses the request, unless the entry is too large.
func (r rawEntry) parsed() (tasks.Request, error) {
	if r.size > 0 {
		return tasks.Request{}, tasks.NewInvalidError([]tasks.Problem{{
			Message: fmt.Sprintf("the entry has %d bytes, the limit is %d; its original is shortened", r.size, maxEntry),
		}})
	}
	return Parse(r.fields)
}

// requestField is the field with a whole request as JSON.
const requestField = "request"

// Field is a field of a stream entry, which may have several of one name.
type Field struct{ Name, Value string }

// rawEntry is an entry of the stream as it was added.
type rawEntry struct {
	id     string
	fields []Field
	size   int64 // in bytes, if it is too large: then fields are the first ones, shortened
	gone   bool  // it was deleted
}

// entry is an entry with a valid request.
type entry struct {
	rawEntry
	request tasks.Request
}

// Parse parses a request from the fields of an entry: either one field for each key, or
// the single field "request" with JSON. The default lane is interactive. The error is a
// [*tasks.InvalidError] with all problems.
func Parse(fields []Field) (tasks.Request, error) {
	req, err := parse(fields)
	if err == nil && req.Lane == "" {
		req.Lane = tasks.Interactive
	}
	return req, err
}

func parse(fields []Field) (tasks.Request, error) {
	if len(fields) == 1 && fields[0].Name == requestField {
		req, err := tasks.ParseRequest([]byte(fields[0].Value))
		if invalid, ok := errors.AsType[*tasks.InvalidError](err); ok {
			for n := range invalid.Problems { // problems of the request as a whole
				invalid.Problems[n].Key = cmp.Or(invalid.Problems[n].Key, requestField)
			}
		}
		return req, err
	}
	values := make(map[string]string, len(fields))
	var problems []tasks.Problem
	for _, f := range fields {
		_, twice := values[f.Name]
		switch {
		case twice:
			problems = append(problems, tasks.Problem{Key: f.Name, Message: "is given twice"})
		case f.Name == requestField:
			problems = append(problems, tasks.Problem{Key: f.Name, Message: "must be the only field, with the request as JSON"})
		case !slices.Contains(tasks.Keys(), f.Name):
			problems = append(problems, tasks.Problem{Key: f.Name, Message: "unknown key"})
		case f.Value == "":
			problems = append(problems, tasks.Problem{Key: f.Name, Message: "is empty; omit the key to leave it unset"})
		}
		values[f.Name] = f.Value
	}
	req, err := tasks.ParseText(func(key string) string { return values[key] })
	if invalid, ok := errors.AsType[*tasks.InvalidError](err); ok {
		for _, p := range invalid.Problems {
			if !slices.ContainsFunc(problems, func(q tasks.Problem) bool { return q.Key == p.Key }) {
				problems = append(problems, p)
			}
		}
		err = nil
	}
	if err == nil && len(problems) > 0 {
		err = tasks.NewInvalidError(problems)
	}
	return req, err
}

// outcome is the result of an entry; it was accepted if there is no reason.
type outcome struct {
	id, reason, message, original string
}

// rejected returns the outcome of an entry that cannot be accepted.
func rejected(r rawEntry, err error) outcome {
	reason := tasks.ReasonOf(err)
	if errors.Is(err, tasks.ErrNotFound) { // an earlier generation, which is not kept any more
		reason = string(fault.GenerationGap)
	}
	if reason == "" {
		reason = string(fault.Invalid)
	}
	return outcome{r.id, reason, err.Error(), original(r.fields)}
}

// original returns fields as a JSON object, in their order. Invalid UTF-8 is replaced by
// U+FFFD.
func original(fields []Field) string {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range fields {
		if i > 0 {
			b.WriteByte(',')
		}
		name, _ := json.Marshal(f.Name) // a string cannot fail
		value, _ := json.Marshal(f.Value)
		fmt.Fprintf(&b, "%s:%s", name, value)
	}
	b.WriteByte('}')
	return b.String()
}
