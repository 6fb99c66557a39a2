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
	stopping <-chan struct{} // closed when no call may be begun any more
	ending   <-chan struct{} // closed when answers in hand must be given up
}

// ProcessTask takes the turn of a request that the task stands for. It returns
// nil where the task has done its part, whatever came of the request, and a
// [*later] where it is to come again.
func (p *pipeline) ProcessTask(ctx context.Context, _ *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	ref, err := record.ParseRef(id)
	if err != nil {
		return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
	}
	return p.take(ctx, ref)
}

// take takes one turn. ctx ends when the queue has given the task to another.
func (p *pipeline) take(ctx context.Context, ref record.Ref) (err error) {
	earlier, entered := p.calls.enter(ref)
	if !entered {
		return &later{busyDelay} // another handler of this process has it still
	}
	// A call whose answer is lost stays so until a mark has counted it.
	settled := earlier == record.Unsent
	defer func() {
		// asynq would keep the text of a panic, which may hold anything.
		if what := recover(); what != nil {
			p.log.Error("a handler panicked", zap.String("application_id", ref.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", what)), zap.StackSkip("stack", 1))
			err = &later{p.policy.pause()}
		}
		p.calls.leave(ref, settled)
	}()

	for renewed := false; ; renewed = true {
		if wait := p.ready(ctx); wait != nil {
			return wait
		}
		verdict, attempt, err := p.mark(ctx, ref, earlier)
		if err != nil {
			return p.failed("mark", ref, err)
		}
		settled = verdict != record.Call
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

		again, err := p.call(ctx, attempt, renewed)
		if err != nil {
			return p.failed("record", ref, err)
		}
		settled, earlier = true, record.Unsent
		switch {
		case again == nil:
			return nil
		case *again > 0 || renewed:
			return &later{*again}
		}
	}
}

// ready waits for what a call needs, and no longer than until the worker stops.
// The error is nil where the call may begin, else a [*later].
func (p *pipeline) ready(ctx context.Context) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.stopping:
			cancel()
		case <-waiting.Done():
		}
	}()
	f := p.upstream.Ready(waiting)
	switch {
	case closed(p.stopping) || ctx.Err() != nil:
		return &later{} // for another process to take up
	case f != nil:
		p.limited.Warn(f.Error(), zap.String("reason", string(f.Reason())))
		return &later{max(f.RetryAfter, p.policy.pause())}
	}
	return nil
}

// mark tries again while Redis is away: where a mark was made and its reply was
// lost, this process alone knows that no call followed it.
func (p *pipeline) mark(ctx context.Context, ref record.Ref, earlier record.Earlier) (record.Verdict, record.Attempt, error) {
	for {
		// To break a mark off, because the worker stops, would be to lose its reply.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		verdict, attempt, err := p.ledger.Mark(once, ref, p.defaults, earlier)
		cancel()
		if err == nil || p.gaveUp(err) {
			return verdict, attempt, err
		}
		p.limited.Warn("a call could not be marked; trying again", zap.Error(err))
		select {
		case <-time.After(recordPause):
		case <-p.stopping:
			return "", record.Attempt{}, err
		case <-ctx.Done():
			return "", record.Attempt{}, err
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// call sends the one call of an attempt and records what it brought. again is
// how long to wait before the next attempt, nil where there is none. An error
// means that the answer could not be recorded before the process ended.
func (p *pipeline) call(ctx context.Context, a record.Attempt, renewed bool) (again *time.Duration, err error) {
	begun := time.Now()
	// A call that was sent is seen through: to break it off would make its
	// outcome unknown.
	made, f := p.createLink(context.WithoutCancel(ctx), a)
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

// createLink makes a fault of a panic: a request that brings one about each
// time is not called for ever, and its doubt is counted.
func (p *pipeline) createLink(ctx context.Context, a record.Attempt) (made record.Made, f *fault.Fault) {
	defer func() {
		if what := recover(); what != nil {
			p.log.Error("a call panicked", zap.String("application_id", a.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", what)), zap.StackSkip("stack", 1))
			made, f = record.Made{}, &fault.Fault{Kind: fault.Unreadable, Detail: "the program failed on the way"}
		}
	}()
	return p.upstream.CreateLink(ctx, a)
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
		p.limited.Warn("an answer could not be recorded; trying again", zap.Error(err))
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
