package operator

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/dispatch"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/request"
)

// Deliveries reads the selected deliveries that are given up, a page at a time, in their
// state at the time of reading; with pending, also those that failed and will be retried. A
// pending delivery counts from its last attempt.
func (o *Operator) Deliveries(ctx context.Context, s Selection, pending bool, omitted Omitted) (iter.Seq2[[]delivery.Delivery, error], error) {
	f, err := o.filter(ctx, s)
	if err != nil {
		return nil, err
	}
	pages := o.stores.DeadLetters.Deliveries(ctx, f.since, f.before, omitted.unreadable)
	switch {
	case len(s.IDs) > 0:
		pages = o.namedDeliveries(ctx, s.IDs, pending, omitted)
	case pending:
		pages = concat(pages, o.stores.DeadLetters.Retrying(ctx, omitted.unreadable))
	}
	return matching(pages, func(d delivery.Delivery) bool {
		at := d.GivenUpAt
		if at.IsZero() {
			at = d.Last.At
		}
		return f.matches(d.Batch, d.Last.Reason, at) && hostname.Matches(d.Host, s.Host)
	}), nil
}

// concat returns the pages of both, one after the other.
func concat[T any](first, second iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, pages := range []iter.Seq2[T, error]{first, second} {
			for page, err := range pages {
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
	}
}

// namedDeliveries reads the deliveries of requests or events whose IDs were given, each
// once.
func (o *Operator) namedDeliveries(ctx context.Context, ids []string, pending bool, omitted Omitted) iter.Seq2[[]delivery.Delivery, error] {
	return func(yield func([]delivery.Delivery, error) bool) {
		seen := map[string]bool{}
		for _, id := range distinct(ids) {
			unreadable := false
			found, err := o.DeliveriesOf(ctx, id, func(event string, why error) {
				if unreadable = true; !seen[event] {
					seen[event] = true
					omitted.unreadable(deadletter.Unreadable{ID: event, Why: why})
				}
			})
			found = slices.DeleteFunc(found, func(d delivery.Delivery) bool {
				retried := pending && d.Status == delivery.Pending && !d.Last.Accepted()
				return d.Status != delivery.GivenUp && !retried
			})
			if err == nil && len(found) == 0 && !unreadable {
				omitted.other(id, "")
			}
			found = slices.DeleteFunc(found, func(d delivery.Delivery) bool { return seen[d.EventID] })
			for _, d := range found {
				seen[d.EventID] = true
			}
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}

// DeliveriesOf reads all deliveries of a request, or the one of an event. It calls unreadable
// for each one that cannot be decoded.
func (o *Operator) DeliveriesOf(ctx context.Context, id string, unreadable func(event string, why error)) ([]delivery.Delivery, error) {
	events, err := o.stores.Deliveries.EventIDs(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if len(events[0]) == 0 {
		events[0] = []string{id}
	}
	return o.stores.Deliveries.Readable(ctx, events[0], unreadable)
}

// EnqueuedDeliveries returns how many of the events have a task that delivers them.
func (o *Operator) EnqueuedDeliveries(ctx context.Context, events []string) (n int, err error) {
	states, err := asynqx.NewQueue(o.rdb, o.account, request.Callbacks).States(ctx, events)
	for _, state := range states {
		if state != "" {
			n++
		}
	}
	return n, err
}

// RetryDelivery enqueues a given-up delivery again, with the same event ID and all of
// its attempts. changed is false where its task is enqueued already.
func (o *Operator) RetryDelivery(ctx context.Context, d delivery.Delivery) (now delivery.Delivery, changed bool, err error) {
	changed, err = dispatch.Enqueue(ctx, o.queue, o.account, delivery.Task{
		EventID: d.EventID, ApplicationID: d.ApplicationID, Host: d.Host, RestartAfter: d.Attempts,
	})
	return d, changed, err
}

// HideDelivery removes a given-up delivery from the list; it stays given up. changed is
// false where it is no longer given up.
func (o *Operator) HideDelivery(ctx context.Context, d delivery.Delivery) (now delivery.Delivery, changed bool, err error) {
	changed, err = o.stores.DeadLetters.DropDelivery(ctx, d)
	d.Dropped = true
	return d, changed, err
}

// Delivery is the public form of a delivery: its URL only up to the host.
type Delivery struct {
	EventID       string    `json:"event_id"`
	Type          string    `json:"type"`
	ApplicationID string    `json:"application_id"`
	Generation    int       `json:"generation"`
	Run           int       `json:"run"`
	Batch         string    `json:"batch,omitempty"`
	Host          string    `json:"host"`
	Status        string    `json:"status"`
	CreatedAt     time.Time `json:"created_at"`
	DeliveredAt   time.Time `json:"delivered_at,omitzero"`
	GivenUpAt     time.Time `json:"given_up_at,omitzero"`
	Dropped       bool      `json:"dropped,omitempty"`
	Attempts      int       `json:"attempts"`
	NextAttempt   time.Time `json:"next_attempt,omitzero"`
	LastAnswer    *Answer   `json:"last_answer,omitempty"`
}

// Answer is the receiver's answer to one attempt.
type Answer struct {
	At      time.Time `json:"at"`
	Status  int       `json:"status,omitempty"` // of HTTP
	Reason  string    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Body    string    `json:"body,omitempty"` // its beginning, redacted
}

// AnswerOf returns the public form of a receiver's reply.
func AnswerOf(r delivery.Reply) Answer {
	return Answer{At: r.At, Status: r.Code, Reason: r.Reason, Message: r.Message, Body: r.Body}
}

// ShowDelivery returns the public form of a delivery, with the name of its batch.
func (o *Operator) ShowDelivery(ctx context.Context, d delivery.Delivery) (Delivery, error) {
	batch, err := o.stores.Batches.Name(ctx, d.Batch)
	shown := Delivery{
		EventID: d.EventID, Type: d.Type, ApplicationID: d.ApplicationID, Generation: d.Generation, Run: d.Run, Batch: batch,
		Host: d.Host, Status: string(d.Status), CreatedAt: d.CreatedAt, DeliveredAt: d.DeliveredAt, GivenUpAt: d.GivenUpAt,
		Dropped: d.Dropped, Attempts: d.Attempts, NextAttempt: d.NextAt,
	}
	if !d.Last.At.IsZero() {
		answer := AnswerOf(d.Last)
		shown.LastAnswer = &answer
	}
	return shown, err
}
