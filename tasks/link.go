package tasks

import (
	"encoding/json"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// Status is the state of a request.
type Status string

// The states of a request. Created, Failed and Cancelled end a run.
const (
	Waiting   = Status(request.Waiting)
	Queued    = Status(request.Queued)
	Calling   = Status(request.Calling)
	Held      = Status(request.Held)
	Created   = Status(request.Created)
	Failed    = Status(request.Failed)
	Cancelled = Status(request.Cancelled)
)

// Ended reports whether the status ends a run.
func (s Status) Ended() bool { return request.State(s).Ended() }

// Link is the state of one generation of a request. LinkID and URL are secrets: anyone
// who has them can start the person's verification.
type Link struct {
	ApplicationID      string          `json:"application_id"`
	Generation         int             `json:"generation"`
	Run                int             `json:"run"`
	Status             Status          `json:"status"`
	Lane               Lane            `json:"lane"`
	Batch              string          `json:"batch,omitempty"`
	LinkID             string          `json:"link_id,omitempty"`
	URL                string          `json:"url,omitempty"`
	ExpiresAt          time.Time       `json:"expires_at,omitzero"`
	Expired            bool            `json:"expired"`
	Attempts           int             `json:"attempts"`
	PossibleDuplicates int             `json:"possible_duplicates"`
	Reason             string          `json:"reason,omitempty"`
	Message            string          `json:"message,omitempty"`
	AcceptedAt         time.Time       `json:"accepted_at,omitzero"`
	EndedAt            time.Time       `json:"ended_at,omitzero"`
	Metadata           json.RawMessage `json:"metadata,omitempty"`
}

// linkOf converts a record to a Link. batch is the name of the record's batch; now
// decides whether the link has expired.
func linkOf(r *request.Record, batch string, now time.Time) Link {
	return Link{
		ApplicationID: r.ApplicationID, Generation: r.Generation, Run: r.Run,
		Status: Status(r.State), Lane: Lane(r.Lane), Batch: batch,
		Attempts: r.Attempts, PossibleDuplicates: r.PossibleDuplicates,
		Reason: r.Outcome.Reason, Message: r.Outcome.Message,
		LinkID: r.Outcome.LinkID, URL: r.Outcome.URL, ExpiresAt: r.Outcome.ExpiresAt,
		Expired:    !r.Outcome.ExpiresAt.IsZero() && !now.Before(r.Outcome.ExpiresAt),
		AcceptedAt: r.AcceptedAt, EndedAt: r.Outcome.EndedAt, Metadata: r.Content.Metadata,
	}
}
