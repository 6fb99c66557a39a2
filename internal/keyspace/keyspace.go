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

// Groups is the hash of the groups that read [Keys.Results], by when they were seen
// first, in ms.
func (k Keys) Groups() string { return k.Tag() + ":groups" }

// Replay is how far publishing again is that was broken off.
func (k Keys) Replay(what string) string { return k.Tag() + ":replay:" + what }

// Requests is the stream that signups are added to by whoever has no client of ours.
func (k Keys) Requests() string { return k.Tag() + ":requests" }

// Rejects is the stream of what came in there and could not be accepted.
func (k Keys) Rejects() string { return k.Tag() + ":rejects" }

// APIKeys is the hash of API keys by their ids.
func (k Keys) APIKeys() string { return k.Tag() + ":api-keys" }

// Audit is the stream of changes that were made with API keys.
func (k Keys) Audit() string { return k.Tag() + ":audit" }

// Workers is the sorted set of worker processes by their last heartbeat.
func (k Keys) Workers() string { return k.Tag() + ":workers" }

// Queued is the sorted set of a lane's requests that were fed or accepted, or
// wait for another attempt, by the time at which they are due.
func (k Keys) Queued(l request.Lane) string { return k.Tag() + ":queued:" + string(l) }

// Deadlines is the sorted set of requests that have a not_after of their own.
func (k Keys) Deadlines() string { return k.Tag() + ":deadlines" }

// Shelf is the sorted set of requests that failed or are held, by when they came
// there, in ms: what a person is to look through. What a person has dropped is
// not in it any more. Other states have none.
func (k Keys) Shelf(s request.State) string { return k.Tag() + ":" + string(s) }

// Delivery is the hash of the delivery of an event, see [Delivery].
func (k Keys) Delivery(eventID string) string { return k.Tag() + ":delivery:" + eventID }

// Deliveries is the list of the events of a request that have a delivery, as they came.
func (k Keys) Deliveries(applicationID string) string {
	return k.Tag() + ":deliveries:" + applicationID
}

// Pending is the sorted set of the events whose delivery is [Pending], by when it is
// to be tried, in ms.
func (k Keys) Pending() string { return k.Tag() + ":pending" }

// Undelivered is the sorted set of the events whose delivery was given up, by when
// that was, in ms. What a person has dropped is not in it any more.
func (k Keys) Undelivered() string { return k.Tag() + ":undelivered" }

// Token is the hash of the access token that is got with the credentials of
// that fingerprint.
func (k Keys) Token(fingerprint string) string { return k.Tag() + ":token:" + fingerprint }

// Leader holds the number of the worker process that feeds, while its lease lasts.
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

// Requeued is the list of a batch's requests that are to be fed before its rows.
func (k Keys) Requeued(number int) string { return fmt.Sprintf("%s:again:%d", k.Tag(), number) }

// Queue is the asynq queue of a lane.
func (k Keys) Queue(l request.Lane) string { return "kyclink:" + k.Account + ":" + string(l) }

// Cancelling is the sorted set of the numbers of cancelled batches whose requests
// have not all ended, by the time of the cancellation.
func (k Keys) Cancelling() string { return k.Tag() + ":cancelling" }

// Off is the list of the requests that waited to be fed again when the batch was cancelled.
func (k Keys) Off(number int) string { return fmt.Sprintf("%s:off:%d", k.Tag(), number) }

// Quarantine is the list of what was put aside, the latest first, as JSON of
// [Poison]. It holds [PoisonKept] entries at most.
func (k Keys) Quarantine() string { return k.Tag() + ":poison" }

// Calls is the sorted set of the calls that are out, "process id nonce", by when
// they were marked; of a process that died until the sweep has seen to it.
func (k Keys) Calls() string { return k.Tag() + ":calls" }

// Handlers is the set of the turns that a worker process has handlers for, as of
// its last heartbeat.
func (k Keys) Handlers(process string) string { return k.Tag() + ":handlers:" + process }

// Newer is the set of bulk requests that wait to be fed by a newer version,
// which wrote their records.
func (k Keys) Newer() string { return k.Tag() + ":newer" }

// Panics counts, for a day, how often a handler of this turn panicked.
func (k Keys) Panics(ref request.Ref) string { return fmt.Sprintf("%s:panics:%s", k.Tag(), ref) }
