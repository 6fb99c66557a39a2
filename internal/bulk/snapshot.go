package bulk

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// headerStart is what a journal begins with.
const headerStart = `{"journal":`

// line is one line of a journal: exactly one of its members.
type line struct {
	Header *Header   `json:"journal,omitempty"`
	Record *snapshot `json:"record,omitempty"`
}

// Snapshot is a request's record after a transition. Where the latest one of a
// request is [request.Calling], nobody knows what came of that call. The journal
// keeps what a new embedded Redis needs to go on: not the turn, the worker, the
// batch's number and the account's successes, which were the old one's, and no
// wish to cancel, which nobody can have.
type Snapshot request.Record

func (s Snapshot) line() line {
	return line{Record: &snapshot{
		ApplicationID: s.ApplicationID, State: s.State, Lane: s.Lane, Generation: s.Generation, Run: s.Run,
		Attempts: s.Attempts, Charged: s.Charged, PossibleDuplicates: s.PossibleDuplicates, AcceptedAt: s.AcceptedAt,
		ChangedAt: s.ChangedAt, Deadline: s.Deadline, Content: s.Content, Resolved: s.Resolved, Outcome: s.Outcome, Past: s.Past,
	}}
}

// snapshot is how a record is written.
type snapshot struct {
	ApplicationID      string            `json:"application_id"`
	State              request.State     `json:"state"`
	Lane               request.Lane      `json:"lane"`
	Generation         int               `json:"generation"`
	Run                int               `json:"run"`
	Attempts           int               `json:"attempts,omitempty"`
	Charged            int               `json:"spent,omitempty"`
	PossibleDuplicates int               `json:"possible_duplicates,omitempty"`
	AcceptedAt         time.Time         `json:"accepted_at,omitzero"`
	ChangedAt          time.Time         `json:"changed_at,omitzero"`
	Deadline           bool              `json:"deadline,omitempty"`
	Content            request.Content   `json:"content,omitzero"`
	Resolved           request.Defaults  `json:"frozen,omitzero"`
	Outcome            request.Outcome   `json:"outcome,omitzero"`
	Past               []request.Outcome `json:"past,omitempty"`
}

func (s snapshot) record() request.Record {
	return request.Record{
		ApplicationID: s.ApplicationID, State: s.State, Lane: s.Lane, Generation: s.Generation, Run: s.Run,
		Attempts: s.Attempts, Charged: s.Charged, PossibleDuplicates: s.PossibleDuplicates, AcceptedAt: s.AcceptedAt,
		ChangedAt: s.ChangedAt, Deadline: s.Deadline, Content: s.Content, Resolved: s.Resolved, Outcome: s.Outcome, Past: s.Past,
	}
}
