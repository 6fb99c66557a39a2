// Package delivery describes the delivery of an event to a callback URL.
package delivery

import "time"

// Group is the consumer group of the results stream for which workers read events and make
// deliveries of them. The prefix keeps other readers from choosing the same name, which would
// take events from it.
const Group = "kyclink:callbacks"

// Status is the status of a delivery.
type Status string

// The statuses of deliveries.
const (
	Pending   Status = "pending"
	Delivered Status = "delivered"
	GivenUp   Status = "given_up" // until an operator retries or drops it
)

// Delivery is the delivery of one event to the callback URL of its request.
type Delivery struct {
	EventID       string
	ApplicationID string
	Generation    int
	Run           int
	Type          string // of the event
	Batch         int    // 0: none
	// URL and Body are kept until the event is delivered. The body, and the part of the
	// URL after the host, are secrets.
	URL  string
	Host string // of the URL, with the port if it has one
	Body []byte
	// Trace is the stored context in which the request or its batch was accepted; "" unless it
	// is sampled. It is kept as long as the URL.
	Trace string

	Status      Status
	CreatedAt   time.Time
	DeliveredAt time.Time // zero if it is not delivered
	GivenUpAt   time.Time // zero if it is not given up
	Dropped     bool      // an operator dropped it after it was given up
	Attempts    int       // attempts that were begun
	Tries       int       // attempts since it was created or restarted
	Last        Reply     // result of the latest attempt that has one
	NextAt      time.Time // next attempt of a pending delivery; zero if it was not read
}

// Task is the content of a delivery's asynq task.
type Task struct {
	EventID       string
	ApplicationID string
	Host          string
	// RestartAfter is set to restart a given-up delivery: the number of attempts after
	// which it was given up. It is 0 for any other task.
	RestartAfter int
}

// Reply is the result of one attempt to deliver.
type Reply struct {
	At time.Time
	// Code is the HTTP status; 0 if there was no answer.
	Code int
	// Reason is the public reason of a failure; empty if the event was accepted.
	Reason string
	// Message is for people, and contains nothing that the receiver wrote.
	Message string
	// Body is the beginning of the receiver's answer, without secrets. It is shown with
	// the delivery, and never logged.
	Body string
	// Final reports that a retry cannot succeed.
	Final bool
	// NoAttempt reports that the failure was not the receiver's, and does not count as an
	// attempt.
	NoAttempt bool
	// RetryAfter is the pause that the receiver asked for; 0 if none.
	RetryAfter time.Duration
}

// Accepted reports whether the receiver accepted the event.
func (r Reply) Accepted() bool { return r.Reason == "" }
