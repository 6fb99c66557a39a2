package record

import (
	"fmt"
	"strings"
	"time"
)

// What may be done with a turn that is not to be called now, besides the other
// verdicts.
const (
	Early    Verdict = "early"  // its pause is not over by Redis' clock: not before Wait
	Newer    Verdict = "newer"  // a newer version wrote its record: leave it to a newer worker
	Poisoned Verdict = "poison" // its record cannot be read by any version: put it aside
)

// Turn is a turn, and the lane that its task belongs to.
type Turn struct {
	Lane Lane
	Ref  Ref
}

// Poison is what was put aside because it cannot be understood and stands for no
// request that could be ended: an asynq task, or a record whose header is broken.
type Poison struct {
	At    time.Time `json:"at"`
	Queue string    `json:"queue,omitempty"` // the asynq queue that a task came from
	Task  string    `json:"task,omitempty"`  // its id
	Type  string    `json:"type,omitempty"`
	// Why says what is wrong with it, for people.
	Why string `json:"why"`
	// Raw is the task's payload, the whole message where asynq itself cannot read
	// it, or the record; cut after [PoisonMost] bytes.
	Raw []byte `json:"raw"`
}

// Trim is what a look at the results stream found and did.
type Trim struct {
	// Length is how many events there are now, of Cap at most.
	Length, Cap int
	// Aged is how many went because of their age, Dropped how many because of the cap.
	Aged, Dropped int
	// From is when the first of those that were dropped came into the stream.
	From time.Time
	// Lost names the live groups that had not acknowledged all of what was dropped;
	// Slowest the one that is furthest behind, empty where none is.
	Lost    []string
	Slowest string
}

const (
	// PoisonKept is how many are kept, the latest. How many there ever were is the
	// field "poison" of [Keys.State], so what was pushed out can be counted; each
	// had its line in the log.
	PoisonKept = 10_000
	// PoisonMost is how many bytes of each are kept.
	PoisonMost = 64 << 10
)

// Poison is the list of what was put aside, the latest first, as JSON of
// [Poison]. It holds [PoisonKept] entries at most.
func (k Keys) Poison() string { return k.Tag() + ":poison" }

// Calls is the sorted set of the calls that are out, "process id nonce", by when
// they were marked; of a process that died until the sweep has seen to it.
func (k Keys) Calls() string { return k.Tag() + ":calls" }

// CallOf gives the application id of a member of [Keys.Calls], also of one that an
// earlier version wrote, without a nonce.
func CallOf(member string) string {
	_, rest, _ := strings.Cut(member, " ")
	id, _, _ := strings.Cut(rest, " ")
	return id
}

// Handlers is the set of the turns that a worker process has handlers for, as of
// its last heartbeat.
func (k Keys) Handlers(process string) string { return k.Tag() + ":handlers:" + process }

// Newer is the set of bulk requests that wait to be fed by a newer version,
// which wrote their records.
func (k Keys) Newer() string { return k.Tag() + ":newer" }

// Panics counts, for a day, how often a handler of this turn panicked.
func (k Keys) Panics(ref Ref) string { return fmt.Sprintf("%s:panics:%s", k.Tag(), ref) }

// ContentError says that a record's header can be read and what follows cannot.
type ContentError struct {
	ApplicationID string
	Line          int // from 1
	Err           error
}

func (e *ContentError) Error() string {
	return fmt.Sprintf("record of %q: line %d: %v", e.ApplicationID, e.Line, e.Err)
}

func (e *ContentError) Unwrap() error { return e.Err }
