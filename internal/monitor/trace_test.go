package monitor

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

// Histograms of a lane lead to a trace if it is sampled.
func TestMetrics_HaveExemplarsOfSampledTraces(t *testing.T) {
	o := newServer(fakeAccount{})
	at := trace.SpanContextConfig{TraceID: trace.TraceID{1: 0xab}, SpanID: trace.SpanID{2: 0xcd}}
	unsampled := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(at))
	at.TraceFlags = trace.FlagsSampled
	sampled := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(at))
	o.Admitted(sampled, tasks.Interactive, 3*time.Millisecond)
	o.Attempt(sampled, tasks.Interactive, fault.LabelCreated, "", 200*time.Millisecond)
	o.Created(sampled, tasks.Interactive, 20*time.Second)
	o.Created(unsampled, tasks.Bulk, 20*time.Second)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, serve(t, o, alwaysReady)+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	const exemplar = ` # {trace_id="00ab0000000000000000000000000000"} `
	for _, want := range []string{
		`kyclink_admission_wait_seconds_bucket{lane="interactive",le="0.005"} 1` + exemplar + "0.003",
		`kyclink_call_duration_seconds_bucket{outcome="created",le="0.25"} 1` + exemplar + "0.2",
		`kyclink_link_duration_seconds_bucket{lane="interactive",le="60.0"} 1` + exemplar + "20.0",
	} {
		if !strings.Contains(string(body), "\n"+want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if n := strings.Count(string(body), "# {"); n != 3 {
		t.Errorf("%d exemplars, want 3: a span that is not sampled has none", n)
	}
}

// A scraper that reads native histograms gets them beside the buckets.
func TestMetrics_HaveNativeHistograms(t *testing.T) {
	want := map[string]bool{
		"kyclink_admission_wait_seconds": true, "kyclink_call_duration_seconds": true, "kyclink_link_duration_seconds": true,
		"kyclink_callback_duration_seconds": true, "kyclink_http_request_duration_seconds": true,
	}
	for _, f := range gather(t, busy()) {
		h := f.GetMetric()[0].GetHistogram()
		if h == nil {
			continue
		}
		if h.Schema == nil || len(h.GetBucket()) < 2 || !want[f.GetName()] {
			t.Errorf("%s has the schema %v of native buckets and %d others; want both in each histogram", f.GetName(), h.Schema, len(h.GetBucket()))
		}
		delete(want, f.GetName())
	}
	if len(want) > 0 {
		t.Errorf("missing histograms: %v", want)
	}
}
