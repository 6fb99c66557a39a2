// Package recorder writes a copy of each record that a worker changes to a journal. It
// serves an embedded Redis, which keeps nothing after its process.
package recorder

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
)

// Journal stores records outside Redis.
type Journal interface {
	// Write stores a record, a [request.Snapshot] as JSON.
	Write(ctx context.Context, record []byte) error
}

// Recorder makes the transitions of a ledger, and writes each record to the journal when it
// has changed: before a call is sent, and before the worker continues after it.
type Recorder struct {
	ledger  *ledger.Ledger
	get     func(ctx context.Context, applicationID string) (request.Record, bool, error)
	journal Journal
}

// New returns a recorder of a ledger; get reads one of its records.
func New(ledger *ledger.Ledger, get func(ctx context.Context, applicationID string) (request.Record, bool, error), journal Journal) *Recorder {
	return &Recorder{ledger, get, journal}
}

// Admit admits an attempt, and returns when the journal has its record.
func (r *Recorder) Admit(ctx context.Context, query attempt.Query) (attempt.Decision, error) {
	answer, err := r.ledger.Admit(ctx, query)
	if err == nil && answer.Verdict == attempt.Call {
		err = r.write(ctx, answer.Attempt.Record)
	}
	return answer, err
}

// Created records a link.
func (r *Recorder) Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error) {
	state, err := r.ledger.Created(ctx, a, made)
	return state, r.keep(ctx, a.ApplicationID, err)
}

// Fault records a fault.
func (r *Recorder) Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error) {
	state, err := r.ledger.Fault(ctx, a, f, next)
	return state, r.keep(ctx, a.ApplicationID, err)
}

// Hold records that the process of an attempt died.
func (r *Recorder) Hold(ctx context.Context, rec request.Record) (request.State, error) {
	state, err := r.ledger.Hold(ctx, rec)
	return state, r.keep(ctx, rec.ApplicationID, err)
}

// Expire records an end without a call.
func (r *Recorder) Expire(ctx context.Context, rec request.Record) (request.State, error) {
	state, err := r.ledger.Expire(ctx, rec)
	return state, r.keep(ctx, rec.ApplicationID, err)
}

// Cancel records an end without a call.
func (r *Recorder) Cancel(ctx context.Context, rec request.Record) (request.State, error) {
	state, err := r.ledger.Cancel(ctx, rec)
	return state, r.keep(ctx, rec.ApplicationID, err)
}

// keep writes the current record. Another attempt of the same request may have changed it
// since; the journal then gets the newer state.
func (r *Recorder) keep(ctx context.Context, applicationID string, err error) error {
	if err != nil {
		return err
	}
	now, ok, err := r.get(ctx, applicationID)
	if err != nil || !ok {
		return err
	}
	return r.write(ctx, now)
}

func (r *Recorder) write(ctx context.Context, rec request.Record) error {
	snapshot, err := json.Marshal(rec.Snapshot())
	if err != nil {
		return &encodingError{rec.ApplicationID, err}
	}
	return r.journal.Write(ctx, snapshot)
}

// encodingError reports a record that cannot be encoded. A repetition would not help: it
// ends the worker.
type encodingError struct {
	applicationID string
	err           error
}

func (e *encodingError) Error() string {
	return fmt.Sprintf("encode the record of %s for the journal: %v", e.applicationID, e.err)
}

func (e *encodingError) Unwrap() error { return e.err }

// Fatal reports that a worker that meets this error must end.
func (*encodingError) Fatal() bool { return true }
