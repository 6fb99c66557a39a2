// Package delivery describes the delivery of an event to a callback URL.
package delivery

import "time"

// Status is where a delivery stands.
type Status string

// The statuses of deliveries.
const (
	Pending   Status = "pending"
	Delivered Status = "delivered"
	GivenUp   Status = "given_up" // until an operator retries or drops it
)

// Delivery is one event on its way to the callback URL of its request.
type Delivery struct {
	EventID       string
	ApplicationID string
	Generation    int
	Run           int
	Type          string // of the event
	Batch         int    // 0: none
	// URL and Body are kept until it is delivered. The body, and what the URL has
	// after its host, are secrets.
	URL  string
	Host string // of the URL, with its port where it has one
	Body []byte

	Status      Status
	CreatedAt   time.Time
	DeliveredAt time.Time // zero: not yet
	GivenUpAt   time.Time // zero where it is not given up
	Dropped     bool      // a person has seen to it that it is given up
	Attempts    int       // that were begun
	Tries       int       // of these since it was created or restarted
	Last        Reply     // to the last attempt that had one
	NextAt      time.Time // of a pending one: when it is tried again; zero where that was not read
}

// Task is the content of a delivery's asynq task.
type Task struct {
	EventID       string
	ApplicationID string
	Host          string
	// Again is the attempts after which a delivery was given up that is to be tried
	// again; 0 for any other.
	RestartAfter int
}

// Reply is the result of an attempt to deliver.
type Reply struct {
	At time.Time
	// Code is the HTTP status; 0 where there was no answer.
	Code int
	// Reason is the public word for why it was not taken; empty where it was.
	Reason string
	// Message is for people; it holds nothing that the receiver wrote.
	Message string
	// Body is the beginning of what the receiver wrote, without what is secret. It
	// is for the person who looks at the delivery, and for no log.
	Body string
	// Final says that trying again would be of no use.
	Final bool
	// NoAttempt says that the receiver has nothing to do with it.
	NoAttempt bool
	// RetryAfter is how long the receiver asked to wait; 0 where it did not.
	RetryAfter time.Duration
}

// Taken says that the receiver accepted the event.
func (r Reply) Accepted() bool { return r.Reason == "" }
