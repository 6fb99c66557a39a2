package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kyclink/kyclink/internal/fixture"
)

// steps are the names of the spans of an attempt that is recorded.
var steps = []string{"admission", "call", "record"}

// traced is what a collector has received.
type traced []fixture.CollectedSpan

// received returns what a collector has received, without attempts that were not sent: a
// process on a busy machine may be too late for its grant.
func received(c *fixture.Collector) traced {
	return slices.DeleteFunc(c.Spans(), func(s fixture.CollectedSpan) bool {
		return s.Name == "attempt" && s.Attributes["kyclink.outcome"] == "no_link" && s.Attributes["kyclink.reason"] == "paused"
	})
}

// find returns the spans with a name that apply.
func (all traced) find(name string, applies func(fixture.CollectedSpan) bool) traced {
	return slices.DeleteFunc(slices.Clone(all), func(s fixture.CollectedSpan) bool { return s.Name != name || !applies(s) })
}

// under returns the spans with a name that have a parent.
func (all traced) under(name string, parent fixture.CollectedSpan) traced {
	return all.find(name, func(s fixture.CollectedSpan) bool { return s.Parent == parent.SpanID && s.TraceID == parent.TraceID })
}

// linked returns the spans with a name that begin a trace with a link to a span.
func (all traced) linked(name string, to fixture.CollectedSpan) traced {
	return all.find(name, func(s fixture.CollectedSpan) bool {
		return s.Parent == "" && s.TraceID != to.TraceID && slices.Equal(s.Links, []string{to.SpanID})
	})
}

// one returns the only span of a list.
func (all traced) one(t *testing.T, what string) fixture.CollectedSpan {
	t.Helper()
	if len(all) != 1 {
		t.Fatalf("%d spans are %s, want 1: %+v", len(all), what, all)
	}
	return all[0]
}

// expectAttempt checks an attempt and its steps.
func (all traced) expectAttempt(t *testing.T, a fixture.CollectedSpan, lane string, number int, outcome, reason string) {
	t.Helper()
	if a.Attributes["kyclink.lane"] != lane || a.Attributes["kyclink.attempt"] != fmt.Sprint(number) ||
		a.Attributes["kyclink.outcome"] != outcome || a.Attributes["kyclink.reason"] != reason || a.Failed != (reason != "") {
		t.Errorf("the attempt is %+v, want lane %s, number %d, outcome %s and reason %q", a, lane, number, outcome, reason)
	}
	for _, step := range steps {
		s := all.under(step, a).one(t, "the "+step+" of an attempt")
		if step == "call" && s.Attributes["kyclink.outcome"] != outcome {
			t.Errorf("the call is %+v, want the outcome %s", s, outcome)
		}
	}
}

