package record

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// NewNonce makes one for an [Ask].
func NewNonce() string { return strconv.FormatUint(rand.Uint64(), 36) }

// Ask is a turn that would be called now.
type Ask struct {
	Ref      Ref
	Defaults Defaults // for what the request does not give
	// Nonce is made for this request, and kept with what it is granted: that is how a
	// grant whose reply was lost is told from one that a call followed.
	Nonce string
	// Connected answers [Connect]: the connection is there.
	Connected bool
}

// Answer is whether it may.
type Answer struct {
	Verdict Verdict
	// Attempt is the call that was marked; for other verdicts its Record is the
	// request as it is, if it is known at all.
	Attempt Attempt
	// Wait is for how long to hold the call, or after how long to ask again.
	Wait time.Duration
	// Reason is why it waits: "rate", or why the gate is closed.
	Reason string
	// Probe says that this call is the fleet's one probe.
	Probe bool
}

// Verdict is what may be done with a turn.
type Verdict string

// The verdicts.
const (
	Call       Verdict = "call"    // it is marked: send it after Wait
	Granted    Verdict = "granted" // it was marked before, and the reply was lost: give it back, and ask with another nonce
	Wait       Verdict = "wait"    // ask again after Wait
	Connect    Verdict = "connect" // this process is to probe: connect, then ask again
	Kept       Verdict = "kept"    // an earlier attempt brought a link that is kept: use that, or hold the request
	Stale      Verdict = "stale"   // the task stands for nothing any more
	Busy       Verdict = "busy"    // an earlier attempt may still be alive: look again later
	Expired    Verdict = "expired" // its not_after has passed: end it
	Dead       Verdict = "dead"    // an earlier attempt is, and what it made is for a person to find out: hold it
	CancelNext Verdict = "cancel"  // it was cancelled while an attempt was out that died: end it
)

// Feed is how the bulk lane is to be filled.
type Feed struct {
	AtLeast int           // fed requests that it should hold
	AtMost  int           // however high the rate is
	Ahead   time.Duration // of the rate, between the two
	Most    int           // of one call
	Lease   time.Duration // for which this process leads then
}

// Fed is what was fed.
type Fed struct {
	Leads     bool    // else another process feeds
	Refs      []Ref   // turns whose tasks are to be enqueued
	PerSecond float64 // the rate in force
	// Changes of the gate, "ms state reason", which no process has logged yet:
	// this one is to.
	Changes []string
}
