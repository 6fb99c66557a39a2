package main

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/logging"
	"github.com/kyclink/kyclink/internal/otlp"
)

// traceFlush limits how long the end of a process waits for a collector to take the last spans.
const traceFlush = 3 * time.Second

// startTracing starts to send spans, if the settings say where to. They are sent until the
// engine is closed.
func (e *engine) startTracing(ctx context.Context) error {
	if !e.cfg.Tracing.On() {
		return nil
	}
	limited := logging.Limited(e.log)
	provider, stop, err := otlp.Start(ctx, e.cfg.Tracing, otlp.Process{Version: version, Account: e.cfg.Account}, func(err error) {
		limited.Warn("tracing failed; check the collector and the OTEL_ variables", zap.Error(err))
	})
	if err != nil {
		return err
	}
	e.traces = provider
	e.closers = append(e.closers, func() {
		flushing, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceFlush)
		defer cancel()
		if err := stop(flushing); err != nil {
			e.log.Warn("the last spans were not sent", zap.Error(err))
		}
	})
	return nil
}

// accountTraces makes the spans of one of several accounts. They name it in the attributes of
// their scope, as those of the resource are the same for the whole process.
type accountTraces struct {
	trace.TracerProvider
	account string
}

// Tracer implements [trace.TracerProvider].
func (t accountTraces) Tracer(name string, options ...trace.TracerOption) trace.Tracer {
	return t.TracerProvider.Tracer(name, append(options, trace.WithInstrumentationAttributes(attribute.String("kyclink.account", t.account)))...)
}
