// Package keyspace names the Redis keys of an account, and reads the clock of the
// server that has them.
package keyspace

import (
	"fmt"

	"github.com/kyclink/kyclink/internal/request"
)

// Keys names the keys of one account. They all carry one hash tag, so that a
// script that touches several of them is atomic in Redis Cluster as well.
// Scripts get [Keys.Tag] as their only key and add the rest themselves.
type Keys struct{ Account string }

// Tag is what every key of the account starts with.
func (k Keys) Tag() string { return fmt.Sprintf("{kyclink:%s}", k.Account) }

// Record is the latest generation of a request.
func (k Keys) Record(applicationID string) string { return k.Tag() + "/" + applicationID }

// Old is an earlier generation of a request.
func (k Keys) Old(applicationID string, generation int) string {
	return fmt.Sprintf("%s:old:%d:%s", k.Tag(), generation, applicationID)
}

// State is the account's hash: upstream, batch numbers, which batches are stopped, and
// counts that never fall, as of successes, other ends and possible duplicates.
func (k Keys) State() string { return k.Tag() + ":account" }

// Results is the stream of events.
func (k Keys) Results() string { return k.Tag() + ":results" }

// Groups is the hash of the groups that read [Keys.Results], by when they were first seen,
// in ms.
func (k Keys) Groups() string { return k.Tag() + ":groups" }

// Replay is the progress of a replay that was interrupted.
func (k Keys) Replay(what string) string { return k.Tag() + ":replay:" + what }

// Requests is the stream of signups from systems that use no client of this module.
func (k Keys) Requests() string { return k.Tag() + ":requests" }

// Rejects is the stream of the entries of [Keys.Requests] that could not be accepted.
func (k Keys) Rejects() string { return k.Tag() + ":rejects" }

// APIKeys is the hash of API keys by their ids.
func (k Keys) APIKeys() string { return k.Tag() + ":api-keys" }

// Audit is the stream of changes that were made with API keys.
func (k Keys) Audit() string { return k.Tag() + ":audit" }

// Workers is the sorted set of worker processes by their last heartbeat.
func (k Keys) Workers() string { return k.Tag() + ":workers" }

// Queued is the sorted set of a lane's requests that were fed or accepted, or wait for a
// retry, by when they are due.
func (k Keys) Queued(l request.Lane) string { return k.Tag() + ":queued:" + string(l) }

// Deadlines is the sorted set of requests that have a not_after of their own.
func (k Keys) Deadlines() string { return k.Tag() + ":deadlines" }

// OperatorList is the sorted set of requests that failed or are held, by when they came to
// that state, in ms; dropped ones are not in it. Other states have none.
func (k Keys) OperatorList(s request.State) string { return k.Tag() + ":" + string(s) }

// Delivery is the hash of the delivery of an event.
func (k Keys) Delivery(eventID string) string { return k.Tag() + ":delivery:" + eventID }

// Deliveries is the list of the events of a request that have a delivery, oldest first.
func (k Keys) Deliveries(applicationID string) string {
	return k.Tag() + ":deliveries:" + applicationID
}

// Pending is the sorted set of the events whose delivery is pending, by when the next attempt
// is due, in ms.
func (k Keys) Pending() string { return k.Tag() + ":pending" }

// Undelivered is the sorted set of the events whose delivery was given up, by when that was,
// in ms; dropped ones are not in it.
func (k Keys) Undelivered() string { return k.Tag() + ":undelivered" }

// Token is the hash of the access token for the credentials with that fingerprint.
func (k Keys) Token(fingerprint string) string { return k.Tag() + ":token:" + fingerprint }

// Leader holds the number of the worker process that feeds, until its lease ends.
func (k Keys) Leader() string { return k.Tag() + ":leader" }

// Batches is the hash of batch numbers by name.
func (k Keys) Batches() string { return k.Tag() + ":batches" }

// Numbered is the sorted set of the numbers of all batches, by number.
func (k Keys) Numbered() string { return k.Tag() + ":numbered" }

// Running is the sorted set of the numbers of batches that have something to
// feed, by the turn in which they were last served.
func (k Keys) Running() string { return k.Tag() + ":running" }

// Batch is a batch's hash: its counters, name and feed cursor. Number 0 holds
// the counters of requests without a batch.
func (k Keys) Batch(number int) string { return fmt.Sprintf("%s:batch:%d", k.Tag(), number) }

// Order is the hash of a batch's numbered chunks, its rows in the input's order.
func (k Keys) Order(number int) string { return fmt.Sprintf("%s:order:%d", k.Tag(), number) }

// Joined is the hash of how many rows joined, by the numbers of the chunks of a batch's
// order that have any.
func (k Keys) Joined(number int) string { return fmt.Sprintf("%s:joined:%d", k.Tag(), number) }

// Requeued is the list of a batch's requests that are fed before its rows.
func (k Keys) Requeued(number int) string { return fmt.Sprintf("%s:again:%d", k.Tag(), number) }

// Queue is the asynq queue of a lane.
func (k Keys) Queue(l request.Lane) string { return "kyclink:" + k.Account + ":" + string(l) }

// Cancelling is the sorted set of the numbers of cancelled batches whose requests
// have not all ended, by the time of the cancellation.
func (k Keys) Cancelling() string { return k.Tag() + ":cancelling" }

// Off is the list of the requests that were requeued when the batch was cancelled.
func (k Keys) CancelledRequeued(number int) string { return fmt.Sprintf("%s:off:%d", k.Tag(), number) }

// Quarantine is the list of quarantine entries as JSON, the latest first.
func (k Keys) Quarantine() string { return k.Tag() + ":poison" }

// Calls is the sorted set of the calls in flight, "process id nonce", by when they were
// admitted; calls of dead processes stay until recovery has handled them.
func (k Keys) Calls() string { return k.Tag() + ":calls" }

// Handlers is the set of the turns that a worker process had handlers for at its last
// heartbeat.
func (k Keys) Handlers(process string) string { return k.Tag() + ":handlers:" + process }

// Newer is the set of bulk requests whose records a newer version wrote, and which wait for
// that version to feed them.
func (k Keys) Newer() string { return k.Tag() + ":newer" }

// Panics is the count, kept for a day, of the panics of a turn's handler.
func (k Keys) Panics(ref request.Ref) string { return fmt.Sprintf("%s:panics:%s", k.Tag(), ref) }
