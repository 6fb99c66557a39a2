package bulk

import (
	"context"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Transitions is what a worker does to the ledger.
type Transitions interface {
	Mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error)
	Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error)
	Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error)
	Hold(ctx context.Context, r request.Record) (request.State, error)
	Expire(ctx context.Context, r request.Record) (request.State, error)
	Cancel(ctx context.Context, r request.Record) (request.State, error)
}

// Recorder writes every transition of a worker to the journal as well: that a
// call is about to be sent before it is, and what came of it before the worker
// goes on. It is for the embedded Redis, which forgets everything.
type Recorder struct {
	ledger Transitions
	get    func(ctx context.Context, applicationID string) (request.Record, bool, error)
	log    *Journal
}

// NewRecorder wraps a ledger; get reads a record of it.
func NewRecorder(ledger Transitions, get func(ctx context.Context, applicationID string) (request.Record, bool, error), log *Journal) *Recorder {
	return &Recorder{ledger, get, log}
}

// Mark marks an attempt, and returns when the disk knows of it.
func (r *Recorder) Mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	answer, err := r.ledger.Mark(ctx, ask)
	if err == nil && answer.Admission == attempt.Call {
		err = r.log.Append(ctx, Snapshot(answer.Attempt.Record))
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

// Hold records that an attempt died.
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

// keep writes the record as it is now. Another attempt of the same request may
// have changed it since: then that is what the disk should know.
func (r *Recorder) keep(ctx context.Context, applicationID string, err error) error {
	if err != nil {
		return err
	}
	now, ok, err := r.get(ctx, applicationID)
	if err != nil || !ok {
		return err
	}
	return r.log.Append(ctx, Snapshot(now))
}
