package worker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Ledger is what the pipeline needs of what is known of a request.
type Ledger interface {
	// Mark asks whether a turn may be called now, and where it may makes that
	// known in the same step.
	Mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error)
	// Created and Fault record how an attempt ended, and give the state that
	// the request is in then; "" where it is no longer this attempt's.
	Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error)
	Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error)
	// Hold ends an attempt that died with its process: the request is a person's.
	Hold(ctx context.Context, r request.Record) (request.State, error)
	// Expire and Cancel end a request without a call.
	Expire(ctx context.Context, r request.Record) (request.State, error)
	Cancel(ctx context.Context, r request.Record) (request.State, error)
}

// pipeline is the life of one request, from the moment that its task is taken
// from the queue.
type pipeline struct {
	ledger   Ledger
	gate     Gate
	bin      Bin
	upstream Upstream
	policy   policy
	defaults request.Defaults
	calls    *calls
	auto     bool        // slots follow the rate
	shut     atomic.Bool // the gate was closed when this process last asked
	log      *zap.Logger // one line an attempt
	limited  *zap.Logger // one line a kind of trouble, now and then
	meter    Meter
	dispatch func(context.Context, request.Lane, request.Ref) error // enqueues a task
	fatal    func(error)                                            // ends the worker
	stopping context.Context                                        //nolint:containedctx // done when no call may be begun any more
	ending   <-chan struct{}                                        // closed when answers in hand must be given up
}

// ProcessTask takes the turn of a request that the task stands for. It returns
// nil where the task has done its part, whatever came of the request, and a
// [*later] where it is to come again.
func (l *lane) ProcessTask(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	ref, err := request.ParseRef(id)
	if why := undecodable(task, err); why != "" {
		return l.putAside(ctx, task, id, why)
	}
	return l.take(ctx, ref)
}

