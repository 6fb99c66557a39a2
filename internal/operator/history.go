package operator

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Link is a link with the reason for which it does not exist yet.
type Link struct {
	tasks.Link
	Diagnosis *diagnosis.Diagnosis `json:"diagnosis,omitempty"` // of an open request
}

// History is everything that is known about a request: the latest generation, the earlier
// ones, the outcomes of earlier runs, and the deliveries.
type History struct {
	Link
	Raw         string       `json:"raw,omitempty"`         // the request as it was stored, if it could not be handled
	Generations []tasks.Link `json:"generations,omitempty"` // earlier ones, the latest first
	Runs        []Run        `json:"history,omitempty"`     // earlier runs of the latest generation, the oldest first
	Calls       []Call       `json:"calls,omitempty"`       // to FaceKi, of the latest generation, the oldest first
	Deliveries  []Delivery   `json:"deliveries,omitempty"`  // of all generations, the oldest first
	// Unreadable are the events of deliveries that cannot be decoded: damaged ones, and those
	// that a newer version wrote.
	Unreadable []string `json:"unreadable_deliveries,omitempty"`

	HasKeptLink bool `json:"-"` // an attempt made a link that is kept until its host is allowed
}

// Run is how a run of a request ended.
type Run struct {
	Run       int       `json:"run"`
	Status    string    `json:"status"`
	LinkID    string    `json:"link_id,omitempty"`
	URL       string    `json:"url,omitempty"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	Reason    string    `json:"reason,omitempty"`
	Message   string    `json:"message,omitempty"`
	EndedAt   time.Time `json:"ended_at,omitzero"`
	LateLink  bool      `json:"late_link,omitempty"` // the link arrived when the run had ended
}

// Status returns the diagnosis of the account.
func (o *Operator) Status(ctx context.Context) (diagnosis.Diagnosis, error) {
	now, err := o.diagnoses().Snapshot(ctx)
	return diagnosis.Account(now), err
}

// Diagnose returns the reason why a link does not exist yet.
func (o *Operator) Diagnose(ctx context.Context, link tasks.Link) (diagnosis.Diagnosis, error) {
	now, err := o.diagnoses().Snapshot(ctx)
	if err != nil {
		return diagnosis.Diagnosis{}, err
	}
	state, err := o.diagnoses().Request(ctx, now, link)
	return diagnosis.Request(now, state), err
}

// DiagnoseBatch reports whether a batch gets its links.
func (o *Operator) DiagnoseBatch(ctx context.Context, b batch.Batch) (diagnosis.Diagnosis, error) {
	now, err := o.diagnoses().Snapshot(ctx)
	return diagnosis.Batch(now, b), err
}

func (o *Operator) diagnoses() *diagnosis.Reader { return diagnosis.NewReader(o.rdb, o.stores) }

// History reads everything that is known about a request.
func (o *Operator) History(ctx context.Context, id string) (h History, err error) {
	h.Link.Link, err = tasks.NewClient(o.rdb, tasks.Config{Account: o.account}).Get(ctx, id)
	if errors.Is(err, tasks.ErrNotFound) {
		return h, fmt.Errorf("%s: %w in account %q", id, err, o.account)
	}
	if err != nil {
		return h, err
	}
	records, err := o.stores.Records.History(ctx, id)
	if err != nil {
		return h, err
	}
	h.add(records)
	if !h.Status.Ended() {
		d, err := o.Diagnose(ctx, h.Link.Link)
		if err != nil {
			return h, fmt.Errorf("diagnose %s: %w", id, err)
		}
		h.Diagnosis = &d
	}
	deliveries, err := o.stores.Deliveries.ForRequest(ctx, id, func(event string, _ error) { h.Unreadable = append(h.Unreadable, event) })
	if err != nil {
		return h, err
	}
	for _, d := range deliveries {
		shown, err := o.ShowDelivery(ctx, d)
		if err != nil {
			return h, err
		}
		h.Deliveries = append(h.Deliveries, shown)
	}
	return h, nil
}

// add takes the generations, the latest first.
func (h *History) add(records []request.Record) {
	for i, r := range records {
		if i > 0 {
			h.Generations = append(h.Generations, linkview.Of(r, h.Batch, time.Now()))
			continue
		}
		h.Raw, h.HasKeptLink = r.Outcome.Raw, r.KeptLink() != ""
		h.Calls = callsOf(r)
		for _, o := range r.Past {
			h.Runs = append(h.Runs, Run{o.Run, string(o.Status), o.LinkID, o.URL, o.ExpiresAt, o.Reason, o.Message, o.EndedAt, o.Late})
		}
	}
}
