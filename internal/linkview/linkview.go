// Package linkview converts ledger records to the Link of package tasks, whose
// exported functions must not name internal types.
package linkview

import (
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Of returns the Link of a record. batch is the name of the record's batch; now
// decides whether the link has expired. Package tasks has an unexported copy, and a
// test compares the two.
func Of(r request.Record, batch string, now time.Time) tasks.Link {
	return tasks.Link{
		ApplicationID: r.ApplicationID, Generation: r.Generation, Run: r.Run,
		Status: tasks.Status(r.State), Lane: tasks.Lane(r.Lane), Batch: batch,
		Attempts: r.Attempts, PossibleDuplicates: r.PossibleDuplicates,
		Reason: r.Outcome.Reason, Message: r.Outcome.Message,
		LinkID: r.Outcome.LinkID, URL: r.Outcome.URL, ExpiresAt: r.Outcome.ExpiresAt,
		Expired:    !r.Outcome.ExpiresAt.IsZero() && !now.Before(r.Outcome.ExpiresAt),
		AcceptedAt: r.AcceptedAt, EndedAt: r.Outcome.EndedAt, Metadata: r.Content.Metadata,
	}
}
