package worker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
)

// Ledger is what the pipeline needs of what is known of a request.
type Ledger interface {
	// Mark makes known that a turn is about to be called.
	Mark(ctx context.Context, ref record.Ref, d record.Defaults, earlier record.Earlier) (record.Verdict, record.Attempt, error)
	// Created and Fault record how an attempt ended, and give the state that
	// the request is in then; "" where it is no longer this attempt's.
	Created(ctx context.Context, a record.Attempt, made record.Made) (record.State, error)
	Fault(ctx context.Context, a record.Attempt, f *fault.Fault, next record.Next) (record.State, error)
	// Expire and Cancel end a request without a call.
	Expire(ctx context.Context, r record.Record) (record.State, error)
	Cancel(ctx context.Context, r record.Record) (record.State, error)
}

// Upstream makes links.
type Upstream interface {
	// Ready gets what a call needs beforehand, so that between the mark and the
	// call there is nothing left to wait for.
	Ready(ctx context.Context) *fault.Fault
	// CreateLink sends one call at most, with a deadline of its own, and never
	// sends it again by itself.
	CreateLink(ctx context.Context, a record.Attempt) (record.Made, *fault.Fault)
}

// pipeline is the life of one request, from the moment that its task is taken
// from the queue.
type pipeline struct {
	ledger   Ledger
	upstream Upstream
	policy   policy
	defaults record.Defaults
	calls    *calls
	log      *zap.Logger     // one line an attempt
	limited  *zap.Logger     // one line a kind of trouble, now and then
	fatal    func(error)     // ends the worker
	ending   <-chan struct{} // closed when answers in hand must be given up
}

// ProcessTask takes one turn of a request. It returns nil where the task has
// done its part, whatever came of the request, and a [*later] where it is to
// come again.
func (p *pipeline) ProcessTask(ctx context.Context, _ *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	ref, err := record.ParseRef(id)
	if err != nil {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	earlier, entered := p.calls.enter(ref)
	if !entered {
		return &later{busyDelay} // another handler of this process has it still
	}
	settled := true
	defer func() { p.calls.leave(ref, settled) }()

	for renewed := false; ; renewed = true {
		if f := p.upstream.Ready(ctx); f != nil {
			p.limited.Warn(f.Error(), zap.String("reason", string(f.Reason())))
			return &later{max(f.RetryAfter, p.policy.pause())}
		}
		verdict, attempt, err := p.ledger.Mark(ctx, ref, p.defaults, earlier)
		if err != nil {
			return p.failed("mark", ref, err)
		}
		switch verdict {
		case record.Call:
		case record.Busy:
			return &later{busyDelay}
		case record.Expired:
			_, err = p.ledger.Expire(ctx, attempt.Record)
			return p.failed("expire", ref, err)
		case record.CancelNext:
			_, err = p.ledger.Cancel(ctx, attempt.Record)
			return p.failed("cancel", ref, err)
		default: // stale
			return nil
		}

		settled = false
		again, err := p.call(ctx, attempt, renewed)
		settled = err == nil
		switch {
		case err != nil:
			return p.failed("record", ref, err)
		case again == nil:
			return nil
		case *again > 0 || renewed:
			return &later{*again}
		}
	}
}

// call sends the one call of an attempt and records what it brought. again is
// how long to wait before the next attempt, nil where there is none. An error
// means that the answer could not be recorded before the process ended.
func (p *pipeline) call(ctx context.Context, a record.Attempt, renewed bool) (again *time.Duration, err error) {
	begun := time.Now()
	// A call that was sent is seen through: to break it off would make its
	// outcome unknown.
	made, f := p.upstream.CreateLink(context.WithoutCancel(ctx), a)
	took := time.Since(begun)
	if f == nil {
		var state record.State
		err := p.insist(ctx, func(ctx context.Context) (err error) {
			state, err = p.ledger.Created(ctx, a, made)
			return err
		})
		p.logAttempt(a, state, took, nil, err)
		return nil, err
	}

	next := p.policy.next(f, a.Attempts)
	if f.Renewed && !renewed {
		next.Delay = 0 // a new token is all that it takes
	}
	var state record.State
	err = p.insist(ctx, func(ctx context.Context) (err error) {
		state, err = p.ledger.Fault(ctx, a, f, next)
		return err
	})
	p.logAttempt(a, state, took, f, err)
	if err != nil || state != record.Queued {
		return nil, err
	}
	return &next.Delay, nil
}

// insist records an answer in hand. While Redis is away it tries again at least
// every second, until the process ends: the answer may be a paid link.
func (p *pipeline) insist(ctx context.Context, record func(context.Context) error) error {
	for {
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		err := record(once)
		cancel()
		if err == nil || p.gaveUp(err) {
			return err
		}
		p.log.Warn("an answer could not be recorded; trying again", zap.Error(err))
		select {
		case <-time.After(recordPause):
		case <-p.ending:
			return err
		}
	}
}

// gaveUp ends the worker where the account's links are of the other kind:
// nothing that it does can be right then.
func (p *pipeline) gaveUp(err error) bool {
	var fatal interface{ Fatal() bool }
	if errors.As(err, &fatal) && fatal.Fatal() {
		p.fatal(err)
		return true
	}
	return false
}

// failed is what a handler returns where a step met an error: the task comes
// again, and the queue keeps no text that might tell a secret.
func (p *pipeline) failed(step string, ref record.Ref, err error) error {
	if err == nil {
		return nil
	}
	if !p.gaveUp(err) {
		p.log.Warn("a request could not be taken a step further; it comes again",
			zap.String("step", step), zap.String("application_id", ref.ApplicationID), zap.Error(err))
	}
	return &later{p.policy.pause()}
}

func (p *pipeline) logAttempt(a record.Attempt, state record.State, took time.Duration, f *fault.Fault, err error) {
	if state == "" {
		state = "superseded"
	}
	fields := []zap.Field{
		zap.String("application_id", a.ApplicationID), zap.Int("generation", a.Generation), zap.Int("run", a.Run),
		zap.Int("attempt", a.Attempts), zap.String("lane", string(a.Lane)), zap.String("status", string(state)),
		zap.Duration("took", took),
	}
	if f != nil {
		fields = append(fields, zap.String("reason", string(f.Reason())), zap.Stringer("outcome", f.Outcome()), zap.String("message", f.Error()))
	}
	switch {
	case err != nil:
		p.log.Error("attempt: its answer could not be recorded", append(fields, zap.Error(err))...)
	case f == nil, state == record.Queued:
		p.log.Debug("attempt", fields...)
	default:
		p.log.Info("attempt", fields...)
	}
	if f != nil && f.Party() != fault.ThisRequest {
		p.limited.Warn(f.Error(), fields...)
	}
}
