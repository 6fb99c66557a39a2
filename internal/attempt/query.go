// Package attempt describes calls to FaceKi: the query for admission that comes before
// each, its answer, and the decision after a fault.
package attempt

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// NewNonce makes one for an [Query].
func NewNonce() string { return strconv.FormatUint(rand.Uint64(), 36) }

// Query asks for admission of one call.
type Query struct {
	Ref      request.Ref
	Defaults request.Defaults // for what the request does not give
	// Nonce is made for this request, and kept with what it is granted: that is how a
	// grant whose reply was lost is told from one that a call followed.
	Nonce string
	// Connected answers [Connect]: the connection is there.
	Connected bool
}

// Answer is the decision on a [Query].
type Answer struct {
	Admission Admission
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

// Admission says what may be done with a turn.
type Admission string

// The admissions.
const (
	Call    Admission = "call"    // it is marked: send it after Wait
	Granted Admission = "granted" // it was marked before, and the reply was lost: give it back, and ask with another nonce
	Wait    Admission = "wait"    // ask again after Wait
	Connect Admission = "connect" // this process is to probe: connect, then ask again
	Kept    Admission = "kept"    // an earlier attempt brought a link that is kept: use that, or hold the request
	Stale   Admission = "stale"   // the task stands for nothing any more
	Busy    Admission = "busy"    // an earlier attempt may still be alive: look again later
	Expired Admission = "expired" // its not_after has passed: end it
	Dead    Admission = "dead"    // an earlier attempt is, and what it made is for a person to find out: hold it
	Cancel  Admission = "cancel"  // it was cancelled while an attempt was out that died: end it
)

// Paused says that the batch of the turn is paused: the request waits again,
// ahead of the other rows of its batch, and its task is stale.
const Paused Admission = "paused"

// Further answers for a turn that is not to be called now.
const (
	Early      Admission = "early"  // its pause is not over by Redis' clock: not before Wait
	Newer      Admission = "newer"  // a newer version wrote its record: leave it to a newer worker
	Quarantine Admission = "poison" // its record cannot be read by any version: put it aside
)
