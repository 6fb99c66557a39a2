// Package action carries out operator actions on many entries in the worker fleet: it
// retries or drops all failed or held requests, or given-up deliveries, that match a filter
// or have given IDs. An action is first planned, which says how many entries it would
// change, and then started. A [Runner] of any worker continues it, a page at a time, also
// after another worker has died.
package action

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

// Kind is what an action does.
type Kind string

// The kinds of actions.
const (
	RetryFailed     Kind = "retry_failed"
	DropFailed      Kind = "drop_failed"
	RetryHeld       Kind = "retry_held"
	DropHeld        Kind = "drop_held"
	RetryDeliveries Kind = "retry_deliveries"
	DropDeliveries  Kind = "drop_deliveries"
)

// Kinds returns all kinds.
func Kinds() []Kind {
	return []Kind{RetryFailed, DropFailed, RetryHeld, DropHeld, RetryDeliveries, DropDeliveries}
}

// Audited is the name of an action of this kind in the audit trail, which is the same as
// that of the command that does so.
func (k Kind) Audited() string {
	verb, list, _ := strings.Cut(string(k), "_")
	if list == "deliveries" {
		list = "callbacks"
	}
	return list + "." + verb
}

// drops reports whether an action of this kind drops entries instead of retrying them.
func (k Kind) drops() bool { return strings.HasPrefix(string(k), "drop_") }

// state is the state of the requests that an action of this kind changes; "" if it changes
// deliveries.
func (k Kind) state() request.State {
	switch k {
	case RetryFailed, DropFailed:
		return request.Failed
	case RetryHeld, DropHeld:
		return request.Held
	case RetryDeliveries, DropDeliveries:
		return ""
	}
	return ""
}

// reasons are those that the entries of an action of this kind may have.
func (k Kind) reasons() []fault.Reason {
	switch k.state() { //nolint:exhaustive // no other has a list
	case request.Failed:
		return fault.Ends()
	case request.Held:
		return fault.Holds()
	}
	return fault.Undelivered()
}

// Filter selects entries of a list. An empty field does not restrict it. Since and Before
// are about the time at which an entry came to the list.
type Filter struct {
	All    bool         `json:"all,omitempty"`
	Reason string       `json:"reason,omitempty"`
	Batch  string       `json:"batch,omitempty"` // by name
	Lane   request.Lane `json:"lane,omitempty"`  // of requests
	Host   string       `json:"host,omitempty"`  // of deliveries
	Since  time.Time    `json:"since,omitzero"`
	Before time.Time    `json:"before,omitzero"`
}

// selection returns the filter as the operator's functions take it.
func (f Filter) selection(ids []string) operator.Selection {
	text := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	return operator.Selection{IDs: ids, Host: f.Host, Reason: f.Reason, Batch: f.Batch, Since: text(f.Since), Before: text(f.Before)}
}

// MaxIDs is the most IDs of one action.
const MaxIDs = 1000

// The rate of an action, in entries per second, unless it is given, and the highest rate.
const (
	DefaultRate = "1000/s"
	maxRate     = 5000
)

// Request says what an action shall do.
type Request struct {
	Kind   Kind     `json:"kind"`
	Filter Filter   `json:"filter,omitzero"`
	IDs    []string `json:"ids,omitempty"`  // application IDs; of deliveries event IDs as well
	Rate   string   `json:"rate,omitempty"` // such as "50/s"
}

// InvalidError says what is wrong with a [Request].
type InvalidError struct{ Key, Message string }

func (e *InvalidError) Error() string { return e.Key + " " + e.Message }

// Targets returns what the audit trail records: the given IDs, or else the filter.
func (r Request) Targets() []string {
	text := r.Filter.selection(r.IDs)
	if len(r.IDs) > 0 || r.Filter.Lane == "" {
		return text.Targets()
	}
	return []string{strings.TrimPrefix(text.String(), "--all") + " --lane " + string(r.Filter.Lane)}
}

