package diagnosis

import (
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/tasks"
)

// Snapshot is the state of an account at one moment, by Redis' clock.
type Snapshot struct {
	At      time.Time
	Account string
	Gate    admission.GateStatus
	Rate    admission.RateStatus
	Calls   int // in flight
	// Silence is how long FaceKi has answered none of the calls; 0 unless that is unusual.
	Silence time.Duration
	// Asking is how many worker processes wait for a grant of the rate limit.
	Asking  int
	Workers int // live processes
	// LastHeartbeat is the latest of any worker; zero if none ever ran, or all have left.
	LastHeartbeat time.Time

	Interactive, Bulk Lane
	Paused            Paused

	Held, Failed, Quarantined int
	Deliveries                Deliveries
	Results                   results.Status
	Intake                    Intake
	Redis                     Redis
}

// Lane is the backlog of one lane.
type Lane struct {
	Waiting int // not fed yet; only bulk requests wait
	Queued  int
	Due     int // queued requests that may be called now
	// Oldest is when the request at the head of the lane was accepted, and NextDue when the
	// next retry is due; zero if there is none.
	Oldest, NextDue time.Time
}

// Backlog returns the number of waiting and queued requests.
func (l Lane) Backlog() int { return l.Waiting + l.Queued }

// Paused is the paused batches of an account.
type Paused struct {
	// Batches is how many there are. If there are many, some of those that are not in First
	// may have ended.
	Batches int
	// First has those that were created first, with their own counters.
	First []batch.Batch
}

// unread is how many paused batches are not in First.
func (p Paused) unread() int { return p.Batches - len(p.First) }

// open is how many requests of the batches in First have not ended.
func (p Paused) open() (n int) {
	for _, b := range p.First {
		n += b.OpenOwn()
	}
	return n
}

// largest is the batch in First with the most open requests.
func (p Paused) largest() (largest batch.Batch) {
	for _, b := range p.First {
		if b.OpenOwn() > largest.OpenOwn() {
			largest = b
		}
	}
	return largest
}

// Deliveries is the state of the account's callbacks.
type Deliveries struct {
	Pending int
	GivenUp int
	// Retrying is how many pending deliveries wait for another attempt, the next at NextAt.
	Retrying int
	NextAt   time.Time
	// Host and Message say where, and with which result, one of them failed last.
	Host, Message string
}

// Intake is the state of the intake stream.
type Intake struct{ Entries, Rejects int }

// Redis is the state of the server.
type Redis struct {
	Used, Max int64 // bytes; a Max of 0 is no limit
	// Evicts says that Redis deletes keys when it is full, instead of refusing writes.
	Evicts bool
	// WriteError names the write to disk that failed last; "" if none did.
	WriteError string
	Replica    bool
}

// RequestState is what a [Request] is diagnosed from, beside the account.
type RequestState struct {
	Link tasks.Link
	// RetryAt is when the request is retried after a fault; zero if it may be called now.
	RetryAt time.Time
	// NotAfter is when the request fails unless it has a link; zero if it has no limit.
	NotAfter time.Time
	// Ahead is how many requests of its lane are called first, at most.
	Ahead int
	// Batch is the request's batch; nil if it has none.
	Batch *batch.Batch
}
