// Package admission decides whether a call to FaceKi may be sent now. The account's gate
// decides whether it may be sent at all, and the rate limit of the whole fleet decides when.
//
// The decision is Lua, see [Lua], which other packages embed in their scripts: admitting
// and starting an attempt are one atomic step, as are recording and reporting its
// outcome. In Go, this package reads the status, pauses and resumes the account, and
// overrides the rate.
//
// A reference model of the scripts in pure Go, in the files model_*_test.go, is used by
// the tests only. Both pass the same tests, and TestLua_DecidesAsTheModel compares their
// decisions over random sequences of calls.
//
// # The rate limit
//
// The bucket is kept as level and time, so that the rate can change. It is refilled at the
// rate in force and holds at most a burst, so that any window of t has at most
// rate·t + burst grants. A bucket without state, or with state dated in the future, starts
// empty. An interactive call needs a level of 1. A bulk call needs a level of 2, and 1 more
// for each waiting interactive process: bulk calls use only idle capacity, and leave a
// token for the next interactive call.
//
// A full bucket loses tokens. At 500/s, a bucket with a burst of 2 is full within 4 ms, and
// bulk calls are granted only when it is full; timers are late by more than that. So a call
// may be granted for a time in the future: ahead by the time of one token, at least 5 ms
// and at most 20 ms. The wait of the decision ends at that time, and the token stays in the
// bucket until then (a held grant). A process that must wait is told to ask again when a
// grant may lie ahead, so that it loses no token if it is late by up to that time. An
// interactive call is granted before held grants if all of them keep their tokens.
//
// A waiting process has one place in its lane. Otherwise, all processes would ask at the
// time of the next token, and all but one would be denied.
//
// # Steps of the clock
//
// All times are Redis'. Its clock may be set while it runs, and differs after a failover.
// If it goes back, the stored times are moved back as far as the last observation is ahead.
// If it jumps forward, which a process detects by its monotonic clock, the bucket is not
// refilled, so that the rate is not exceeded. Other stored times are limited to what is
// possible, and a probe may come early by the size of a step.
//
// # The gate
//
// An outage is 5 faults in a row from different requests, 14 of the last 20 outcomes, or
// silence while calls hang. A call that was sent before the gate last opened says nothing
// about the present. While the gate is closed, one process of the fleet is chosen to
// probe: it connects first and only then risks a request. A late success of another call
// does not open the gate, since it was sent before the gate closed; the next probe shows
// how FaceKi is now. A failed probe is not recorded as a change of the gate; otherwise, a
// long outage would push its own start out of the history.
//
// A failed probe that cannot have made a link is followed by another one after 5 s: it
// costs nothing, and calls resume soon after FaceKi has recovered. The pause doubles, up
// to a minute, with each probe that may have made a link, and with each failed request for
// a token, since FaceKi bills those. When the gate opens after more than 10 s, the rate
// grows from a tenth to all of it within 5 s.
//
// Credentials are refused separately from the gate: during a rollout calls with the
// accepted credentials continue.
package admission

// Verdict is the answer to the question whether a call may be sent now.
type Verdict string

// The verdicts.
const (
	// Grant: send the call after the wait.
	Grant Verdict = "grant"
	// Probe: send the call after the wait; it is the one call that tests the gate.
	Probe Verdict = "probe"
	// Connect: the process is to probe. Within 10 s, it connects to FaceKi and asks again
	// as connected, or reports that it could not connect.
	Connect Verdict = "connect"
	// Wait: ask again after the wait. It is at most a second, so that a change of the
	// gate takes effect within a second.
	Wait Verdict = "wait"
)
