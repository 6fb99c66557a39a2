package worker

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/tracing"
	"github.com/kyclink/kyclink/tasks"
)

// attemptObserver records the metrics and the spans of attempts.
type attemptObserver struct {
	meter  Meter
	tracer *tracing.Tracer
}

func newAttemptObserver(t Telemetry) *attemptObserver {
	return &attemptObserver{t.Meter, tracing.New(t.TracerProvider)}
}

// admitted records that an attempt was admitted whose turn was taken at a time. It starts the
// span of the attempt, which the caller ends. The first attempt of an interactive request is
// a part of the trace in which it was accepted. Any other attempt has a trace of its own: a
// trace of a whole batch, or of a night's retries, could not be read.
func (o *attemptObserver) admitted(ctx context.Context, a attempt.Attempt, taken time.Time) (context.Context, tracing.Span) {
	origin := tracing.Origin{Stored: a.Trace, Own: a.Content.Trace != "" && a.Lane == request.Interactive && a.Attempts == 1}
	ctx, span := o.tracer.Continue(ctx, "attempt", trace.SpanKindConsumer, origin, taken)
	span.Lane(string(a.Lane))
	span.Attempt(a.Attempts)
	o.tracer.Measured(ctx, "admission", taken)
	o.meter.Admitted(ctx, tasks.Lane(a.Lane), time.Since(taken))
	return ctx, span
}

// attempted records an attempt after which its request has a state. A call that was not sent
// was no attempt.
func (o *attemptObserver) attempted(ctx context.Context, a attempt.Attempt, f *fault.Fault, state request.State) {
	lane := tasks.Lane(a.Lane)
	if f == nil && state == request.Created {
		o.meter.Created(ctx, lane, max(a.Now().Sub(a.AcceptedAt), 0))
	}
	if f != nil && f.Scope() == fault.Ourselves {
		return
	}
	outcome, reason := outcomeOf(f)
	o.meter.Attempt(ctx, lane, outcome, reason, a.Took)
}

// ended ends the span of an attempt.
func (o *attemptObserver) ended(span tracing.Span, f *fault.Fault) {
	span.Outcome(outcomeOf(f))
	span.End()
}

// outcomeOf returns the labels of an attempt's outcome and of its reason, "" for a link.
func outcomeOf(f *fault.Fault) (outcome, reason string) {
	if f == nil {
		return fault.LabelCreated, ""
	}
	return f.Outcome().Label(), string(f.Reason())
}
