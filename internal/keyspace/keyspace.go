// Package keyspace names the Redis keys of an account, and reads the clock of the server
// that stores them.
package keyspace

import (
	"fmt"

	"github.com/kyclink/kyclink/internal/request"
)

// Keys names the keys of one account. All keys have the same hash tag, so that scripts are
// atomic in Redis Cluster as well. Scripts receive [Keys.Tag] as their only key, and form
// the others from it.
type Keys struct{ Account string }

// Tag is the prefix of every key of the account.
func (k Keys) Tag() string { return fmt.Sprintf("{kyclink:%s}", k.Account) }

// Record is the latest generation of a request.
func (k Keys) Record(applicationID string) string { return k.Tag() + "/" + applicationID }

// Old is an earlier generation of a request.
func (k Keys) Old(applicationID string, generation int) string {
	return fmt.Sprintf("%s:old:%d:%s", k.Tag(), generation, applicationID)
}

// State is the account's hash: upstream, batch numbers, the paused and cancelled batches,
// and counters that never fall, such as successes and possible duplicates.
func (k Keys) State() string { return k.Tag() + ":account" }

// Results is the stream of events.
func (k Keys) Results() string { return k.Tag() + ":results" }

// Groups is the hash of the consumer groups of [Keys.Results], with the time at which a
// worker first saw each, in ms.
func (k Keys) Groups() string { return k.Tag() + ":groups" }

// Replay is the progress of an interrupted replay.
func (k Keys) Replay(name string) string { return k.Tag() + ":replay:" + name }

// Requests is the intake stream: requests from programs that use only Redis.
func (k Keys) Requests() string { return k.Tag() + ":requests" }

// Rejects is the stream of rejected entries of [Keys.Requests].
func (k Keys) Rejects() string { return k.Tag() + ":rejects" }

// APIKeys is the hash of API keys by their ids.
func (k Keys) APIKeys() string { return k.Tag() + ":api-keys" }

// Session is a signed-in browser of the console, by the hash of its token.
func (k Keys) Session(hash string) string { return k.Tag() + ":session:" + hash }

// SessionEpochs is the hash of how often each API key was signed out everywhere, by the
// key's id.
func (k Keys) SessionEpochs() string { return k.Tag() + ":session-epochs" }

// Audit is the stream of changes that were made with API keys.
func (k Keys) Audit() string { return k.Tag() + ":audit" }

// Action is the hash of an operator action over many entries, with its progress.
func (k Keys) Action(id string) string { return k.Tag() + ":action:" + id }

// Actions is the sorted set of the actions, by the time of their start, in ms.
func (k Keys) Actions() string { return k.Tag() + ":actions" }

// ActionToken is the string with the ID of the action that the token of a plan has started.
func (k Keys) ActionToken(token string) string { return k.Actions() + ":token:" + token }

// RunningActions is the sorted set of those that are running.
func (k Keys) RunningActions() string { return k.Tag() + ":actions:running" }

// Activity is the hash of what the workers did in a minute: the number of links, and of
// faults by reason. The minute is that of Redis' clock, since 1970.
func (k Keys) Activity(minute int64) string { return fmt.Sprintf("%s:activity:%d", k.Tag(), minute) }

// Workers is the sorted set of worker processes by their last heartbeat.
func (k Keys) Workers() string { return k.Tag() + ":workers" }

// Queued is the sorted set of a lane's queued requests, by the time at which each is due.
func (k Keys) Queued(l request.Lane) string { return k.Tag() + ":queued:" + string(l) }

// Deadlines is the sorted set of requests that have a not_after of their own.
func (k Keys) Deadlines() string { return k.Tag() + ":deadlines" }

// OperatorList is the sorted set of failed or of held requests, by the time at which they
// came to that state, in ms, without those that an operator dropped.
func (k Keys) OperatorList(s request.State) string { return k.Tag() + ":" + string(s) }

