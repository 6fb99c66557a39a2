// Package fault is the one table of what can go wrong with a request: the
// public word for it, whom it concerns, whether a link may exist all the same,
// and whether it may be held against the request.
//
// Adapters classify at the edge and return a [Fault]; the engine decides by
// the table's columns and never by the text of an error.
package fault

import (
	"fmt"
	"time"
)

// Reason is the public word for why something was not accepted, ended, is
// held, or why calls wait. The list is closed; it is also the label of metrics.
type Reason string

// Reasons for which a request is not accepted.
const (
	Invalid       Reason = "invalid"
	Conflict      Reason = "conflict"
	GenerationGap Reason = "generation_gap"
	BacklogFull   Reason = "backlog_full"
)

// Reasons for which a request ends.
const (
	InvalidRequest      Reason = "invalid_request"
	WorkflowRules       Reason = "workflow_rules"
	NotAfter            Reason = "not_after"
	Cancelled           Reason = "cancelled"
	Poison              Reason = "poison"
	UpstreamError       Reason = "upstream_error"
	UpstreamUnavailable Reason = "upstream_unavailable"
	Throttled           Reason = "throttled"
	Timeout             Reason = "timeout"
	Connection          Reason = "connection"
	UnreadableAnswer    Reason = "unreadable_answer"
)

// Reasons for which a request is held for a person.
const (
	UnknownOutcome Reason = "unknown_outcome"
	UnusableAnswer Reason = "unusable_answer"
)

// Reasons for which the account's calls wait.
const (
	Outage       Reason = "outage"
	Refused      Reason = "refused"
	NoCredit     Reason = "no_credit"
	LimitReached Reason = "limit_reached"
	Paused       Reason = "paused"
)

// RowsRefused is why a batch is paused that nobody paused: too many of its calls in a
// row were refused as wrong. One that a person paused is [Paused].
const RowsRefused Reason = "rows_refused"

// Ends are the reasons for which a request fails.
func Ends() []Reason {
	return []Reason{
		InvalidRequest, WorkflowRules, NotAfter, Poison, UpstreamError, UpstreamUnavailable, Throttled, Timeout, Connection, UnreadableAnswer,
	}
}

// Holds are the reasons for which a request is held.
func Holds() []Reason { return []Reason{UnknownOutcome, UnusableAnswer} }

// Party is whom a fault concerns, which decides what follows.
type Party int

const (
	// ThisRequest is wrong in itself: it fails now.
	ThisRequest Party = iota + 1
	// FaceKi is failing: the request is tried again later.
	FaceKi
	// Account is refused, out of credit or at its limit: the request is kept.
	Account
	// Throttle is a 429: the request waits until Retry-After.
	Throttle
	// Ourselves: the call was interrupted by us and the request is put back.
	Ourselves
	// Person: only somebody who looks can say what happened; the request is held.
	Person
)

// String gives the party as people read it.
func (p Party) String() string {
	return [...]string{"", "this request", "FaceKi", "the account", "throttling", "ourselves", "a person"}[p]
}

// Outcome is what is known of the link after a call that brought none.
type Outcome int

const (
	// NoLink: the call was not sent, or the answer says that no link was made.
	NoLink Outcome = iota + 1
	// Unknown: a link may exist. Trying again may make, and bill, a second one.
	Unknown
)

// String gives the outcome as people read it.
func (o Outcome) String() string { return [...]string{"", "no link", "unknown"}[o] }

// Kind names one row of the table.
type Kind int

// The kinds. Each has exactly one row in the table.
const (
	BadRequest       Kind = iota + 1 // FaceKi says that the request is wrong
	RulesMissing                     // the request's own workflow has no rules
	ServerError                      // 500, 502, 504 …: a link may have been made
	LinkNotMade                      // 8016: FaceKi says that it made none
	Unavailable                      // 503
	TooMany                          // 429
	NotSent                          // connection refused, name not found, TLS refused …
	ConnectTimeout                   // timed out before the request was written
	Lost                             // connection lost after the request was written
	TimedOut                         // timed out after the request was written
	Unreadable                       // a 2xx that is cut off or is not what FaceKi answers
	Unusable                         // code 0 without a usable id or URL: probably a paid link
	Unauthorized                     // credentials, token or base URL are refused
	NotFaceKi                        // a 4xx or a redirect that is not FaceKi's
	CreditGone                       // 5003: the wallet is empty
	LimitGone                        // 5009, 8017: number of links reached
	AccountRules                     // 7001, or 5001 for a request that names no workflow
	TokenUnavailable                 // no token could be had, FaceKi's fault
	Interrupted                      // we stopped before the request was sent
	kinds            = iota + 1
)

