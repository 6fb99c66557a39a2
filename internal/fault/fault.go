// Package fault classifies what can go wrong with a call, in one table: the public reason,
// what the fault applies to, whether a link may exist, what the gate learns from it, and
// whether it may be charged to the request.
//
// Adapters classify at the edge and return a [Fault]. The engine decides by the columns of
// the table and never by the text of an error.
package fault

import (
	"fmt"
	"time"
)

// MaxRetryAfter is the longest that FaceKi's Retry-After is obeyed, by the gate and by
// requests for a token. After that FaceKi is called again.
const MaxRetryAfter = 10 * time.Minute

// Fault describes a call that made no link. It is an error whose text contains no
// secret: the text comes from the table and from the adapter's Detail.
type Fault struct {
	Kind Kind
	// Detail adds information for people, such as "HTTP 500, code 1000". It may quote
	// FaceKi: bounded, on one line, and without a secret, a link or a person's id.
	Detail string
	// RetryAfter is how long FaceKi asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Kept is a link that was made and cannot be used yet, encrypted; "" if there is none.
	// Because it is not lost, the outcome is not uncertain.
	Kept string
	// Renewed says that the access token was refused and has been dropped, so that the
	// request may be admitted again at once, with a new token.
	Renewed bool
}

// Error returns the message for people.
func (f *Fault) Error() string {
	if f.Detail == "" {
		return f.row().means
	}
	return fmt.Sprintf("%s (%s)", f.row().means, f.Detail)
}

// Means returns the message without the detail, which is the same for all faults of a kind.
func (f *Fault) Means() string { return f.row().means }

func (f *Fault) row() row { return table[f.Kind] }

// Reason returns the public word for the fault.
func (f *Fault) Reason() Reason { return f.row().reason }

// Scope returns what the fault applies to.
func (f *Fault) Scope() Scope { return f.row().scope }

// Outcome says what is known about the link.
func (f *Fault) Outcome() Outcome { return f.row().outcome }

// Uncertain says whether a link may exist that nobody has.
func (f *Fault) Uncertain() bool { return f.Outcome() == Uncertain && f.Kept == "" }

// Signal returns what the gate learns from the fault, unless it is charged to the request.
func (f *Fault) Signal() Signal {
	if f.Renewed && f.Scope() == Account {
		return SignalUnused // a new token may be all that is missing
	}
	return f.row().signal
}

// ChargedSignal returns what the gate learns from the fault if it is charged to the
// request: then it is no evidence of an outage.
func (f *Fault) ChargedSignal() Signal {
	signal := f.Signal()
	if signal == SignalOutage || signal == SignalUnavailable {
		return SignalNone
	}
	return signal
}

// Chargeable says whether the fault may count against the request's limit of attempts,
// see KYCLINK_MAX_ATTEMPTS.
func (f *Fault) Chargeable() bool { return f.row().chargeable }
