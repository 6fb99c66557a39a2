package monitor

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Metrics is what one process counts of what it does itself. It is safe for concurrent
// use.
type Metrics struct {
	attempts, deliveries, entries, mends, requests, refused *prometheus.CounterVec

	calls, waits, answers *prometheus.HistogramVec
	posts                 prometheus.Histogram
}

const (
	created = "created"
	none    = "none"
)

func newMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "kyclink_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "kyclink_" + name, Help: help, Buckets: buckets}, labels)
	}
	call := []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60}
	m := &Metrics{
		attempts: counter("attempts_total", "Calls to FaceKi that this process sent, by what is known of the link (created, no_link, or unknown: "+
			"it may have been made) and why there is none.", "lane", "outcome", "reason"),
		calls: histogram("call_duration_seconds", "How long calls to FaceKi took, by what is known of the link.", call, "outcome"),
		waits: histogram("admission_wait_seconds", "How long requests waited in this process, from when it took them from their lane until their call "+
			"was allowed by the gate and the rate.", []float64{.001, .005, .025, .1, .5, 1, 5, 15, 60, 300, 1800}, "lane"),
		deliveries: counter("callback_attempts_total", "Attempts of this process to deliver a callback, by what became of it (delivered, retried "+
			"or given_up) and why it was not delivered.", "result", "reason"),
		entries: counter("intake_entries_total", "Entries of the intake stream that this process accepted or rejected.", "result"),
		mends: counter("sweep_mended_total", "What the sweep of this process mended after a process or Redis had failed, or ended "+
			"because it had waited too long, by kind.", "kind"),
		requests: counter("http_requests_total", "HTTP requests to the API that this process answered, by the route of the OpenAPI document "+
			"(none where it is of no route, or was refused before that was looked at) and the class of the status.", "method", "route", "status"),
		refused: counter("http_unauthorized_total", "HTTP requests to the API that had no valid API key, by what was wrong with it.", "reason"),
		answers: histogram("http_request_duration_seconds", "How long HTTP requests to the API took, with the time for which they were asked to wait, "+
			"by the route of the OpenAPI document.", []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "route"),
		posts: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kyclink_callback_duration_seconds", Help: "How long attempts to deliver a callback took.", Buckets: call,
		}),
	}
	m.begin()
	return m
}

// begin makes what can be counted there at 0, so that the first of a kind is seen to
// be one more.
func (m *Metrics) begin() {
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		m.waits.WithLabelValues(string(lane))
		m.attempts.WithLabelValues(string(lane), created, none)
		for _, kind := range fault.Kinds() {
			if f := (&fault.Fault{Kind: kind}); f.Party() != fault.Ourselves {
				m.attempts.WithLabelValues(string(lane), outcomeOf(f), string(f.Reason()))
			}
		}
	}
	for _, outcome := range []string{created, outcomes[fault.NoLink], outcomes[fault.Unknown]} {
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
	return []prometheus.Collector{m.attempts, m.calls, m.waits, m.deliveries, m.posts, m.entries, m.mends, m.requests, m.refused, m.answers}
}

// outcomes are the labels of what is known of a link.
var outcomes = [...]string{fault.NoLink: "no_link", fault.Unknown: "unknown"}

func outcomeOf(f *fault.Fault) string { return outcomes[f.Outcome()] }

// Admitted is a turn that may be called now, so long after its task was taken.
func (m *Metrics) Admitted(lane request.Lane, after time.Duration) {
	m.waits.WithLabelValues(string(lane)).Observe(after.Seconds())
}

// Attempt is a call that is over; f is nil where it made a link. What was called off
// before it was sent was no attempt.
func (m *Metrics) Attempt(a attempt.Attempt, f *fault.Fault) {
	outcome, reason := created, none
	if f != nil {
		if f.Party() == fault.Ourselves {
			return
		}
		outcome, reason = outcomeOf(f), string(f.Reason())
	}
	m.attempts.WithLabelValues(string(a.Lane), outcome, reason).Inc()
	m.calls.WithLabelValues(outcome).Observe(a.Took.Seconds())
}

// Delivery is an attempt to deliver a callback, and what became of that.
func (m *Metrics) Delivery(reply delivery.Reply, status delivery.Status, took time.Duration) {
	result, reason := "retried", reply.Reason
	switch {
	case reply.Taken():
		result, reason = "delivered", none
	case status == delivery.GivenUp:
		result = "given_up"
	}
	m.deliveries.WithLabelValues(result, reason).Inc()
	m.posts.Observe(took.Seconds())
}

// Mended is what the sweep mended, so many of a kind.
func (m *Metrics) Mended(kind string, n int) { m.mends.WithLabelValues(kind).Add(float64(n)) }

// Settled is entries of the intake stream that were dealt with.
func (m *Metrics) Settled(accepted, rejected int) {
	m.entries.WithLabelValues("accepted").Add(float64(accepted))
	m.entries.WithLabelValues("rejected").Add(float64(rejected))
}

// Request is an HTTP request that was answered with this status, 0 where it was broken
// off before. route is a path of the OpenAPI document, or "".
func (m *Metrics) Request(method, route string, status int, took time.Duration) {
	if route == "" {
		route = none
	}
	m.requests.WithLabelValues(known(method), route, class(status)).Inc()
	m.answers.WithLabelValues(route).Observe(took.Seconds())
}

// known keeps what somebody made up out of the labels.
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

// Refused is an HTTP request without a valid API key.
func (m *Metrics) Refused(reason string) { m.refused.WithLabelValues(reason).Inc() }
