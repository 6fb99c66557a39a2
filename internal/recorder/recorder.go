// Package recorder writes a copy of each record that a worker changes to a journal. It
// serves an embedded Redis, which keeps nothing after its process.
package recorder

import (
	"context"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Journal stores records outside Redis.
type Journal interface {
	Write(ctx context.Context, r request.Record) error
}

// Ledger has the transitions of a worker.
type Ledger interface {
	admissions
	results
	ends
}

// admissions admits attempts.
type admissions interface {
	Admit(ctx context.Context, ask attempt.Query) (attempt.Answer, error)
}

// results records how attempts end.
type results interface {
	Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error)
	Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error)
}

// ends ends requests without a call.
type ends interface {
	Hold(ctx context.Context, r request.Record) (request.State, error)
	Expire(ctx context.Context, r request.Record) (request.State, error)
	Cancel(ctx context.Context, r request.Record) (request.State, error)
}

// Recorder is a [Ledger] that writes each record to the journal when it has changed:
// before a call is sent, and before the worker goes on after it.
type Recorder struct {
	ledger  Ledger
	get     func(ctx context.Context, applicationID string) (request.Record, bool, error)
	journal Journal
}

// New wraps a ledger; get reads a record of it.
func New(ledger Ledger, get func(ctx context.Context, applicationID string) (request.Record, bool, error), journal Journal) *Recorder {
	return &Recorder{ledger, get, journal}
}

// Admit admits an attempt, and returns when the journal has its record.
func (r *Recorder) Admit(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	answer, err := r.ledger.Admit(ctx, ask)
	if err == nil && answer.Admission == attempt.Call {
		err = r.journal.Write(ctx, answer.Attempt.Record)
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

// keep writes the record as it is now. Another attempt of the same request may have
// changed it since; the journal then gets the newer state.
func (r *Recorder) keep(ctx context.Context, applicationID string, err error) error {
	if err != nil {
		return err
	}
	now, ok, err := r.get(ctx, applicationID)
	if err != nil || !ok {
		return err
	}
	return r.journal.Write(ctx, now)
}