// A request, one over HTTP with a retry and a batch leave traces from their accept to their
// callbacks, which name nobody.
func TestTracing_FollowsRequestsFromAcceptToCallback(t *testing.T) {
	t.Parallel()
	const batchRows = 3
	server := newRedis(t)
	_, sim := upstream(t, `{"rules":[{"match":"RETRIED-*","times":1,"fault":"http_500"}]}`)
	receiver := newReceiver(t, 0, 0, newSecret)
	collector := fixture.NewCollector(t, map[string]string{"X-Key": "collector-secret"})
	settings := append(hooked(sim, server, newSecret), "FACEKI_CLIENT_ID=shop-client", "FACEKI_CLIENT_SECRET=hush-hush-hush", "KYCLINK_LOG_LEVEL=debug",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=collector-secret", "OTEL_BSP_SCHEDULE_DELAY=50")
	w := start(t, settings, "worker", "--simulate")
	if code, _, stderr := kyclink(t, settings, "request", "--application-id", "PERSON-4711", "--callback-url", receiver.url(), "--wait=4m"); code != 0 {
		t.Fatalf("request: %d %s", code, stderr)
	}
	s := startServe(t, server.URL, settings...)
	const caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	if status, body := s.ask(http.DefaultClient, "POST", "http://"+s.addr+"/v1/links", `{"application_id":"RETRIED-4712"}`, "traceparent", caller); status != http.StatusAccepted {
		t.Fatalf("POST /v1/links: %d %s", status, body)
	}
	if status, body := s.ask(http.DefaultClient, "GET", "http://"+s.addr+"/v1/links/RETRIED-4712", ""); status != http.StatusOK {
		t.Fatalf("GET /v1/links/…: %d %s", status, body)
	}
	const stranger = "0af7651916cd43dd8448eb211c80319c"
	for path, want := range map[string]int{"links": http.StatusUnauthorized, "openapi.yaml": http.StatusOK} {
		if status, body := s.ask(http.DefaultClient, "GET", "http://"+s.addr+"/v1/"+path, "", "Authorization", "Bearer invented", "traceparent", "00-"+stranger+"-00f067aa0ba902b7-01"); status != want {
			t.Errorf("GET /v1/%s without a valid key: %d %s", path, status, body)
		}
	}
	file := write(t, filepath.Join(t.TempDir(), "people.csv"), "application_id,callback_url\nROW-1,"+receiver.url()+"\nROW-2,\nROW-3,\n")
	if code, _, stderr := kyclink(t, settings, "import", file, "--batch", "spring"); code != 0 {
		t.Fatalf("import: %d %s", code, stderr)
	}
	var all traced
	fixture.Eventually(t, "all attempts and callbacks have arrived", func() bool {
		all = received(collector)
		any := func(fixture.CollectedSpan) bool { return true }
		return len(all.find("attempt", any)) == 1+2+batchRows && len(all.find("callback", any)) == 2
	})
	w.signal(syscall.SIGTERM)
	s.signal(syscall.SIGTERM)
	w.exit()
	s.exit()
	all = received(collector)
	if strange := slices.IndexFunc(all, func(s fixture.CollectedSpan) bool { return s.TraceID == stranger }); strange >= 0 {
		t.Errorf("a trace was continued without a valid key: %+v", all[strange])
	}

	root := func(s fixture.CollectedSpan) bool { return s.Parent == "" }
	accept := all.under("accept", all.find("request", root).one(t, "the command")).one(t, "the accept of the command")
	first := all.under("attempt", accept).one(t, "its attempt")
	all.expectAttempt(t, first, "interactive", 1, "created", "")
	if callback := all.under("callback", accept).one(t, "its callback"); callback.Attributes["kyclink.outcome"] != "delivered" {
		t.Errorf("the callback is %+v", callback)
	}

	post := all.find("POST /v1/links", func(s fixture.CollectedSpan) bool { return s.Parent == "00f067aa0ba902b7" }).one(t, "the call of the API")
	accept = all.under("accept", post).one(t, "its accept")
	all.expectAttempt(t, all.under("attempt", accept).one(t, "its first attempt"), "interactive", 1, "unknown", "upstream_error")
	all.expectAttempt(t, all.linked("attempt", accept).one(t, "its retry"), "interactive", 2, "created", "")
	get := all.find("GET /v1/links/{application_id}", root).one(t, "the read over the API")
	if get.Attributes["http.response.status_code"] != "200" || get.Attributes["http.route"] == "" {
		t.Errorf("the read is %+v", get)
	}

	imported := all.find("accept", root).one(t, "the accept of the batch")
	bulk := all.linked("attempt", imported)
	if len(bulk) != batchRows {
		t.Errorf("%d attempts are linked to the batch, want %d", len(bulk), batchRows)
	}
	for _, a := range bulk {
		all.expectAttempt(t, a, "bulk", 1, "created", "")
	}
	all.linked("callback", imported).one(t, "the callback of a row")

	for _, message := range []string{`"msg":"attempt"`, `"msg":"delivery attempt"`} {
		if !slices.ContainsFunc(strings.Split(w.stderr.String(), "\n"), func(line string) bool {
			return strings.Contains(line, message) && strings.Contains(line, `"trace_id":"`+first.TraceID+`"`)
		}) {
			t.Errorf("no line of the worker with %s has the trace %s", message, first.TraceID)
		}
	}
	if log := s.stderr.String(); !strings.Contains(log, `"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736"`) {
		t.Error("the API does not log the trace of its caller")
	}
	expectNobody(t, collector, receiver.address, s.key)
	rdb := server.Client(t)
	for _, id := range []string{"ROW-1", "ROW-2"} {
		if raw, err := rdb.Get(t.Context(), "{kyclink:default}/"+id).Result(); err != nil || strings.Contains(raw, `"t":`) {
			t.Errorf("the row %s stores a trace of its own: %s, %v", id, raw, err)
		}
	}
}

// expectNobody checks that no span names a person, an address or a secret.
func expectNobody(t *testing.T, collector *fixture.Collector, secrets ...string) {
	t.Helper()
	if wrong := collector.Wrong(); len(wrong) > 0 {
		t.Errorf("wrong spans: %v", wrong)
	}
	secrets = append(secrets, "PERSON-4711", "RETRIED-4712", "ROW-1", "people.csv", "shop-client", "hush-hush-hush", "collector-secret", newSecret, "simulator.invalid",
		"known-to-the-receiver-only", "127.0.0.1", "traceparent")
	for _, body := range collector.Bodies() {
		for _, secret := range secrets {
			if strings.Contains(string(body), secret) {
				t.Errorf("spans contain %q:\n%q", secret, body)
			}
		}
	}
	for _, s := range collector.Spans() {
		for key, value := range s.Attributes {
			if strings.Contains(value, "://") {
				t.Errorf("%s has a URL: %s=%s", s.Name, key, value)
			}
		}
	}
}

// Without the standard variables, nothing is stored and nothing is sent.
func TestTracing_IsOffByDefault(t *testing.T) {
	t.Parallel()
	server := newRedis(t)
	_, sim := upstream(t, `{}`)
	collector := fixture.NewCollector(t, nil)
	settings := []string{sim, "KYCLINK_REDIS_URL=" + server.URL, "OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_SDK_DISABLED=true"}
	w := start(t, settings, "worker", "--simulate")
	if code, _, stderr := kyclink(t, settings, "request", "--application-id", "A-1", "--wait=4m"); code != 0 {
		t.Fatalf("request: %d %s", code, stderr)
	}
	w.signal(syscall.SIGTERM)
	w.exit()
	if spans := collector.Spans(); len(spans) > 0 {
		t.Errorf("got %+v", spans)
	}
	if raw, err := server.Client(t).Get(t.Context(), "{kyclink:default}/A-1").Result(); err != nil || strings.Contains(raw, `"t":`) {
		t.Errorf("the record stores a trace: %s, %v", raw, err)
	}
	settings = append(settings, "OTEL_SDK_DISABLED=false", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc")
	if code, _, stderr := kyclink(t, settings, "status"); code != 78 || !strings.Contains(stderr, "OTEL_EXPORTER_OTLP_PROTOCOL") {
		t.Errorf("with gRPC: %d %s", code, stderr)
	}
}
