package worker

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
)

// Poster sends callbacks. Many goroutines call it.
type Poster interface {
	// Post makes one attempt to deliver.
	Post(ctx context.Context, d Delivery) Reply
	// Timeout returns the longest that Post takes.
	Timeout() time.Duration
}

// Delivery is the sending of one event to one callback URL.
type Delivery struct {
	EventID       string
	Type          string // of the event, such as "link.created"
	ApplicationID string
	Generation    int
	Run           int
	// URL is where the event is sent to, and Body what is sent. Both may contain secrets.
	URL  string
	Body []byte
}

// Reply is the outcome of one attempt to deliver.
type Reply struct {
	At time.Time // of the attempt
	// Code is the HTTP status; 0: there was no answer.
	Code int
	// Reason is why the receiver did not accept the event, in one word, such as "timeout";
	// "": it did.
	Reason string
	// Message explains the reason to people. It contains nothing that the receiver wrote.
	Message string
	// Body is the beginning of the receiver's answer, without secrets. It is not logged.
	Body string
	// Final says that another attempt is useless: the delivery is given up.
	Final bool
	// NoAttempt says that the receiver was not reached for a reason of our own, so that the
	// attempt does not count.
	NoAttempt bool
	// RetryAfter is how long the receiver asked to wait; 0 if it did not.
	RetryAfter time.Duration
}

// poster is a [Poster] as the lane of callbacks uses it.
type poster struct{ Poster }

func (p poster) Post(ctx context.Context, d delivery.Delivery) delivery.Reply {
	return delivery.Reply(p.Poster.Post(ctx, Delivery{
		EventID: d.EventID, Type: d.Type, ApplicationID: d.ApplicationID, Generation: d.Generation, Run: d.Run, URL: d.URL, Body: d.Body,
	}))
}
