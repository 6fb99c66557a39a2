// Package diagnosis says whether people get their links and, if not, why, whether that
// clears by itself, and what to do.
//
// [Account], [Request] and [Batch] are pure functions of a [Snapshot], which [Reader] reads
// from Redis. Nothing in the package changes the account.
package diagnosis

import (
	"slices"
	"strings"
	"time"
)

// State says whether links are created, and who must act if not.
type State string

// The states.
const (
	Flowing State = "flowing" // links are created
	Idle    State = "idle"    // there is nothing to do
	Waiting State = "waiting" // requests wait, and continue without anyone's help
	Stuck   State = "stuck"   // a person must act
)

// Code identifies a situation. Codes do not change, so that alerts can rely on them.
type Code string

// The codes. A code always has the same state, except for [ResultsUnread] and the codes of
// a [Request].
const (
	LinksCreated       Code = "flowing"
	NothingToDo        Code = "idle"
	Ended              Code = "ended"
	RateLimited        Code = "rate_limited"
	ConcurrencyLimited Code = "concurrency_limited"
	Ramping            Code = "ramping"
	Calling            Code = "calling"
	InQueue            Code = "in_queue"

	FaceKiOutage      Code = "outage"
	FaceKiThrottles   Code = "throttled"
	RetryScheduled    Code = "retry_scheduled"
	CallbacksRetrying Code = "callbacks_retrying"
	GateClosed        Code = "gate_closed"

	RedisFull          Code = "redis_full"
	RedisWriteFails    Code = "redis_write_fails"
	RedisReadOnly      Code = "redis_read_only"
	RedisMemory        Code = "redis_memory"
	NoWorker           Code = "no_worker"
	AccountPaused      Code = "account_paused"
	CredentialsRefused Code = "credentials_refused"
	NoCredit           Code = "no_credit"
	LimitReached       Code = "limit_reached"
	BatchPaused        Code = "batch_paused"
	RowsRefused        Code = "rows_refused"
	NoProgress         Code = "no_progress"
	Held               Code = "held"
	CallbacksGivenUp   Code = "callbacks_given_up"
	ResultsUnread      Code = "results_unread"
	ResultsNearCap     Code = "results_near_cap"
	Quarantined        Code = "quarantined"
	FailedRequests     Code = "failed_requests"
	IntakeRejects      Code = "intake_rejects"
	DeadlineNear       Code = "not_after"
)

// Words returns the code as words, for a place with little room.
func (c Code) Words() string { return strings.ReplaceAll(string(c), "_", " ") }

// PreventsCalls reports whether no link is created in the situation, not even later without
// a change of it.
func (c Code) PreventsCalls() bool {
	return slices.Contains([]Code{
		RedisFull, RedisWriteFails, RedisReadOnly, NoWorker, AccountPaused, CredentialsRefused, NoCredit, LimitReached,
		BatchPaused, RowsRefused, NoProgress, FaceKiOutage, FaceKiThrottles, GateClosed,
	}, c)
}

// Codes returns all codes of an account and of its further findings, for metrics.
func Codes() []Code {
	return []Code{
		LinksCreated, NothingToDo, RateLimited, ConcurrencyLimited, Ramping,
		FaceKiOutage, FaceKiThrottles, RetryScheduled, CallbacksRetrying, GateClosed,
		RedisFull, RedisWriteFails, RedisReadOnly, NoWorker, AccountPaused, CredentialsRefused, NoCredit, LimitReached,
		BatchPaused, RowsRefused, NoProgress, Held, CallbacksGivenUp, ResultsUnread, ResultsNearCap, Quarantined,
		RedisMemory, FailedRequests, IntakeRejects,
	}
}

// Finding is one situation.
type Finding struct {
	State State `json:"state"`
	Code  Code  `json:"code"`
	// Text is one sentence for people, which begins with the cause. It contains no secret.
	Text string `json:"text"`
	// Next is what a person does, with the command; "" if nothing.
	Next string `json:"next,omitempty"`
	// ClearsAt is when the situation is expected to clear or to be tested next; zero if that
	// is not known. [Finding.When] says which.
	ClearsAt time.Time `json:"clears_at,omitzero"`
}

// When says in a few words what happens at ClearsAt.
func (f Finding) When() string {
	switch f.Code { //nolint:exhaustive // others are expected to clear then
	case FaceKiOutage, CredentialsRefused, NoCredit, LimitReached, GateClosed:
		return "Next probe"
	case RetryScheduled, CallbacksRetrying:
		return "Next attempt"
	case FaceKiThrottles:
		return "Calls continue"
	case DeadlineNear:
		return "Deadline"
	}
	return "Expected"
}

// String returns the text with what to do.
func (f Finding) String() string {
	if f.Next == "" {
		return f.Text
	}
	return f.Text + " What to do: " + f.Next + "."
}

// MaxFindings is how many further findings a [Diagnosis] has at most.
const MaxFindings = 3

// Diagnosis is the situation that matters most, and others beside it.
type Diagnosis struct {
	Finding
	// Findings are at most [MaxFindings] others, those that need a person first. More is the
	// number of those left out.
	Findings []Finding `json:"findings,omitempty"`
	More     int       `json:"more,omitempty"`

	more []Code // of those left out
}

// Applies reports whether a code is that of the diagnosis or of any further finding, also of
// one that was left out.
func (d Diagnosis) Applies(c Code) bool {
	return d.Code == c || slices.Contains(d.more, c) || slices.ContainsFunc(d.Findings, func(f Finding) bool { return f.Code == c })
}

// rule returns a finding if its situation applies. It begins with what prevents the most
// links.
type rule func(Snapshot) (Finding, bool)

// first returns the finding of the first rule that applies.
func first(s Snapshot, rules []rule) (Finding, bool) {
	for _, r := range rules {
		if f, ok := r(s); ok {
			return f, true
		}
	}
	return Finding{}, false
}

// with adds further findings, those that need a person first.
func (d Diagnosis) with(findings []Finding) Diagnosis {
	for _, state := range []State{Stuck, Waiting, Flowing, Idle} {
		for _, f := range findings {
			switch {
			case f.State != state || f.Code == d.Code:
			case len(d.Findings) < MaxFindings:
				d.Findings = append(d.Findings, f)
			default:
				d.More++
				d.more = append(d.more, f.Code)
			}
		}
	}
	return d
}
