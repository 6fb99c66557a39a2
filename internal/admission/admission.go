// Package admission decides whether a call to FaceKi may go now: the gate, one
// per account, says whether at all, and the rate, one for the whole fleet, when.
//
// The decision is made twice. [State] is the pure one, in Go; [Lua] is the same
// in the scripts that decide in Redis, which others embed so that admitting and
// marking a call are one atomic step, and recording and reporting another. Both
// pass the same tests and give the same answers to any history; what is said
// here is said of both.
//
// # The rate
//
// A bucket kept as level and time, so that the rate can change: it is refilled at
// the rate in force and holds a burst at most, and any window of t holds at most
// rate·t + burst sends. State that is missing or dated in the future starts
// empty. An interactive call needs a level of 1, a bulk call one token more for
// every interactive waiter and one to leave behind: idle capacity is lent, and
// taken back at once.
//
// A token is lost when the bucket overflows, and with a burst of 2 at 500/s that
// is 4 ms away, 0 for bulk: less than the time by which timers are late. So a
// grant may lie ahead, by one slot of the rate but 5 ms at least and 20 ms at
// most. Its token is taken at the moment at which it is to be sent, which
// [Decision].Wait gives; the bucket remembers it until then. Whoever must wait is
// told to come as soon as its grant may be given, so that it may be as late as
// that and loses nothing. Grants ahead never make an interactive call wait:
// it overtakes them as far as their tokens are not touched.
//
// Who waits has a place in its lane's line, one entry per process; without one,
// all processes would come for the next token, and all but one for nothing.
//
// # Steps of the clock
//
// All times are Redis', whose clock may be set while it runs, and differs where a replica
// takes over. Where it went back, by less than what was noted last, what is stored moves
// along with it. Where it went forward, which only the monotonic clock of a process tells
// ([Ask].Expected), nothing is refilled: the rate is not exceeded. No other time is
// trusted to lie further ahead than it can, and probes may come early by a step.
//
// # The gate
//
// An outage shows in 5 faults in a row from different requests, 14 of the last 20
// outcomes, or silence while calls hang. What was sent before the gate last
// opened says nothing of now. While the gate is closed, one process in the fleet
// is chosen to find out how things are: it connects first and only then risks a
// request. A late success of another call does not open the gate: it was sent
// before things went wrong, and tells of then; the probe that follows soon tells
// of now. A probe and its failure are no changes of the gate, so that a night's
// outage does not push its own beginning out of the history.
//
// Credentials are refused by themselves, beside the gate: during a rollout the
// good ones go on.
package admission

import (
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Verdict is the answer to an [Ask].
type Verdict string

// The verdicts.
const (
	// Grant: send it after Wait.
	Grant Verdict = "grant"
	// Probe: send it after Wait; it is the one call that finds out how things are.
	Probe Verdict = "probe"
	// Connect: you are to probe. Connect to FaceKi first, then ask again with
	// Connected, or report [Unconnected], within 10 s.
	Connect Verdict = "connect"
	// Wait: ask again after Wait, which is a second at most so that a change of
	// the gate is seen within a second.
	Wait Verdict = "wait"
)

// Ask is a call that would go now.
type Ask struct {
	Lane       request.Lane
	Process    string // which process asks; it has one place in each lane's line
	Credential string // fingerprint of the credentials that it would use
	ID         string // the request; two of one ID are not out at once
	Connected  bool   // after Connect: the connection is there
	// Expected is what the process takes Redis' time for, by its monotonic clock. Zero:
	// it does not know.
	Expected time.Time
}

// Decision is whether it may go.
type Decision struct {
	Verdict Verdict
	// Wait is for how long to hold a grant before sending it, or after how long
	// to ask again.
	Wait time.Duration
	// Reason is why it waits or probes: "rate", or why the gate is closed.
	Reason string
}

// Kind is the gate signal of a report.
type Kind = fault.Signal

// The kinds, which package fault describes.
const (
	Success      Kind = fault.SignalSuccess
	Alive        Kind = fault.SignalAlive
	Outage       Kind = fault.SignalOutage
	Throttle     Kind = fault.SignalThrottle
	Refused      Kind = fault.SignalRefused
	NoCredit     Kind = fault.SignalNoCredit
	LimitReached Kind = fault.SignalLimitReached
	None         Kind = fault.SignalNone
	Back         Kind = fault.SignalUnused
	Unconnected  Kind = fault.SignalUnconnected
)

// Report is the outcome of a grant, or of an order to connect.
type Report struct {
	Kind       Kind
	ID         string
	Process    string
	Credential string
	Marked     time.Time     // when the call was admitted, by Redis' clock
	RetryAfter time.Duration // of a Throttle; 0 where FaceKi did not say
	Latency    time.Duration // of a Success or Alive; 0 where it was not measured
	// Message is the text of the fault, which the status shows: it holds no
	// secret. It decides nothing, so that [State] takes no notice of it.
	Message string
}
