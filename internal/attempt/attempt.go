package attempt

import (
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// Action is what happens to a request after a fault.
type Action string

// The actions. Retry ends the request all the same where too many faults
// were held against it.
const (
	Retry   Action = "retry"
	Fail    Action = "fail"
	Hold    Action = "hold"
	Requeue Action = "back" // it was not sent after all, and was no attempt
)

// Next is the engine's decision after a fault.
type Next struct {
	Action     Action
	MaxCharged int           // faults held against a request that end it
	Delay      time.Duration // before another attempt
}

// Attempt is one call that a worker marked and is about to send.
type Attempt struct {
	request.Record               // as it is from the mark on
	Nonce          string        // of the [Query] that it was granted to
	At             time.Time     // of the mark, by Redis' clock
	SendBy         time.Time     // the call may not begin later, by this machine's monotonic clock; zero: no limit
	Took           time.Duration // by the call, once it is over
	Kept           bool          // it is no call: an earlier one brought a link that is kept
	sent           time.Time     // the moment of the mark, by the same clock
}

// NewAttempt is an attempt that was marked just now.
func NewAttempt(r request.Record) Attempt {
	return Attempt{Record: r, At: r.ChangedAt, sent: time.Now()}
}

// Now is the time by Redis' clock: a worker's own clock may be off.
func (a Attempt) Now() time.Time { return a.At.Add(time.Since(a.sent)) }

// CallOf gives the application id of a member of the account's set of calls, also of one that an
// earlier version wrote, without a nonce.
func CallOf(member string) string {
	_, rest, _ := strings.Cut(member, " ")
	id, _, _ := strings.Cut(rest, " ")
	return id
}
