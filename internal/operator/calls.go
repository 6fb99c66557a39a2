package operator

import (
	"cmp"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Call is a call to FaceKi for a request. Of the calls of a run that created no link, the
// latest ten are known.
type Call struct {
	Attempt int       `json:"attempt"` // from 1, over all runs of the generation
	Run     int       `json:"run"`
	At      time.Time `json:"at"` // when it began
	// Milliseconds is the duration until the answer, or until none was awaited any more;
	// nil if the process that made the call ended before.
	Milliseconds *int   `json:"duration_ms,omitempty"`
	Outcome      string `json:"outcome"` // created; no_link; unknown: it may have created a link
	Reason       string `json:"reason,omitempty"`
	Message      string `json:"message,omitempty"`
}

// Duration returns the duration of the call for people, such as 312ms or 1.4s; "" if it is
// not known.
func (c Call) Duration() string {
	if c.Milliseconds == nil {
		return ""
	}
	switch took := milliseconds(*c.Milliseconds); {
	case took < time.Millisecond:
		return "less than 1ms"
	case took < time.Second:
		return took.String()
	default:
		return took.Round(time.Second / 10).String()
	}
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }

const endedMessage = "The process that made the call ended before it recorded an answer."

// callsOf returns the calls that a record holds. A late link has none: when its call began
// is not stored.
func callsOf(r request.Record) []Call {
	var calls []Call
	for _, o := range append(r.Past[:len(r.Past):len(r.Past)], r.Outcome) {
		for _, a := range o.Attempts {
			c := Call{
				Attempt: a.Number, Run: o.Run, At: time.UnixMilli(int64(a.At)).UTC(), Milliseconds: a.Took,
				Outcome: fault.NoLink.Label(), Reason: a.Reason, Message: a.Message,
			}
			if a.Uncertain {
				c.Outcome = fault.Uncertain.Label()
			}
			if a.Took == nil {
				c.Message = cmp.Or(a.Message, endedMessage)
			}
			calls = append(calls, c)
		}
		if o.Took != nil {
			c := Call{Attempt: r.Attempts, Run: o.Run, Milliseconds: o.Took, Outcome: fault.LabelCreated}
			c.At = o.EndedAt.Add(-milliseconds(*o.Took))
			calls = append(calls, c)
		}
	}
	return calls
}
