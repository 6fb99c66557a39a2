package api

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// traced returns the handler of admitted requests, which makes a span for each one with a
// valid key: the traces of others are not continued. A span is named by method and route, as
// the path may contain an application ID.
func (a *API) traced() http.Handler {
	if a.TracerProvider == nil {
		return http.HandlerFunc(a.route)
	}
	routed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.route(w, r)
		if _, route, ok := strings.Cut(r.Pattern, " "); ok {
			trace.SpanFromContext(r.Context()).SetAttributes(attribute.String("http.route", route))
		}
	})
	return otelhttp.NewHandler(routed, "",
		otelhttp.WithTracerProvider(a.TracerProvider),
		otelhttp.WithMeterProvider(noop.NewMeterProvider()),
		otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithFilter(func(r *http.Request) bool { return callOf(r).key.ID != "" }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string {
			if r.Pattern == "" {
				return "HTTP"
			}
			return r.Pattern
		}),
	)
}
