package otlp

import (
	"context"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/tracing"
)

// Process describes the process whose spans are sent. Account is "" if it works for several.
type Process struct{ Version, Account string }

// Start starts to send the spans of the returned provider. stop sends those that are left. The
// standard variables of OpenTelemetry configure the sampler, the resource and the batches.
//
// failed is called with what goes wrong later, possibly often and concurrently. It is that of
// the whole program: call Start once.
func Start(ctx context.Context, cfg Config, p Process, failed func(error)) (_ trace.TracerProvider, stop func(context.Context) error, err error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(failed))
	attributes := []attribute.KeyValue{attribute.String("service.name", "kyclink"), attribute.String("service.version", p.Version)}
	if p.Account != "" {
		attributes = append(attributes, attribute.String("kyclink.account", p.Account))
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(attributes...), resource.WithFromEnv())
	if err != nil { // the rest of the resource is there
		failed(err)
	}
	exporter, err := otlptrace.New(ctx, newClient(cfg))
	if err != nil {
		return nil, nil, fmt.Errorf("start the exporter of traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithBatcher(limited{exporter}))
	return provider, provider.Shutdown, nil
}

// permitted are the attributes that leave the process. Libraries set others, such as the path
// of an HTTP request, which may contain an application ID.
var permitted = []attribute.Key{
	tracing.LaneKey, tracing.AttemptKey, tracing.OutcomeKey, tracing.ReasonKey, tracing.RequestsKey,
	"http.request.method", "http.response.status_code", "http.route",
}

// limited is an exporter that sends only permitted attributes, and no events and texts.
type limited struct{ sdktrace.SpanExporter }

// ExportSpans implements [sdktrace.SpanExporter].
func (l limited) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	sent := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		sent[i] = limitedSpan{s}
	}
	return l.SpanExporter.ExportSpans(ctx, sent)
}

// limitedSpan is a span as [limited] sends it.
type limitedSpan struct{ sdktrace.ReadOnlySpan }

// SpanContext returns the context without the state of the trace: it is text of any caller.
func (s limitedSpan) SpanContext() trace.SpanContext {
	return s.ReadOnlySpan.SpanContext().WithTraceState(trace.TraceState{})
}

// Attributes returns those that are permitted.
func (s limitedSpan) Attributes() []attribute.KeyValue {
	return slices.DeleteFunc(slices.Clone(s.ReadOnlySpan.Attributes()), func(a attribute.KeyValue) bool {
		return !slices.Contains(permitted, a.Key)
	})
}

// Events returns none: those of libraries contain the texts of errors.
func (s limitedSpan) Events() []sdktrace.Event { return nil }

// Status returns the code alone.
func (s limitedSpan) Status() sdktrace.Status {
	return sdktrace.Status{Code: s.ReadOnlySpan.Status().Code}
}