type row struct {
	reason  Reason
	party   Party
	outcome Outcome
	// blames says that the fault may be held against the request (it may be
	// spent). What never reached FaceKi, 503 and 429 say nothing of a request.
	blames bool
	means  string
}

var table = [kinds]row{
	BadRequest:       {InvalidRequest, ThisRequest, NoLink, true, "FaceKi refused this request as invalid"},
	RulesMissing:     {WorkflowRules, ThisRequest, NoLink, true, "FaceKi knows no rules for the request's workflow"},
	ServerError:      {UpstreamError, FaceKi, Unknown, true, "FaceKi failed while it handled the request"},
	LinkNotMade:      {UpstreamError, FaceKi, NoLink, true, "FaceKi could not make the link"},
	Unavailable:      {UpstreamUnavailable, FaceKi, NoLink, false, "FaceKi is unavailable"},
	TooMany:          {Throttled, Throttle, NoLink, false, "FaceKi wants fewer calls"},
	NotSent:          {Connection, FaceKi, NoLink, false, "FaceKi could not be reached"},
	ConnectTimeout:   {Timeout, FaceKi, NoLink, false, "connecting to FaceKi took too long"},
	Lost:             {Connection, FaceKi, Unknown, true, "the connection was lost before FaceKi answered"},
	TimedOut:         {Timeout, FaceKi, Unknown, true, "FaceKi did not answer in time"},
	Unreadable:       {UnreadableAnswer, FaceKi, Unknown, true, "FaceKi's answer could not be read"},
	Unusable:         {UnusableAnswer, Person, Unknown, true, "FaceKi says that a link was made, but gave none that can be used"},
	Unauthorized:     {Refused, Account, NoLink, false, "FaceKi refuses the account's credentials or address"},
	NotFaceKi:        {Refused, Account, NoLink, false, "something else than FaceKi's API answered, and refused the call"},
	CreditGone:       {NoCredit, Account, NoLink, false, "the account has no credit left"},
	LimitGone:        {LimitReached, Account, NoLink, false, "the account's limit is reached"},
	AccountRules:     {LimitReached, Account, NoLink, false, "the account has no rules to make links by"},
	TokenUnavailable: {UpstreamUnavailable, FaceKi, NoLink, false, "no access token could be had"},
	Interrupted:      {Paused, Ourselves, NoLink, false, "the call was called off before it was sent"},
}

// Fault is a call that brought no link. It is an error whose text holds no
// secret: it is made from the table and from what the adapter adds.
type Fault struct {
	Kind Kind
	// Detail is what the adapter adds for people, such as "HTTP 500, code 1000". It may
	// quote FaceKi: bounded, on one line, and without a secret, a link or a person's id.
	Detail string
	// RetryAfter is how long FaceKi asked to wait; 0 where it did not.
	RetryAfter time.Duration
	// Kept is a link that was made and cannot be used yet, encrypted; "" where there is
	// none. It is not lost, so that nothing about it is unknown.
	Kept string
	// Renewed says that the access token was refused and has been dropped, so
	// that the request may be admitted again at once, with a new one.
	Renewed bool
}

// Error is the message for people.
func (f *Fault) Error() string {
	if f.Detail == "" {
		return f.row().means
	}
	return fmt.Sprintf("%s (%s)", f.row().means, f.Detail)
}

// Means is the message without the detail, the same for all faults of a kind.
func (f *Fault) Means() string { return f.row().means }

func (f *Fault) row() row { return table[f.Kind] }

// Kinds are all that there are.
func Kinds() []Kind {
	all := make([]Kind, 0, kinds-1)
	for k := BadRequest; k < kinds; k++ {
		all = append(all, k)
	}
	return all
}

// Reason is the public word.
func (f *Fault) Reason() Reason { return f.row().reason }

// Party is whom the fault concerns.
func (f *Fault) Party() Party { return f.row().party }

// Outcome says whether a link may exist all the same.
func (f *Fault) Outcome() Outcome { return f.row().outcome }

// Blames says whether the fault may be held against the request, see
// KYCLINK_MAX_ATTEMPTS.
func (f *Fault) Blames() bool { return f.row().blames }
