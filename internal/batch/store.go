// Package batch reads, controls and counts batches: their status, their rows in the order of
// the input, pausing, cancelling and refreshing them, and the recount of their counters.
package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batchname"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// pageSize is the number of set members or records in one read.
const pageSize = 200

// Store reads, controls and counts the batches of one account. It is safe for
// concurrent use.
type Store struct {
	rdb     redis.UniversalClient
	keys    keyspace.Keys
	names   *batchname.Reader
	records *record.Reader
	joined  *sync.Map // *[joinedStates] of batches, by number
}

// NewStore returns a store that uses, and does not close, rdb.
func NewStore(rdb redis.UniversalClient, keys keyspace.Keys) *Store {
	return &Store{rdb, keys, batchname.NewReader(rdb, keys), record.NewReader(rdb, keys), &sync.Map{}}
}

var (
	controlBatchScript   = scripts.Script("control_batch.lua")
	cancelRequestsScript = scripts.Script("cancel_requests.lua")
	finishCancelScript   = scripts.Script("finish_cancel.lua")
)

// Status is the status of a batch.
type Status string

// The statuses. Only paused and cancelled are stored. A batch is done if none of its rows,
// including joined ones, is waiting, queued or calling. Held requests do not count: they wait
// for an operator.
const (
	Running   Status = "running"
	Paused    Status = "paused"
	Cancelled Status = "cancelled"
	Done      Status = "done"
)

// Erased is the key of [Batch].Counts for the erased requests of a batch.
const Erased request.State = "erased"

// Batch is the status and the counters of a batch.
type Batch struct {
	Batch  string `json:"batch"`
	Status Status `json:"status"`
	// Rows is the sum of Counts and Joined.
	Rows int `json:"rows"`
	// Joined is the number of rows whose request was accepted elsewhere first.
	Joined int                   `json:"joined"`
	Counts map[request.State]int `json:"counts"` // all states, and Erased
	// JoinedCounts are the states of the joined rows.
	JoinedCounts map[request.State]int `json:"joined_counts"`
	// PossibleDuplicates counts those of all generations and never falls.
	PossibleDuplicates int `json:"possible_duplicates"`
	// Throughput is the number of ends per second that calls brought, over the last minute
	// or the account's last thousand events, whichever is shorter.
	Throughput float64 `json:"throughput"`
	// ETA is the estimated end at that throughput; zero if there is none, or the batch is
	// not running.
	ETA       time.Time `json:"eta,omitzero"`
	CreatedAt time.Time `json:"created_at"`
	// Reason is why the batch is paused: [fault.Paused] (by an operator), or
	// [fault.RowsRefused] with FaceKi's last message in Message.
	Reason  fault.Reason `json:"reason,omitempty"`
	Message string       `json:"message,omitempty"`
	Number  int          `json:"-"`
}

// Open returns the number of rows, including joined ones, that are waiting, queued or
// calling.
func (b Batch) Open() int { return b.OpenOwn() + open(b.JoinedCounts) }

// OpenOwn is [Batch.Open] without joined rows.
func (b Batch) OpenOwn() int { return open(b.Counts) }

// Finished reports whether no row of the batch changes any more. The joined rows of a
// cancelled batch do not count: they are not cancelled with it.
func (b Batch) Finished() bool {
	return b.Open() == 0 || b.Status == Cancelled && b.OpenOwn() == 0
}

func open(counts map[request.State]int) int {
	return counts[request.Waiting] + counts[request.Queued] + counts[request.Calling]
}

// withJoinedCounts returns the batch with the states of its joined rows.
func (b Batch) withJoinedCounts(counts map[request.State]int) Batch {
	b.Rows -= b.Joined
	b.JoinedCounts, b.Joined = counts, 0
	for _, n := range counts {
		b.Joined += n
	}
	b.Rows += b.Joined
	if b.Status == Done && b.Open() > 0 {
		b.Status = Running
	}
	return b
}

