package attempt

import (
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// Action is what happens to a request after a fault.
type Action string

// The actions. A retry fails the request instead if its charged attempts have reached the
// limit.
const (
	Retry   Action = "retry"
	Fail    Action = "fail"
	Hold    Action = "hold"
	Requeue Action = "back" // the call was not sent: this was no attempt
)

// Next is the decision of the retry policy after a fault.
type Next struct {
	Action     Action
	MaxCharged int           // the number of charged attempts that fails the request
	Delay      time.Duration // before the next attempt
}

// Attempt is one call to FaceKi, from its grant on.
type Attempt struct {
	request.Record               // as stored with the grant
	Nonce          string        // of the [Query] that was granted
	At             time.Time     // of the grant, by Redis' clock
	SendBy         time.Time     // the latest time to send the call, by the local monotonic clock; zero: no limit
	Took           time.Duration // the duration of the finished call
	Kept           bool          // no call is made: an earlier attempt brought a link, which is kept
	Trace          string        // the stored context in which the request or its batch was accepted; "" unless it is sampled
	granted        time.Time     // when the grant arrived, by the local monotonic clock
}

// NewAttempt returns an attempt that was granted just now.
func NewAttempt(r request.Record) Attempt {
	return Attempt{Record: r, At: r.ChangedAt, granted: time.Now()}
}

// Now returns the present time by Redis' clock, since the worker's own clock may be wrong.
func (a Attempt) Now() time.Time { return a.At.Add(time.Since(a.granted)) }

// ApplicationIDOfCall returns the application id in a member of the account's set of calls,
// "process id nonce". Earlier versions wrote no nonce.
func ApplicationIDOfCall(member string) string {
	_, rest, _ := strings.Cut(member, " ")
	id, _, _ := strings.Cut(rest, " ")
	return id
}
