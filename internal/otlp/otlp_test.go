package otlp_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/otlp"
)

func lookup(set map[string]string) func(string) string {
	return func(variable string) string { return set[variable] }
}

func TestLoad_FollowsTheStandardVariables(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		set      map[string]string
		endpoint string // "" if tracing is off
	}{
		{"nothing is set", nil, ""},
		{"an empty variable counts as not set", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""},
		{"the endpoint of all signals is a base", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318/base"}, "http://collector.example:4318/base/v1/traces"},
		{"that of traces is used as it is", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a.example", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://b.example/x"}, "https://b.example/x"},
		{"the SDK is disabled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a.example", "OTEL_SDK_DISABLED": "true"}, ""},
		{"traces have no exporter", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a.example", "OTEL_TRACES_EXPORTER": "none"}, ""},
		{"the protocol is named", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a.example", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://a.example/v1/traces"},
	} {
		cfg, problems := otlp.Load(lookup(tt.set))
		if len(problems) > 0 || cfg.On() != (tt.endpoint != "") || cfg.On() && cfg.Endpoint.String() != tt.endpoint {
			t.Errorf("%s: got %v, %v; want %q", tt.name, cfg.Endpoint, problems, tt.endpoint)
		}
	}
	cfg, problems := otlp.Load(lookup(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a.example", "OTEL_EXPORTER_OTLP_HEADERS": "x-team=kyc, authorization=Bearer%20hush,", "OTEL_EXPORTER_OTLP_TIMEOUT": "250",
	}))
	if want := map[string]string{"x-team": "kyc", "authorization": "Bearer hush"}; len(problems) > 0 || !reflect.DeepEqual(cfg.Headers, want) || cfg.Timeout.Milliseconds() != 250 {
		t.Errorf("got %+v, %v", cfg, problems)
	}
}

func TestLoad_ReportsAllProblemsWithoutSecrets(t *testing.T) {
	t.Parallel()
	_, problems := otlp.Load(lookup(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:hush@a.example", "OTEL_EXPORTER_OTLP_HEADERS": "authorization: hush", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s",
		"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": "/ca.pem", "OTEL_TRACES_EXPORTER": "zipkin",
	}))
	text := errors.Join(problems...).Error()
	for _, variable := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT is not", "OTEL_EXPORTER_OTLP_HEADERS is not", "OTEL_EXPORTER_OTLP_TIMEOUT is", "OTEL_EXPORTER_OTLP_PROTOCOL is",
		"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE is not", "OTEL_TRACES_EXPORTER is",
	} {
		if !strings.Contains(text, variable) {
			t.Errorf("no problem begins with %q:\n%s", variable, text)
		}
	}
	if strings.Contains(text, "hush") {
		t.Errorf("a problem shows a secret:\n%s", text)
	}
}

// The error handler of OpenTelemetry is one for the whole program: these tests are not parallel.
func TestStart_SendsOnlyPermittedAttributes(t *testing.T) {
	collector := fixture.NewCollector(t, map[string]string{"Authorization": "Bearer hush"})
	cfg, problems := otlp.Load(lookup(map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hush",
	}))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	provider, stop, err := otlp.Start(t.Context(), cfg, otlp.Process{Version: "v1", Account: "shop"}, func(err error) { t.Error(err) })
	fixture.Must(t, err)
	state, err := trace.ParseTraceState("caller=A-1001")
	fixture.Must(t, err)
	caller := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true,
	})
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), caller)
	_, span := provider.Tracer("some library").Start(ctx, "GET /v1/links/{application_id}", trace.WithLinks(trace.Link{SpanContext: caller}), trace.WithAttributes(
		attribute.String("url.path", "/v1/links/A-1001"), attribute.String("http.request.method", "GET"), attribute.Int("http.response.status_code", 200)))
	span.AddEvent("exception", trace.WithAttributes(attribute.String("exception.message", "A-1001 is unknown")))
	span.SetStatus(codes.Error, "A-1001 is unknown")
	span.End()
	fixture.Must(t, stop(t.Context()))
	spans := collector.Spans()
	if len(spans) != 1 || len(collector.Wrong()) > 0 {
		t.Fatalf("got %+v, wrong: %v", spans, collector.Wrong())
	}
	if want := map[string]string{"http.request.method": "GET", "http.response.status_code": "200"}; !reflect.DeepEqual(spans[0].Attributes, want) || !spans[0].Failed {
		t.Errorf("got %+v, want the attributes %v", spans[0], want)
	}
	for key, want := range map[string]string{"service.name": "kyclink", "service.version": "v1", "kyclink.account": "shop"} {
		if got := spans[0].Resource[key]; got != want {
			t.Errorf("the process has %s %q, want %q", key, got, want)
		}
	}
	for _, body := range collector.Bodies() {
		if strings.Contains(string(body), "A-1001") {
			t.Errorf("the ID was sent: %q", body)
		}
	}
}

func TestStart_ReportsWhatIsLostWithoutSecrets(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.example/?key=hush", http.StatusTemporaryRedirect)
	}))
	defer refusing.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, tt := range []struct{ url, want string }{
		{refusing.URL, "the collector answered 307"},
		{closed.URL, "connection refused"},
	} {
		cfg, problems := otlp.Load(lookup(map[string]string{
			"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": strings.Replace(tt.url, "://", "://user:hush@", 1) + "/hush", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hush",
		}))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		var mu sync.Mutex
		var failures []string
		provider, stop, err := otlp.Start(t.Context(), cfg, otlp.Process{}, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failures = append(failures, err.Error())
		})
		fixture.Must(t, err)
		_, span := provider.Tracer("").Start(t.Context(), "accept")
		span.End()
		if err := stop(context.WithoutCancel(t.Context())); err != nil {
			failures = append(failures, err.Error())
		}
		mu.Lock()
		if text := fmt.Sprint(failures); !strings.Contains(text, tt.want) || !strings.Contains(text, "they are lost") || strings.Contains(text, "hush") {
			t.Errorf("got %s, want %q and no secret", text, tt.want)
		}
		mu.Unlock()
	}
}
