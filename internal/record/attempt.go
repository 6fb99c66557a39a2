package record

import (
	"slices"
	"time"
)

// Follows is what is to become of a request after a fault.
type Follows string

// What may follow. Retry ends the request all the same where too many faults
// were held against it.
const (
	Retry   Follows = "retry"
	Fail    Follows = "fail"
	Hold    Follows = "hold"
	PutBack Follows = "back" // it was not sent after all, and was no attempt
)

// Next is the engine's decision after a fault.
type Next struct {
	Follows  Follows
	MaxSpent int           // faults held against a request that end it
	Delay    time.Duration // before another attempt
}

// Attempt is one call that a worker marked and is about to send.
type Attempt struct {
	Record               // as it is from the mark on
	Nonce  string        // of the [Ask] that it was granted to
	At     time.Time     // of the mark, by Redis' clock
	SendBy time.Time     // the call may not begin later, by this machine's monotonic clock; zero: no limit
	Took   time.Duration // by the call, once it is over
	Kept   bool          // it is no call: an earlier one brought a link that is kept
	sent   time.Time     // the moment of the mark, by the same clock
}

// NewAttempt is an attempt that was marked just now.
func NewAttempt(r Record) Attempt { return Attempt{Record: r, At: r.ChangedAt, sent: time.Now()} }

// KeptLink is the link that an earlier attempt brought, as [Outcome].Kept has it; "" where
// there is none.
func (r Record) KeptLink() string {
	for _, past := range slices.Backward(append(slices.Clone(r.Past), r.Outcome)) {
		if past.Kept != "" {
			return past.Kept
		}
	}
	return ""
}

// Now is the time by Redis' clock: a worker's own clock may be off.
func (a Attempt) Now() time.Time { return a.At.Add(time.Since(a.sent)) }
