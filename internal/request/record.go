// Package request defines the stored form of a request: its state, the format of its
// record, and the reference in its asynq task. The producer's accept script creates
// records, and the ledger's transitions change them.
//
// A record is one string: a fixed-width ASCII header, which scripts change in
// place, then lines of JSON.
//
//	header    state, lane, numbers and times; the columns are in lua/record.lua
//	content   the request as given, without id, generation and lane; never changes. Its keys
//	          are those of a request in version 1, and letters in version 2
//	resolved  the settings that were fixed at the first call
//	outcome   the link, or the reason why there is none
//	past …    one line for each outcome of an earlier run, and for each late link
//
// Trailing empty lines are omitted, so that a waiting request takes only its header and
// content. The latest generation of an application id is at
// [github.com/kyclink/kyclink/internal/keyspace.Keys.Record]; when the next one is
// accepted, it moves to Keys.Old.
package request

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// State is the state of a request. Its text is the public status.
type State string

// The states. The last three are ends.
const (
	Waiting   State = "waiting"
	Queued    State = "queued"
	Calling   State = "calling"
	Held      State = "held"
	Created   State = "created"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States are all states.
var States = [...]State{Waiting, Queued, Calling, Held, Created, Failed, Cancelled}

// Ended reports whether the state ends a run.
func (s State) Ended() bool { return s == Created || s == Failed || s == Cancelled }

var stateLetters = map[byte]State{
	'w': Waiting, 'q': Queued, 'c': Calling, 'h': Held, 'C': Created, 'F': Failed, 'X': Cancelled,
}

// Lane is the priority class of a request: interactive if a person waits for the link, bulk
// otherwise.
type Lane string

// The lanes.
const (
	Interactive Lane = "interactive"
	Bulk        Lane = "bulk"
)

// Callbacks and Bundles name asynq queues: that of callback deliveries, and that of the
// tasks that stand for several bulk requests. No request has these lanes.
const (
	Callbacks Lane = "callback"
	Bundles   Lane = "bundle"
)

var laneLetters = map[byte]Lane{'i': Interactive, 'b': Bulk}

// Content is a request as given, without its identity. A zero value means not given.
type Content struct {
	RedirectURL      string          `json:"redirect_url,omitempty"`
	ExpiryMinutes    int             `json:"expiry_minutes,omitempty"`
	DocumentOptional *bool           `json:"document_optional,omitempty"`
	WorkflowID       string          `json:"workflow_id,omitempty"`
	CallbackURL      string          `json:"callback_url,omitempty"`
	NotAfter         time.Time       `json:"not_after,omitzero"`
	Metadata         json.RawMessage `json:"metadata,omitempty"`
	// By is the id of the API key that was used; empty for other entry points and in
	// records of earlier versions.
	By string `json:"by,omitempty"`
	// Trace is the context of the span in which the request was accepted, see
	// [github.com/kyclink/kyclink/internal/tracing]; empty unless that is sampled, and for rows
	// of a batch, which has one for all of them.
	Trace string `json:"trace,omitempty"`
	// Row is the row of its batch with which the request was accepted, from 1.
	Row int `json:"row,omitempty"`
}

// Keys returns the JSON keys of the values that were given.
func (c Content) Keys() []string {
	var keys []string
	for _, k := range []struct {
		name  string
		given bool
	}{
		{"redirect_url", c.RedirectURL != ""}, {"expiry_minutes", c.ExpiryMinutes != 0}, {"document_optional", c.DocumentOptional != nil},
		{"workflow_id", c.WorkflowID != ""}, {"callback_url", c.CallbackURL != ""}, {"not_after", !c.NotAfter.IsZero()},
		{"metadata", len(c.Metadata) > 0},
	} {
		if k.given {
			keys = append(keys, k.name)
		}
	}
	return keys
}

// Defaults are settings for requests that do not specify them: the options of the batch,
// else those of the worker.
type Defaults struct {
	RedirectURL      string `json:"redirect_url,omitempty"`
	ExpiryMinutes    int    `json:"expiry_minutes,omitempty"`
	DocumentOptional *bool  `json:"document_optional,omitempty"`
	WorkflowID       string `json:"workflow_id,omitempty"`
	CallbackURL      string `json:"callback_url,omitempty"`
}

// With returns the content with the defaults for values that were not given.
func (c Content) With(d Defaults) Content {
	c.RedirectURL = cmp.Or(c.RedirectURL, d.RedirectURL)
	c.ExpiryMinutes = cmp.Or(c.ExpiryMinutes, d.ExpiryMinutes)
	c.DocumentOptional = cmp.Or(c.DocumentOptional, d.DocumentOptional)
	c.WorkflowID = cmp.Or(c.WorkflowID, d.WorkflowID)
	c.CallbackURL = cmp.Or(c.CallbackURL, d.CallbackURL)
	return c
}

// Link is a link that FaceKi created. LinkID and URL are secrets: anyone who has them can
// start the person's verification.
type Link struct {
	LinkID string
	URL    string
	// RequestedAt is when a kept link was requested, by Redis' clock; zero: by the attempt
	// at hand.
	RequestedAt time.Time
}

// Outcome is the outcome of a run.
type Outcome struct {
	Run       int       `json:"run,omitempty"`
	Status    State     `json:"status,omitempty"`
	LinkID    string    `json:"link_id,omitempty"`
	URL       string    `json:"url,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	// Took is the duration of the call that brought the link, in milliseconds; nil if no
	// call did, or it is not known.
	Took *int `json:"took,omitempty"`
	// Attempts are the latest attempts of the run that brought no link.
	Attempts []Attempt `json:"attempts,omitempty"`
	// Late marks a link that arrived when no run was open.
	Late bool `json:"late_link,omitempty"`
	// Kept is a link that could not be used, encrypted with a key derived from the client
	// secret.
	Kept string `json:"kept,omitempty"`
	// Raw is the stored content of a quarantined request.
	Raw string `json:"raw,omitempty"`
}

// Attempt is an attempt that brought no link.
type Attempt struct {
	Number    int    `json:"n"`
	At        int    `json:"at"`             // when it began, milliseconds since 1970
	Took      *int   `json:"took,omitempty"` // until its outcome, milliseconds; nil: the process that made it ended before
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
	Uncertain bool   `json:"uncertain,omitempty"` // a link may have been created
}

// Record is the record of one generation of a request.
type Record struct {
	ApplicationID      string
	State              State
	Lane               Lane
	CancelAsked        bool
	Generation         int
	Run                int
	Turn               int // incremented by each feed, promotion and release
	Attempts           int // calls sent, over all runs of the generation
	Charged            int // charged attempts of this run
	PossibleDuplicates int
	Batch              int // 0: none
	Seen               int // the account's successes at the latest fault, plus 1; 0: no fault
	AcceptedAt         time.Time
	ChangedAt          time.Time
	Holder             int  // the worker process that makes the call
	Deadline           bool // the request's own not_after applies
	NoDeadline         bool // no not_after applies, since an operator retried the request
	Content            Content
	Resolved           Defaults
	Outcome            Outcome
	Past               []Outcome // oldest first
}

// EventID returns the id of the event that ends the record's run. It depends only on values
// that are fixed when the run starts, so that every process publishes the same id.
func (r Record) EventID(account string) uuid.UUID {
	return uuid.NewSHA1(uuid.NameSpaceOID, fmt.Appendf(nil, "kyclink\x00%s\x00%s\x00%d\x00%d\x00%d",
		account, r.ApplicationID, r.Generation, r.Run, r.AcceptedAt.UnixMilli()))
}

// Ref identifies one turn of a request. Its text is the id of the turn's asynq task, so
// that asynq refuses a second task for the same turn.
type Ref struct {
	ApplicationID string
	Generation    int
	Run           int
	Turn          int
}

// Ref returns the record's current turn.
func (r Record) Ref() Ref { return Ref{r.ApplicationID, r.Generation, r.Run, r.Turn} }

// String returns application_id:generation:run:turn.
func (r Ref) String() string {
	return fmt.Sprintf("%s:%d:%d:%d", r.ApplicationID, r.Generation, r.Run, r.Turn)
}

// ParseRef parses the text of [Ref.String]. The application id may contain colons.
func ParseRef(s string) (Ref, error) {
	var n [3]int
	rest := s
	for i := 2; i >= 0; i-- {
		cut := strings.LastIndexByte(rest, ':')
		if cut < 1 {
			return Ref{}, fmt.Errorf("task id %q is not application_id:generation:run:turn", s)
		}
		v, err := strconv.ParseUint(rest[cut+1:], 10, 31)
		if err != nil {
			return Ref{}, fmt.Errorf("task id %q is not application_id:generation:run:turn", s)
		}
		n[i], rest = int(v), rest[:cut]
	}
	ref := Ref{rest, n[0], n[1], n[2]}
	if ref.String() != s { // leading zeros
		return Ref{}, fmt.Errorf("task id %q is not application_id:generation:run:turn", s)
	}
	return ref, nil
}

// Turn is a turn and the lane of its task.
type Turn struct {
	Lane Lane
	Ref  Ref
}

// KeptLink returns the latest encrypted link, see [Outcome].Kept; "" if there is none.
func (r Record) KeptLink() string {
	for _, past := range slices.Backward(append(slices.Clone(r.Past), r.Outcome)) {
		if past.Kept != "" {
			return past.Kept
		}
	}
	return ""
}
