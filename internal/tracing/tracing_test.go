package tracing_test

import (
	"errors"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/tracing"
)

// recorded returns a tracer, and a function that returns its ended spans by name.
func recorded(sampler sdktrace.Sampler) (*tracing.Tracer, func(name string) sdktrace.ReadOnlySpan) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithSpanProcessor(spans))
	return tracing.New(provider), func(name string) sdktrace.ReadOnlySpan {
		for _, s := range spans.Ended() {
			if s.Name() == name {
				return s
			}
		}
		return nil
	}
}

func TestTracer_ContinuesWhatWasStored(t *testing.T) {
	tracer, ended := recorded(sdktrace.AlwaysSample())
	ctx, accept := tracer.Start(t.Context(), "accept", trace.SpanKindProducer)
	stored := tracer.Stored(ctx)
	accept.End()
	if len(stored) != 32 {
		t.Errorf("%q is stored, want 32 characters", stored)
	}
	began := time.Now().Add(-time.Hour)
	for name, from := range map[string]tracing.Origin{
		"own": {Stored: stored, Own: true}, "linked": {Stored: stored}, "unknown": {}, "unreadable": {Stored: "a newer version's", Own: true},
	} {
		// The span of the context at hand has nothing to do with the request.
		ctx, span := tracer.Continue(ctx, name, trace.SpanKindConsumer, from, began)
		tracer.Measured(ctx, "in "+name, began)
		span.End()
	}
	origin := ended("accept").SpanContext()
	if s := ended("own"); s.Parent().SpanID() != origin.SpanID() || s.Parent().TraceID() != origin.TraceID() || len(s.Links()) != 0 || !s.StartTime().Equal(began) {
		t.Errorf("own: parent %v, links %v, began %v", s.Parent(), s.Links(), s.StartTime())
	}
	if s := ended("linked"); s.Parent().IsValid() || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != origin.SpanID() {
		t.Errorf("linked: parent %v, links %v", s.Parent(), s.Links())
	}
	for _, name := range []string{"unknown", "unreadable"} {
		if s := ended(name); s.Parent().IsValid() || len(s.Links()) != 0 || s.SpanContext().TraceID() == origin.TraceID() {
			t.Errorf("%s: parent %v, links %v", name, s.Parent(), s.Links())
		}
	}
	if s := ended("in own"); s.Parent().SpanID() != ended("own").SpanContext().SpanID() || s.EndTime().Sub(s.StartTime()) < time.Hour {
		t.Errorf("in own: parent %v, took %v", s.Parent(), s.EndTime().Sub(s.StartTime()))
	}
}

func TestTracer_StoresOnlyWhatIsSampled(t *testing.T) {
	tracer, _ := recorded(sdktrace.NeverSample())
	ctx, span := tracer.Start(t.Context(), "accept", trace.SpanKindProducer)
	defer span.End()
	if stored, id := tracer.Stored(ctx), tracing.TraceID(ctx); stored != "" || id != "" {
		t.Errorf("%q is stored and %q logged of a span that is not sampled", stored, id)
	}
	sampled, _ := recorded(sdktrace.AlwaysSample())
	ctx, other := sampled.Start(t.Context(), "of the caller", trace.SpanKindInternal)
	defer other.End()
	if stored := tracing.New(nil).Stored(ctx); stored != "" {
		t.Errorf("%q is stored although tracing is off", stored)
	}
}

// Tracing is off in most processes: it must cost them nothing.
func TestTracer_AllocatesNothingWhenOff(t *testing.T) {
	tracer, ctx, err := tracing.New(nil), t.Context(), errors.New("some fault")
	if n := testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Continue(ctx, "attempt", trace.SpanKindConsumer, tracing.Origin{}, time.Now())
		_, call := tracer.Start(ctx, "call", trace.SpanKindClient)
		tracer.Measured(ctx, "admission", time.Now())
		span.Lane("bulk")
		span.Attempt(1)
		span.Requests(1)
		call.Outcome("no_link", "timeout")
		call.Failed(err, "timeout")
		call.End()
		span.End()
		if tracer.Stored(ctx) != "" || tracing.TraceID(ctx) != "" {
			t.Error("something is stored although tracing is off")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
