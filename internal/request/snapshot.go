package request

import "time"

// Snapshot is a record as JSON, for a journal outside Redis. It has what a new, empty Redis
// needs to continue: not the turn, the worker, the batch's number and the account's
// successes, which belong to the old Redis, and no order to cancel, which a run of one file
// cannot have. If the latest snapshot of a request is [Calling], the outcome of that call is
// uncertain.
type Snapshot struct {
	ApplicationID      string    `json:"application_id"`
	State              State     `json:"state"`
	Lane               Lane      `json:"lane"`
	Generation         int       `json:"generation"`
	Run                int       `json:"run"`
	Attempts           int       `json:"attempts,omitempty"`
	Charged            int       `json:"spent,omitempty"`
	PossibleDuplicates int       `json:"possible_duplicates,omitempty"`
	AcceptedAt         time.Time `json:"accepted_at,omitzero"`
	ChangedAt          time.Time `json:"changed_at,omitzero"`
	Deadline           bool      `json:"deadline,omitempty"`
	Content            Content   `json:"content,omitzero"`
	Resolved           Defaults  `json:"frozen,omitzero"`
	Outcome            Outcome   `json:"outcome,omitzero"`
	Past               []Outcome `json:"past,omitempty"`
}

// Snapshot returns the snapshot of the record.
func (r Record) Snapshot() Snapshot {
	return Snapshot{
		ApplicationID: r.ApplicationID, State: r.State, Lane: r.Lane, Generation: r.Generation, Run: r.Run,
		Attempts: r.Attempts, Charged: r.Charged, PossibleDuplicates: r.PossibleDuplicates, AcceptedAt: r.AcceptedAt,
		ChangedAt: r.ChangedAt, Deadline: r.Deadline, Content: r.Content, Resolved: r.Resolved, Outcome: r.Outcome, Past: r.Past,
	}
}

// Record returns the record of the snapshot.
func (s Snapshot) Record() Record {
	return Record{
		ApplicationID: s.ApplicationID, State: s.State, Lane: s.Lane, Generation: s.Generation, Run: s.Run,
		Attempts: s.Attempts, Charged: s.Charged, PossibleDuplicates: s.PossibleDuplicates, AcceptedAt: s.AcceptedAt,
		ChangedAt: s.ChangedAt, Deadline: s.Deadline, Content: s.Content, Resolved: s.Resolved, Outcome: s.Outcome, Past: s.Past,
	}
}