// parseBatch parses a batch's hash. Throughput, ETA and the states of joined rows remain
// zero.
func parseBatch(number int, hash map[string]string) (Batch, error) {
	b := Batch{Number: number, Batch: hash["name"], Counts: map[request.State]int{}, JoinedCounts: noStates()}
	var failed error
	count := func(field string) int {
		if hash[field] == "" {
			return 0
		}
		n, err := strconv.Atoi(hash[field])
		if err != nil {
			failed = fmt.Errorf("batch %q: %q is not a count of %s", b.Batch, hash[field], field)
		}
		return n
	}
	for _, state := range append(request.States[:], Erased) {
		b.Counts[state] = count(string(state))
		b.Rows += b.Counts[state]
	}
	b.Joined, b.PossibleDuplicates = count("joined"), count("possible_duplicates")
	b.Rows += b.Joined
	b.CreatedAt = time.UnixMilli(int64(count("created_at"))).UTC()
	switch b.Status = Status(hash["status"]); {
	case b.Status == Cancelled:
	case b.Open() == 0:
		b.Status = Done
	case b.Status == "":
		b.Status = Running
	default:
		b.Reason, b.Message = cmp.Or(fault.Reason(hash["reason"]), fault.Paused), hash["message"]
	}
	return b, failed
}

// RefusedMessage explains why a batch paused itself after too many refused calls in a row;
// it is empty for any other batch.
func (b Batch) RefusedMessage() string {
	if b.Status != Paused || b.Reason != fault.RowsRefused {
		return ""
	}
	return fmt.Sprintf("%d of its calls in a row were refused as wrong, the last one with: %s", MaxRefused, b.Message)
}

// MaxRefused is the number of calls of a batch in a row that FaceKi refuses as invalid before
// the batch is paused.
const MaxRefused = 20

// ByName reads a batch by its name, without its throughput, ETA and the states of joined
// rows; ok is false if there is none.
func (s *Store) ByName(ctx context.Context, name string) (b Batch, ok bool, err error) {
	number, ok, err := s.Number(ctx, name)
	if err != nil || !ok {
		return b, false, err
	}
	hash, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err != nil {
		return b, false, fmt.Errorf("read batch %q: %w", name, err)
	}
	b, err = parseBatch(number, hash)
	return b, err == nil && len(hash) > 0, err
}

// Control is an operator's command for a batch as a whole.
type Control string

// The controls. Pause and Cancel take effect at once for all requests that are not being
// called.
const (
	Pause  Control = "pause"
	Resume Control = "resume"
	// Cancel does not change a batch that is done.
	Cancel Control = "cancel"
	// Close cancels also a batch that is done, so that it accepts no more rows.
	Close Control = "close"
)

// Control pauses, resumes or cancels a batch. A command that changes nothing is not an
// error. While a batch is paused, only its interactive requests are called. The requests of a
// cancelled batch are not called; [Store.CancelRequests] ends them. Pausing or resuming a
// cancelled batch fails with [*tasks.CancelledError].
func (s *Store) Control(ctx context.Context, b Batch, c Control) error {
	reply, err := controlBatchScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"batch": b.Number, "command": string(c)}).Text()
	switch {
	case errors.Is(err, redis.Nil):
		return fmt.Errorf("batch %q no longer exists", b.Batch)
	case err != nil:
		return fmt.Errorf("%s batch %q: %w", c, b.Batch, err)
	case reply == string(Cancelled) && (c == Pause || c == Resume):
		return &tasks.CancelledError{Batch: b.Batch}
	}
	return nil
}

// Counts returns the number of the batch's own requests in each state. All are 0 if there is
// no such batch.
func (s *Store) Counts(ctx context.Context, batch string) (map[request.State]int, error) {
	counts := map[request.State]int{}
	number, err := s.rdb.HGet(ctx, s.keys.Batches(), batch).Int()
	if errors.Is(err, redis.Nil) {
		return counts, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %q: %w", batch, err)
	}
	values, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err != nil {
		return nil, fmt.Errorf("read batch %q: %w", batch, err)
	}
	for _, state := range request.States {
		if text := values[string(state)]; text != "" {
			if counts[state], err = strconv.Atoi(text); err != nil {
				return nil, fmt.Errorf("batch %q: %q is not a count of %s", batch, text, state)
			}
		}
	}
	return counts, nil
}

// Number returns the number of a batch, which its records hold; ok is false if there is no
// batch of that name.
func (s *Store) Number(ctx context.Context, name string) (number int, ok bool, err error) {
	return s.names.Number(ctx, name)
}

// Name returns the name of a batch; "" if there is none of that number.
func (s *Store) Name(ctx context.Context, number int) (string, error) {
	return s.names.Name(ctx, number)
}