// take takes one turn. ctx ends when the queue has given the task to another.
func (l *lane) take(ctx context.Context, ref request.Ref) (err error) {
	if !l.calls.enter(ref) {
		return &later{busyDelay} // another handler of this process has it still
	}
	failpoint.Hit("taken")
	defer func() {
		// asynq would keep the text of a panic, which may hold anything.
		if what := recover(); what != nil {
			l.log.Error("a handler panicked", zap.String("application_id", ref.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", what)), zap.StackSkip("stack", 1))
			err = l.panicked(ctx, ref)
		}
		l.calls.leave(ref)
	}()

	for renewed := false; ; {
		answer, err := l.admit(ctx, ref)
		if err != nil {
			return err
		}
		if answer.Admission != attempt.Call {
			return l.uncalled(ctx, ref, answer)
		}
		failpoint.Hit("marked")

		next, err := l.call(ctx, answer, renewed)
		if err != nil {
			return l.failed("record", ref, err)
		}
		if next.over {
			return nil
		}
		if !next.atOnce {
			return &later{next.after}
		}
		renewed = renewed || next.renewed
	}
}

// uncalled ends a task whose turn is not to be called now.
func (l *lane) uncalled(ctx context.Context, ref request.Ref, answer attempt.Answer) error {
	switch answer.Admission {
	case attempt.Busy:
		return &later{busyDelay}
	case attempt.Early:
		return early(answer.Wait)
	case attempt.Newer:
		return l.newer(ref)
	case attempt.Quarantine:
		return l.poison(ctx, ref, answer.Attempt.Nonce, "")
	case attempt.Dead:
		return l.failed("hold", ref, l.hold(ctx, answer.Attempt))
	case attempt.Kept:
		return l.failed("use the kept link", ref, l.useKept(ctx, answer.Attempt))
	case attempt.Expired:
		failpoint.Hit("ending")
		_, err := l.ledger.Expire(ctx, answer.Attempt.Record)
		return l.failed("expire", ref, err)
	case attempt.Cancel:
		_, err := l.ledger.Cancel(ctx, answer.Attempt.Record)
		return l.failed("cancel", ref, err)
	default: // stale, or left to another process
		return nil
	}
}

// next is what is to be done with a turn after a call.
type next struct {
	over    bool          // nothing
	atOnce  bool          // admit it again
	renewed bool          // with a new token
	after   time.Duration // let it come again
}

// call sends the one call of an attempt and records what it brought. An error
// means that the answer could not be recorded before the process ended.
func (l *lane) call(ctx context.Context, answer attempt.Answer, renewed bool) (next, error) {
	a := answer.Attempt
	begun := time.Now()
	// A call that was sent is seen through: to break it off would make its
	// outcome unknown.
	made, f := l.createLink(context.WithoutCancel(ctx), a)
	a.Took = time.Since(begun)
	l.slots.end(a.Took, f)
	failpoint.Hit("called")
	var state request.State
	if f == nil {
		err := l.insist(ctx, func(ctx context.Context) (err error) {
			state, err = l.ledger.Created(ctx, a, made)
			return err
		})
		l.logAttempt(a, state, nil, err)
		return next{over: true}, err
	}

	decision := l.policy.next(f, a.Attempts, answer.Probe)
	renew := f.Renewed && !renewed
	if renew {
		decision.Delay = 0 // a new token is all that it takes
	}
	err := l.insist(ctx, func(ctx context.Context) (err error) {
		state, err = l.ledger.Fault(ctx, a, f, decision)
		return err
	})
	l.logAttempt(a, state, f, err)
	return next{
		over:    state != request.Queued,
		atOnce:  renew || decision.Action == attempt.Requeue,
		renewed: renew,
		after:   decision.Delay,
	}, err
}

// hold leaves to a person what an attempt made that died without an answer.
func (p *pipeline) hold(ctx context.Context, a attempt.Attempt) error {
	state, err := p.ledger.Hold(ctx, a.Record)
	if err == nil {
		p.log.Warn("an attempt died without an answer, and may have made a link",
			zap.String("application_id", a.ApplicationID), zap.Int("generation", a.Generation), zap.Int("run", a.Run),
			zap.Int("attempt", a.Attempts), zap.String("lane", string(a.Lane)), zap.String("status", string(state)))
	}
	return err
}

// createLink makes a fault of a panic: a request that brings one about each
// time is not called for ever, and its doubt is counted.
func (p *pipeline) createLink(ctx context.Context, a attempt.Attempt) (made request.Link, f *fault.Fault) {
	defer func() {
		if what := recover(); what != nil {
			p.log.Error("a call panicked", zap.String("application_id", a.ApplicationID),
				zap.String("type", fmt.Sprintf("%T", what)), zap.StackSkip("stack", 1))
			made, f = request.Link{}, &fault.Fault{Kind: fault.Unreadable, Detail: "the program failed on the way"}
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
		failpoint.Hit("recorded")
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
func (p *pipeline) failed(step string, ref request.Ref, err error) error {
	if err == nil {
		return nil
	}
	if !p.gaveUp(err) {
		p.log.Warn("a request could not be taken a step further; it comes again",
			zap.String("step", step), zap.String("application_id", ref.ApplicationID), zap.Error(err))
	}
	return &later{p.policy.pause()}
}

func (p *pipeline) logAttempt(a attempt.Attempt, state request.State, f *fault.Fault, err error) {
	p.meter.Attempt(a, f)
	if f == nil && err == nil && !p.log.Core().Enabled(zap.DebugLevel) {
		return
	}
	if state == "" {
		state = "superseded"
	}
	fields := []zap.Field{
		zap.String("application_id", a.ApplicationID), zap.Int("generation", a.Generation), zap.Int("run", a.Run),
		zap.Int("attempt", a.Attempts), zap.String("lane", string(a.Lane)), zap.String("status", string(state)),
		zap.Duration("took", a.Took),
	}
	if f != nil {
		fields = append(fields, zap.String("reason", string(f.Reason())), zap.Stringer("outcome", f.Outcome()), zap.String("message", f.Error()))
	}
	switch {
	case err != nil:
		p.log.Error("attempt: its answer could not be recorded", append(fields, zap.Error(err))...)
	case f == nil, state == request.Queued:
		p.log.Debug("attempt", fields...)
	default:
		p.log.Info("attempt", fields...)
	}
	if f != nil && state == request.Queued {
		p.limited.Warn(f.Means(), fields...)
	}
}
