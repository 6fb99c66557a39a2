// Package batch reads, controls and counts batches: their status, their rows in the order of
// the input, pausing, cancelling and refreshing them, and the recount of their counters.
package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
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

// Names returns the names of all batches, sorted.
func (s *Store) Names(ctx context.Context) (names []string, err error) {
	for cursor := uint64(0); ; {
		var page []string // each name is followed by its number
		if page, cursor, err = s.rdb.HScan(ctx, s.keys.Batches(), cursor, "", batchesPage).Result(); err != nil {
			return nil, fmt.Errorf("read the batches: %w", err)
		}
		for i := 0; i < len(page); i += 2 {
			names = append(names, page[i])
		}
		if cursor == 0 {
			slices.Sort(names)
			return slices.Compact(names), nil
		}
	}
}

// batchesPage is the number of batches in one read.
const batchesPage = 500

// All reads all batches in the order of their creation.
func (s *Store) All(ctx context.Context) ([]Batch, error) {
	all, _, err := s.After(ctx, 0, math.MaxInt)
	return all, err
}

// After reads at most limit batches, in the order of their creation, from the one after a
// number; 0 for the first. more reports that there are others after them.
func (s *Store) After(ctx context.Context, number, limit int) (batches []Batch, more bool, err error) {
	ends, err := s.recentEnds(ctx)
	if err != nil {
		return nil, false, err
	}
	batches = []Batch{}
	for len(batches) < limit {
		page, err := s.NumbersFrom(ctx, number+1, batchesPage)
		if err != nil {
			return nil, false, err
		}
		if len(page) == 0 {
			return batches, false, nil
		}
		page = page[:min(len(page), limit-len(batches))]
		number = page[len(page)-1]
		read, err := s.readBatches(ctx, page)
		if err != nil {
			return nil, false, err
		}
		for _, b := range read {
			batches = append(batches, ends.estimate(b))
		}
	}
	after, err := s.NumbersFrom(ctx, number+1, 1)
	return batches, len(after) > 0, err
}

// Before reads at most limit batches that were created before that of a number, the newest
// first; 0 starts with the newest of all. next is the number with which the list continues, 0
// at its end. Batches that no longer exist are omitted, so that there may be fewer.
func (s *Store) Before(ctx context.Context, number, limit int) (batches []Batch, next int, err error) {
	ends, err := s.recentEnds(ctx)
	if err != nil {
		return nil, 0, err
	}
	page, err := s.numbersBefore(ctx, number, limit+1)
	if err != nil {
		return nil, 0, err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1]
	}
	batches, err = s.readBatches(ctx, page)
	for i, b := range batches {
		batches[i] = ends.estimate(b)
	}
	return batches, next, err
}

// Counted reads batches as [Store.ByName] does, in one round trip. Those that no longer exist
// are omitted.
func (s *Store) Counted(ctx context.Context, numbers []int) ([]Batch, error) {
	hashes := make([]*redis.MapStringStringCmd, len(numbers))
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, number := range numbers {
			hashes[i] = pipe.HGetAll(ctx, s.keys.Batch(number))
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	batches := make([]Batch, 0, len(numbers))
	for i, number := range numbers {
		if len(hashes[i].Val()) == 0 {
			continue
		}
		b, err := parseBatch(number, hashes[i].Val())
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
	}
	return batches, nil
}

// readBatches is [Store.Counted] with the states of joined rows.
func (s *Store) readBatches(ctx context.Context, numbers []int) ([]Batch, error) {
	batches, err := s.Counted(ctx, numbers)
	if err != nil {
		return nil, err
	}
	for i, b := range batches {
		if batches[i], err = s.withJoined(ctx, b); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Get reads a batch by its number; ok is false if there is none. The time depends on the
// number of joined rows, and not on the number of all rows.
func (s *Store) Get(ctx context.Context, number int) (b Batch, ok bool, err error) {
	hash, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err == nil && len(hash) == 0 {
		return b, false, nil
	}
	if err == nil {
		b, err = parseBatch(number, hash)
	}
	if err == nil {
		b, err = s.withJoined(ctx, b)
	}
	if err != nil {
		return b, false, fmt.Errorf("read batch %d: %w", number, err)
	}
	ends, err := s.recentEnds(ctx)
	return ends.estimate(b), err == nil, err
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
