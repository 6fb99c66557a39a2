// Package event encodes the parts of an event that Go knows. The script that ends a request
// adds the numbers that only it knows, and publishes the event in the same step.
package event

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

// Parts are the parts of an event that the caller of a script provides.
type Parts struct {
	ID     string
	At     string // RFC 3339 with milliseconds
	IDJSON string // the application id as JSON
	// Head (the batch) and Tail (the metadata) are JSON members that begin with a comma.
	Head, Tail string
}

// Args adds the parts to the arguments of a script, and returns the arguments.
func (p Parts) Args(args lua.Args) lua.Args {
	args["event_id"], args["at"], args["id_json"], args["head"], args["tail"] = p.ID, p.At, p.IDJSON, p.Head, p.Tail
	return args
}

// Encoder encodes events of one account.
type Encoder struct {
	account string
	names   *batchname.Reader
}

// NewEncoder returns an encoder that looks up batch names in names.
func NewEncoder(account string, names *batchname.Reader) *Encoder {
	return &Encoder{account: account, names: names}
}

// Parts returns the parts of the event for an end of r's run at a time.
func (e *Encoder) Parts(ctx context.Context, r request.Record, at time.Time) (Parts, error) {
	head := ""
	if r.Batch != 0 {
		name, err := e.names.Name(ctx, r.Batch)
		if err != nil {
			return Parts{}, err
		}
		if head, err = Head(name); err != nil {
			return Parts{}, err
		}
	}
	idJSON, tail, err := Request(r)
	return Parts{r.EventID(e.account).String(), Timestamp(at), idJSON, head, tail}, err
}

// FreshParts is [Encoder.Parts] with the batch name read from Redis. It is for a request
// that this process was not admitted to call: a Redis that lost its last writes may have
// given the batch's number to another batch since the name was cached.
func (e *Encoder) FreshParts(ctx context.Context, r request.Record, at time.Time) (Parts, error) {
	e.names.Delete(r.Batch)
	return e.Parts(ctx, r, at)
}

// Head returns the JSON member with an event's batch.
func Head(batch string) (string, error) { return Members(Pair("batch", batch)) }

// Request returns a request's id as JSON, and the JSON member with its metadata; "" if it
// has none.
func Request(r request.Record) (idJSON, tail string, err error) {
	id, err := json.Marshal(r.ApplicationID)
	if err != nil {
		return "", "", fmt.Errorf("encode %s: %w", r.ApplicationID, err)
	}
	if len(r.Content.Metadata) > 0 {
		tail, err = Members(Pair("metadata", r.Content.Metadata))
	}
	return string(id), tail, err
}

// Timestamp formats a time for events: RFC 3339 in UTC, with milliseconds.
func Timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// Member is a member of a JSON object.
type Member struct {
	key   string
	value any
}

// Pair returns a member.
func Pair(key string, value any) Member { return Member{key, value} }

// Members encodes members, each preceded by a comma.
func Members(list ...Member) (string, error) {
	var out []byte
	for _, m := range list {
		if t, ok := m.value.(time.Time); ok {
			m.value = Timestamp(t)
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return "", fmt.Errorf("encode %s: %w", m.key, err)
		}
		out = fmt.Appendf(out, ",%q:%s", m.key, value)
	}
	return string(out), nil
}

// Reason encodes the reason and message of an end without a link, or of a hold.
func Reason(reason fault.Reason, message string) (string, error) {
	return Members(Pair("reason", string(reason)), Pair("message", message))
}

// Cancelled encodes the reason of a cancelled request.
func Cancelled() (string, error) {
	return Members(Pair("reason", string(fault.Cancelled)))
}

// EnteredAt returns the time in the id of a stream entry; the zero time if it is not an
// entry id.
func EnteredAt(id string) time.Time {
	var ms, n int64
	if _, err := fmt.Sscanf(id, "%d-%d", &ms, &n); err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
