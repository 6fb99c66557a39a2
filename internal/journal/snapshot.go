package journal

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// headerStart is how a journal begins.
const headerStart = `{"journal":`

// entry is one line of a journal: exactly one of its members is set.
type entry struct {
	Header *Header   `json:"journal,omitempty"`
	Record *snapshot `json:"record,omitempty"`
}

// snapshot is the encoding of a request's record after a transition. If the latest one
// of a request is [request.Calling], the outcome of that call is uncertain. The
// journal keeps what a new embedded Redis needs to continue: not the turn, the worker,
// the batch's number and the account's successes, which belong to the old Redis, and no
// request to cancel, which cannot exist.
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

func newSnapshot(r request.Record) *snapshot {
	return &snapshot{
		ApplicationID: r.ApplicationID, State: r.State, Lane: r.Lane, Generation: r.Generation, Run: r.Run,
		Attempts: r.Attempts, Charged: r.Charged, PossibleDuplicates: r.PossibleDuplicates, AcceptedAt: r.AcceptedAt,
		ChangedAt: r.ChangedAt, Deadline: r.Deadline, Content: r.Content, Resolved: r.Resolved, Outcome: r.Outcome, Past: r.Past,
	}
}

func (s snapshot) record() request.Record {
	return request.Record{
		ApplicationID: s.ApplicationID, State: s.State, Lane: s.Lane, Generation: s.Generation, Run: s.Run,
		Attempts: s.Attempts, Charged: s.Charged, PossibleDuplicates: s.PossibleDuplicates, AcceptedAt: s.AcceptedAt,
		ChangedAt: s.ChangedAt, Deadline: s.Deadline, Content: s.Content, Resolved: s.Resolved, Outcome: s.Outcome, Past: s.Past,
	}
}