// validate returns the request with its defaults, or an [*InvalidError].
func (r Request) validate() (Request, error) {
	invalid := func(key, message string, args ...any) (Request, error) {
		return r, &InvalidError{key, fmt.Sprintf(message, args...)}
	}
	f, lanes := r.Filter, []request.Lane{request.Interactive, request.Bulk}
	f.All = false
	selects := f != Filter{}
	if r.Rate == "" {
		r.Rate = DefaultRate
	}
	pace, err := admission.ParseRate(r.Rate)
	switch {
	case !slices.Contains(Kinds(), r.Kind):
		return invalid("kind", "must be one of %s", joined(Kinds()))
	case !selects && len(r.IDs) == 0 && !r.Filter.All:
		return invalid("filter", "selects nothing: give ids, a reason, a batch, a time, or all: true")
	case r.Filter.All && (selects || len(r.IDs) > 0):
		return invalid("filter", "must not have all: true beside ids or other conditions")
	case len(r.IDs) > MaxIDs:
		return invalid("ids", "must not have more than %d entries; use a filter", MaxIDs)
	case slices.Contains(r.IDs, ""):
		return invalid("ids", "must not have an empty entry")
	case f.Reason != "" && !slices.Contains(r.Kind.reasons(), fault.Reason(f.Reason)):
		return invalid("filter.reason", "must be one of %s", joined(r.Kind.reasons()))
	case f.Lane != "" && r.Kind.state() == "":
		return invalid("filter.lane", "is only for requests")
	case f.Lane != "" && !slices.Contains(lanes, f.Lane):
		return invalid("filter.lane", "must be one of %s", joined(lanes))
	case f.Host != "" && r.Kind.state() != "":
		return invalid("filter.host", "is only for deliveries")
	case !f.Since.IsZero() && !f.Before.IsZero() && !f.Since.Before(f.Before):
		return invalid("filter.since", "must be earlier than before, or nothing can match")
	case err != nil:
		return invalid("rate", "%s", err.Error())
	case perSecond(pace) > maxRate:
		return invalid("rate", "must not be above %d/s", maxRate)
	}
	return r, nil
}

func perSecond(r admission.Rate) float64 { return float64(r.N) / r.Per.Seconds() }

func joined[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}

// State is the state of an action.
type State string

// The states of an action.
const (
	Running State = "running"
	Done    State = "done"
	Aborted State = "aborted"
	// Unreadable is the state of an action that this version cannot decode: a newer version
	// wrote it, or it is damaged. It has only what could be read.
	Unreadable State = "unreadable"
)

// Action is an action that was started.
type Action struct {
	ID     string `json:"id"`
	Kind   Kind   `json:"kind"`
	Filter Filter `json:"filter,omitzero"`
	// Selected is the number of IDs that were given. The IDs themselves are not shown.
	Selected int    `json:"selected_ids,omitempty"`
	By       string `json:"by"` // who started it
	Rate     string `json:"rate"`
	State    State  `json:"state"`
	Message  string `json:"message,omitempty"` // why it was aborted, if nobody did so, or cannot be decoded
	Counts   Counts `json:"counts"`

	CreatedAt time.Time `json:"created_at"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
}

// Selects describes what the action was applied to, as flags of a command; "" if that cannot
// be decoded.
func (a Action) Selects() string {
	if a.State == Unreadable {
		return ""
	}
	if a.Selected > 0 {
		return fmt.Sprintf("%d given IDs", a.Selected)
	}
	return Request{Filter: a.Filter}.Targets()[0]
}

// Ended reports whether the action changes nothing any more.
func (a Action) Ended() bool { return a.State == Done || a.State == Aborted }

// Counts counts the entries of an action.
type Counts struct {
	Matched int     `json:"matched"` // at its start
	Done    int     `json:"done"`
	Skipped Skipped `json:"skipped"`
}

// Skipped counts the entries that an action left as they were, by reason.
type Skipped struct {
	// Changed entries had been changed by somebody else after they were read, Gone ones
	// before.
	Changed int `json:"changed"`
	Gone    int `json:"gone"`
	// Unreadable entries cannot be decoded: a newer version wrote them, or they are damaged.
	Unreadable int `json:"unreadable"`
}

// Total returns the number of all of them.
func (s Skipped) Total() int { return s.Changed + s.Gone + s.Unreadable }

// add adds other counts.
func (c *Counts) add(more Counts) {
	c.Done += more.Done
	c.Skipped.Changed += more.Skipped.Changed
	c.Skipped.Gone += more.Skipped.Gone
	c.Skipped.Unreadable += more.Skipped.Unreadable
}
