// Package admission decides whether a call to FaceKi may be sent now: the gate, one per
// account, decides whether, and the rate limit, one for the whole fleet, decides when.
//
// The decision is Lua, see [Lua], which other packages embed in their scripts: admitting
// and starting an attempt are one atomic step, as are recording and reporting its
// outcome. This package reads the status and does what operators do.
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
// empty. An interactive call needs a level of 1. A bulk call needs one token more for
// every waiting interactive process, and one that it leaves: bulk uses idle capacity, and
// interactive calls get it back at once.
//
// A token is lost when the bucket overflows. With a burst of 2 at 500/s that is 4 ms away,
// and 0 ms for bulk, which is less than timers are late. So a grant may lie ahead, by the
// time of one token but at least 5 ms and at most 20 ms. Its token is taken at the time
// at which the call is to be sent, which the wait of the decision gives; the bucket keeps
// it until then. A process that must wait is told to ask as soon as it may be granted, so
// that it loses nothing if it is late by as much. Grants ahead never delay an interactive
// call: it overtakes them as far as their tokens are not touched.
//
// A waiting process has one place in its lane. Otherwise all processes would ask for the
// next token, and all but one in vain.
//
// # Steps of the clock
//
// All times are Redis'. Its clock may be set while it runs, and differs after a failover.
// If it went back, stored times are moved by as much as the last observation is ahead. If
// it went forward, which only the monotonic clock of a process shows, nothing is refilled:
// the rate is not exceeded. No other time is trusted to be further ahead than possible,
// and probes may come early by a step.
//
// # The gate
//
// An outage is 5 faults in a row from different requests, 14 of the last 20 outcomes, or
// silence while calls hang. A call that was sent before the gate last opened says nothing
// about the present. While the gate is closed, one process of the fleet is chosen to
// probe: it connects first and only then risks a request. A late success of another call
// does not open the gate, since it was sent before the gate closed; the next probe shows
// how FaceKi is now. A probe and its failure are no changes of the gate, so that a night's
// outage does not push its own beginning out of the history.
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
	// Connect: the process is to probe. It connects to FaceKi, then asks again as
	// connected, or reports that it could not connect, within 10 s.
	Connect Verdict = "connect"
	// Wait: ask again after the wait. It is at most a second, so that a change of the
	// gate takes effect within a second.
	Wait Verdict = "wait"
)
