// Package attempt describes calls to FaceKi: the admission query before each call, the
// decision on it, and the action after a fault.
package attempt

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// NewNonce returns a random nonce for a [Query].
func NewNonce() string { return strconv.FormatUint(rand.Uint64(), 36) }

// Query is a request for admission of one call.
type Query struct {
	Ref      request.Ref
	Defaults request.Defaults // for settings that the request does not specify
	// Nonce identifies this query and is stored with its grant. It distinguishes a grant
	// whose reply was lost from a grant that a call followed.
	Nonce string
	// Connected reports that the process has connected to FaceKi after [Connect].
	Connected bool
}

// Decision is the reply to a [Query].
type Decision struct {
	Verdict Verdict
	// Attempt is the granted call. For other verdicts only its Record is set: the stored
	// request, if it exists.
	Attempt Attempt
	// Wait is the delay before sending the call, or before the next query.
	Wait time.Duration
	// Reason is why the request waits: "rate", or the reason of the closed gate.
	Reason string
	// Probe reports that this call is the fleet's only probe.
	Probe bool
}

// Verdict says what to do with a turn.
type Verdict string

// The verdicts.
const (
	Call    Verdict = "call"    // send the call after Wait
	Granted Verdict = "granted" // this query was granted before and the reply was lost: release the grant, and query with another nonce
	Wait    Verdict = "wait"    // query again after Wait
	Connect Verdict = "connect" // this process probes: connect, then query again
	Kept    Verdict = "kept"    // an earlier attempt brought a link that is kept: use it, or hold the request
	Stale   Verdict = "stale"   // the turn is not the request's current one: drop the task
	Busy    Verdict = "busy"    // an earlier attempt may still be in progress: query again later
	Expired Verdict = "expired" // its not_after has passed: fail the request
	Dead    Verdict = "dead"    // an earlier attempt died with an uncertain outcome: hold the request
	Cancel  Verdict = "cancel"  // cancelled during an attempt that died: cancel the request
)

// Paused says that the batch is paused. The request waits again, before the other rows of
// its batch, and its task is stale.
const Paused Verdict = "paused"

// Further verdicts for a turn that must not be called now.
const (
	Early      Verdict = "early"  // its retry pause ends after Wait
	Newer      Verdict = "newer"  // a newer version wrote its record: release the turn
	Quarantine Verdict = "poison" // no version can read its record: quarantine the request
)