// Delivery is the hash of the delivery of an event.
func (k Keys) Delivery(eventID string) string { return k.Tag() + ":delivery:" + eventID }

// Deliveries is the list of the events of a request that have a delivery, oldest first.
func (k Keys) Deliveries(applicationID string) string {
	return k.Tag() + ":deliveries:" + applicationID
}

// Pending is the sorted set of the events whose delivery is pending, by the time of the next
// attempt, in ms.
func (k Keys) Pending() string { return k.Tag() + ":pending" }

// Undelivered is the sorted set of the events whose delivery was given up, by the time of
// that, in ms, without those that an operator dropped.
func (k Keys) Undelivered() string { return k.Tag() + ":undelivered" }

// Token is the hash of the access token for the credentials with a fingerprint.
func (k Keys) Token(fingerprint string) string { return k.Tag() + ":token:" + fingerprint }

// Leader holds the number of the worker process that feeds. It expires with the lease.
func (k Keys) Leader() string { return k.Tag() + ":leader" }

// Batches is the hash of batch numbers by name.
func (k Keys) Batches() string { return k.Tag() + ":batches" }

// Numbered is the sorted set of the numbers of all batches, by number.
func (k Keys) Numbered() string { return k.Tag() + ":numbered" }

// PerhapsEmpty is the sorted set of the numbers of batches that may be empty, by when they
// are to be examined, in ms.
func (k Keys) PerhapsEmpty() string { return k.Tag() + ":perhaps-empty" }

// Running is the sorted set of the numbers of batches with requests to feed, by the order
// in which they were last served.
func (k Keys) Running() string { return k.Tag() + ":running" }

// Batch is a batch's hash: its counters, name and feed cursor. Number 0 holds
// the counters of requests without a batch.
func (k Keys) Batch(number int) string { return fmt.Sprintf("%s:batch:%d", k.Tag(), number) }

// Order is the hash of the numbered chunks of a batch: its rows in input order.
func (k Keys) Order(number int) string { return fmt.Sprintf("%s:order:%d", k.Tag(), number) }

// Joined is the hash of the numbers of joined rows in the chunks of a batch.
func (k Keys) Joined(number int) string { return fmt.Sprintf("%s:joined:%d", k.Tag(), number) }

// Requeued is the list of a batch's requests that are fed before its rows.
func (k Keys) Requeued(number int) string { return fmt.Sprintf("%s:again:%d", k.Tag(), number) }

// Queue is the asynq queue of a lane.
func (k Keys) Queue(l request.Lane) string { return "kyclink:" + k.Account + ":" + string(l) }

// Cancelling is the sorted set of the numbers of cancelled batches whose requests
// have not all ended, by the time of the cancellation.
func (k Keys) Cancelling() string { return k.Tag() + ":cancelling" }

// CancelledRequeued is the list of requeued requests of a cancelled batch, which were not
// fed before the cancel.
func (k Keys) CancelledRequeued(number int) string { return fmt.Sprintf("%s:off:%d", k.Tag(), number) }

// Quarantine is the list of quarantine entries as JSON, the latest first.
func (k Keys) Quarantine() string { return k.Tag() + ":poison" }

// Calls is the sorted set of the calls in flight, "process id nonce", by the time of their
// grants. Calls of dead processes remain until recovery has handled them.
func (k Keys) Calls() string { return k.Tag() + ":calls" }

// Handlers is the set of the turns with a handler in a worker process at its last
// heartbeat.
func (k Keys) Handlers(process string) string { return k.Tag() + ":handlers:" + process }

// Newer is the set of bulk requests whose records were written by a newer version, which
// must feed them.
func (k Keys) Newer() string { return k.Tag() + ":newer" }

// Panics counts the panics of a turn's handlers, for a day.
func (k Keys) Panics(ref request.Ref) string { return fmt.Sprintf("%s:panics:%s", k.Tag(), ref) }
