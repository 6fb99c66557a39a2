// Package tracing makes the spans of a request: from its accept to its callback, which
// different processes make at different times. The context that connects them is stored with
// the request.
//
// Everyone who can read traces may read all of a span: no span has an application ID, a link,
// a URL, an error's text or a host. What a span may have is what the methods of [Span] set.
//
// Nothing here allocates memory unless a tracer provider is given.
package tracing

import (
	"context"
	"encoding/base64"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Keys of the attributes of spans.
const (
	LaneKey     attribute.Key = "kyclink.lane"
	AttemptKey  attribute.Key = "kyclink.attempt"  // number of the attempt, from 1
	OutcomeKey  attribute.Key = "kyclink.outcome"  // what became of it
	ReasonKey   attribute.Key = "kyclink.reason"   // of the fault or the refusal, from a closed list
	RequestsKey attribute.Key = "kyclink.requests" // how many were accepted together
)

// Tracer starts spans. A nil Tracer starts none.
type Tracer struct{ tracer trace.Tracer }

// New returns a tracer whose spans go to provider; nil if that is nil.
func New(provider trace.TracerProvider) *Tracer {
	if provider == nil {
		return nil
	}
	return &Tracer{provider.Tracer("github.com/kyclink/kyclink")}
}

// Start starts a span within that of ctx.
func (t *Tracer) Start(ctx context.Context, name string, kind trace.SpanKind) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{span}
}

// Origin is where the work of a span was asked for.
type Origin struct {
	// Stored is the stored context; "" if there is none.
	Stored string
	// Own says that the span belongs to the trace of that context. Otherwise it begins a
	// trace, with a link to the context.
	Own bool
}

// Continue starts a span for work that was asked for earlier and that began at a time, zero
// for now.
func (t *Tracer) Continue(ctx context.Context, name string, kind trace.SpanKind, from Origin, began time.Time) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kind)}
	if !began.IsZero() {
		options = append(options, trace.WithTimestamp(began))
	}
	origin := parse(from.Stored)
	switch {
	case origin.IsValid() && from.Own:
		ctx = trace.ContextWithRemoteSpanContext(ctx, origin)
	case origin.IsValid():
		options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.Link{SpanContext: origin}))
	default:
		options = append(options, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(ctx, name, options...)
	return ctx, Span{span}
}

// Measured adds a span, within that of ctx, for what began at a time and has just ended.
func (t *Tracer) Measured(ctx context.Context, name string, began time.Time) {
	if t == nil {
		return
	}
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began))
	span.End()
}

// Stored returns the context of the span of ctx, to be stored with a request; "" unless the
// span is sampled.
func (t *Tracer) Stored(ctx context.Context) string {
	if t == nil {
		return ""
	}
	at := trace.SpanContextFromContext(ctx)
	if !at.IsSampled() {
		return ""
	}
	traceID, spanID := at.TraceID(), at.SpanID()
	return base64.RawURLEncoding.EncodeToString(append(traceID[:], spanID[:]...))
}

// parse parses what [Tracer.Stored] returned. The result is not valid if that is "", or of a
// newer version.
func parse(stored string) trace.SpanContext {
	var cfg trace.SpanContextConfig
	raw, err := base64.RawURLEncoding.DecodeString(stored)
	if err != nil || len(raw) != len(cfg.TraceID)+len(cfg.SpanID) {
		return trace.SpanContext{}
	}
	copy(cfg.TraceID[:], raw)
	copy(cfg.SpanID[:], raw[len(cfg.TraceID):])
	cfg.TraceFlags, cfg.Remote = trace.FlagsSampled, true
	return trace.NewSpanContext(cfg)
}

// TraceID returns the ID of the trace that ctx is part of; "" unless it is sampled.
func TraceID(ctx context.Context) string {
	if at := trace.SpanContextFromContext(ctx); at.IsSampled() {
		return at.TraceID().String()
	}
	return ""
}

// Span is one step. The zero Span records nothing.
type Span struct{ span trace.Span }

// End ends the span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}

// Lane sets the lane.
func (s Span) Lane(lane string) {
	if s.span != nil {
		s.span.SetAttributes(LaneKey.String(lane))
	}
}

// Attempt sets the number of the attempt.
func (s Span) Attempt(number int) {
	if s.span != nil {
		s.span.SetAttributes(AttemptKey.Int(number))
	}
}

// Requests sets the number of requests.
func (s Span) Requests(n int) {
	if s.span != nil {
		s.span.SetAttributes(RequestsKey.Int(n))
	}
}

// Outcome sets what became of it, and why it failed; reason is "" if it did not.
func (s Span) Outcome(outcome, reason string) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(OutcomeKey.String(outcome))
	if reason != "" {
		s.span.SetAttributes(ReasonKey.String(reason))
		s.span.SetStatus(codes.Error, "")
	}
}

// Failed marks the span as failed, if err is not nil. It does not record the error, whose text
// may name a person.
func (s Span) Failed(err error, reason string) {
	if s.span == nil || err == nil {
		return
	}
	s.span.SetStatus(codes.Error, "")
	if reason != "" {
		s.span.SetAttributes(ReasonKey.String(reason))
	}
}
