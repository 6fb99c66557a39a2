package worker

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/tracing"
)

// results records how attempts end. Both methods return the state of the request after
// it; "" if the attempt is no longer its current one.
type results interface {
	Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error)
	Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error)
}

// activityCounter counts what is shown as the activity of the account.
type activityCounter interface {
	Created()
	Failed(reason fault.Reason)
}

// resultRecorder is the stage that writes the results of calls to the ledger.
type resultRecorder struct {
	results  results
	life     *lifecycle.Lifecycle
	policy   policy
	observe  *attemptObserver
	activity activityCounter
	log      *zap.Logger // one line per attempt
	limited  *zap.Logger
}

// outcome is what happens to a turn after its call.
type outcome struct {
	ended   bool          // nothing: the task is done
	atOnce  bool          // it is admitted again at once
	renewed bool          // the same, with a new access token
	after   time.Duration // otherwise its task runs again after this delay
}

// result records the link or the fault of a call; renewed says that this turn has renewed
// its access token before. An error means that the process ends before the result could be
// recorded.
func (r *resultRecorder) result(ctx context.Context, c result, renewed bool) (outcome, error) {
	ctx, span := r.observe.tracer.Start(ctx, "record", trace.SpanKindInternal)
	defer span.End()
	var state request.State
	if c.fault == nil {
		err := r.life.Persist(ctx, func(ctx context.Context) (err error) {
			state, err = r.results.Created(ctx, c.attempt, c.link)
			return err
		})
		r.countActivity(state, nil, err)
		r.logAttempt(ctx, c.attempt, state, nil, err)
		span.Failed(err, "")
		return outcome{ended: true}, err
	}

	decision := r.policy.next(c.fault, c.attempt.Record, c.probe)
	renew := c.fault.Renewed && !renewed
	if renew {
		decision.Delay = 0 // only a new token is missing
	}
	err := r.life.Persist(ctx, func(ctx context.Context) (err error) {
		state, err = r.results.Fault(ctx, c.attempt, c.fault, decision)
		return err
	})
	r.countActivity(state, c.fault, err)
	r.logAttempt(ctx, c.attempt, state, c.fault, err)
	span.Failed(err, "")
	return outcome{
		ended:   state != request.Queued,
		atOnce:  renew || decision.Action == attempt.Requeue,
		renewed: renew,
		after:   decision.Delay,
	}, err
}

// kept records a link that an earlier attempt made, or holds the request again if the
// link still cannot be used: f says why.
func (r *resultRecorder) kept(ctx context.Context, a attempt.Attempt, link request.Link, f *fault.Fault) error {
	var state request.State
	err := r.life.Persist(ctx, func(ctx context.Context) (err error) {
		if f == nil {
			state, err = r.results.Created(ctx, a, link)
		} else {
			state, err = r.results.Fault(ctx, a, f, attempt.Next{Action: attempt.Hold})
		}
		return err
	})
	if err != nil {
		return err
	}
	if f == nil { // otherwise, no call was made
		r.countActivity(state, nil, nil)
	}
	fields := append(fieldsOf(a.Record), zap.String("status", string(state)))
	if f != nil {
		r.log.Warn("kept link still unusable", append(fields, zap.String("reason", string(f.Reason())), zap.String("message", f.Error()))...)
	} else {
		r.log.Info("kept link used", fields...)
	}
	return nil
}

// countActivity counts a link, or a call that was sent and made none, unless recording it
// failed. A superseded attempt made no link that anybody has.
func (r *resultRecorder) countActivity(state request.State, f *fault.Fault, err error) {
	switch {
	case err != nil:
	case f == nil && state == request.Created:
		r.activity.Created()
	case f != nil && f.Scope() != fault.Ourselves:
		r.activity.Failed(f.Reason())
	}
}

// logAttempt logs and counts an attempt.
func (r *resultRecorder) logAttempt(ctx context.Context, a attempt.Attempt, state request.State, f *fault.Fault, err error) {
	r.observe.attempted(ctx, a, f, state)
	if f == nil && err == nil && !r.log.Core().Enabled(zap.DebugLevel) {
		return
	}
	if state == "" {
		state = "superseded"
	}
	fields := append(fieldsOf(a.Record), zap.Int("attempt", a.Attempts), zap.String("status", string(state)), zap.Duration("took", a.Took))
	if id := tracing.TraceID(ctx); id != "" {
		fields = append(fields, zap.String("trace_id", id))
	}
	if f != nil {
		fields = append(fields, zap.String("reason", string(f.Reason())), zap.Stringer("outcome", f.Outcome()), zap.String("message", f.Error()))
	}
	switch {
	case err != nil:
		r.log.Error("attempt not recorded", append(fields, zap.Error(err))...)
	case f == nil, state == request.Queued:
		r.log.Debug("attempt", fields...)
	default:
		r.log.Info("attempt", fields...)
	}
	if f != nil && state == request.Queued {
		r.limited.Warn(f.Means(), fields...)
	}
}

// fieldsOf identifies a run of a request in the log.
func fieldsOf(r request.Record) []zap.Field {
	return []zap.Field{
		zap.String("application_id", r.ApplicationID), zap.Int("generation", r.Generation), zap.Int("run", r.Run), zap.String("lane", string(r.Lane)),
	}
}
