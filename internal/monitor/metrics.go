package monitor

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/tracing"
	"github.com/kyclink/kyclink/tasks"
)

// Metrics counts what one process does. It is safe for concurrent use.
type Metrics struct {
	attempts, deliveries, entries, recovered, requests, unauthorized *prometheus.CounterVec

	calls, waits, links, answers *prometheus.HistogramVec
	posts                        prometheus.Histogram
}

const none = "none"

func newMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kyclink_" + name, Help: help}, labels)
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(histogram(name, help, buckets), labels)
	}
	call := []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
	m := &Metrics{
		attempts: counter("attempts_total", "Calls to FaceKi that this process sent, by outcome (created, no_link, or unknown: a link may have been created) "+
			"and reason of the fault.", "lane", "outcome", "reason"),
		calls: histograms("call_duration_seconds", "Duration of calls to FaceKi, by outcome.", call, "outcome"),
		waits: histograms("admission_wait_seconds", "Time from taking a request from its lane until the gate and the rate admitted its call.", []float64{.001, .005, .025, .1, .5, 1, 5, 15, 60, 300, 1800}, "lane"),
		deliveries: counter("callback_attempts_total", "Attempts of this process to deliver a callback, by result (delivered, retried or given_up) "+
			"and reason of the failure.", "result", "reason"),
		entries: counter("intake_entries_total", "Entries of the intake stream that this process accepted or rejected.", "result"),
		recovered: counter("sweep_mended_total", "What recovery in this process repaired after a failure of a process or of Redis, and requests that it ended "+
			"because of their not_after, by kind.", "kind"),
		requests: counter("http_requests_total", "HTTP requests to the API that this process answered, by route of the OpenAPI document "+
			"(none if it has no such route, or was refused before routing) and class of the status.", "method", "route", "status"),
		unauthorized: counter("http_unauthorized_total", "HTTP requests to the API without a valid API key, by what was wrong with it.", "reason"),
		answers: histograms("http_request_duration_seconds", "Duration of HTTP requests to the API, including the wait that they asked for, "+
			"by route of the OpenAPI document.", []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "route"),
		links: histograms("link_duration_seconds", "Time from accepting a request until its link was recorded, for links that a call of this process created.",
			[]float64{.1, .25, .5, 1, 2.5, 5, 15, 60, 300, 1800, 7200, 28800, 86400, 604800}, "lane"),
		posts: prometheus.NewHistogram(histogram("callback_duration_seconds", "Duration of attempts to deliver a callback.", call)),
	}
	m.initialise()
	return m
}

// histogram returns the options of a histogram. It has these buckets for a scraper that reads
// text and, for one that reads native histograms, buckets of at most a tenth of their value.
func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: "kyclink_" + name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}
}

// observe adds a value, and the trace of ctx as its exemplar if that is sampled.
func observe(ctx context.Context, to prometheus.Observer, value time.Duration) {
	if id := tracing.TraceID(ctx); id != "" {
		if exemplars, ok := to.(prometheus.ExemplarObserver); ok {
			exemplars.ObserveWithExemplar(value.Seconds(), prometheus.Labels{"trace_id": id})
			return
		}
	}
	to.Observe(value.Seconds())
}

// initialise creates the series with the value 0, so that the first event of a kind shows
// as an increase.
func (m *Metrics) initialise() {
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		m.waits.WithLabelValues(string(lane))
		m.links.WithLabelValues(string(lane))
		m.attempts.WithLabelValues(string(lane), fault.LabelCreated, none)
		for _, kind := range fault.Kinds() {
			if f := (&fault.Fault{Kind: kind}); f.Scope() != fault.Ourselves {
				m.attempts.WithLabelValues(string(lane), f.Outcome().Label(), string(f.Reason()))
			}
		}
	}
	for _, outcome := range []string{fault.LabelCreated, fault.NoLink.Label(), fault.Uncertain.Label()} {
		m.calls.WithLabelValues(outcome)
	}
	m.deliveries.WithLabelValues("delivered", none)
	for _, reason := range fault.Undelivered() {
		m.deliveries.WithLabelValues("given_up", string(reason))
	}
	m.entries.WithLabelValues("accepted")
	m.entries.WithLabelValues("rejected")
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.calls, m.waits, m.links, m.deliveries, m.posts, m.entries, m.recovered, m.requests, m.unauthorized, m.answers}
}

// Admitted records that a call was admitted, and how long after its task was taken.
func (m *Metrics) Admitted(ctx context.Context, lane tasks.Lane, after time.Duration) {
	observe(ctx, m.waits.WithLabelValues(string(lane)), after)
}

// Created records a link that was made, and how long ago its request was accepted.
func (m *Metrics) Created(ctx context.Context, lane tasks.Lane, after time.Duration) {
	observe(ctx, m.links.WithLabelValues(string(lane)), after)
}

// Attempt records a call that was sent and has ended. reason is "" if it created a link.
func (m *Metrics) Attempt(ctx context.Context, lane tasks.Lane, outcome, reason string, took time.Duration) {
	m.attempts.WithLabelValues(string(lane), outcome, cmp.Or(reason, none)).Inc()
	observe(ctx, m.calls.WithLabelValues(outcome), took)
}

// Delivery records an attempt to deliver a callback. reason is "" if it was delivered.
func (m *Metrics) Delivery(result, reason string, took time.Duration) {
	m.deliveries.WithLabelValues(result, cmp.Or(reason, none)).Inc()
	m.posts.Observe(took.Seconds())
}

// Recovered records what recovery repaired, by kind.
func (m *Metrics) Recovered(kind string, n int) { m.recovered.WithLabelValues(kind).Add(float64(n)) }

// Entries records handled entries of the intake stream.
func (m *Metrics) Entries(accepted, rejected int) {
	m.entries.WithLabelValues("accepted").Add(float64(accepted))
	m.entries.WithLabelValues("rejected").Add(float64(rejected))
}

// Request records an HTTP request and its status, 0 if the connection was closed before
// the answer. route is a path of the OpenAPI document, or "".
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	if route == "" {
		route = none
	}
	m.requests.WithLabelValues(known(method), route, class(status)).Inc()
	m.answers.WithLabelValues(route).Observe(took.Seconds())
}

// known replaces methods that clients invented, to keep the label small.
func known(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

func class(status int) string {
	if status < 100 || status > 599 {
		return none
	}
	return strconv.Itoa(status/100) + "xx"
}

// Refused records an HTTP request without a valid API key.
func (m *Metrics) Refused(reason string) { m.unauthorized.WithLabelValues(reason).Inc() }
