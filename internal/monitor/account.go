package monitor

import (
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
)

// account collects what is known of the account at the moment of a scrape. Without
// Redis all that it says is that Redis is away.
type account struct {
	read    question[ledger.Gauges]
	written func() error
	limited *zap.Logger
	descs   []*prometheus.Desc

	up, ended, doubts, held, failed, backlog, rate, workers, state, closed                     metric
	entries, most, oldest, dropped, unacknowledged, behind, callbacksPending, callbacksGivenUp metric
}

// metric is one whose values are made at each scrape.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func newAccount(cfg Config) *account {
	a := &account{limited: cfg.Limited, written: cfg.Account.Written}
	a.read = question[ledger.Gauges]{within: readWithin, ask: cfg.Account.Gauges}
	of := prometheus.Labels{"account": cfg.Name}
	add := func(kind prometheus.ValueType, name, help string, labels ...string) metric {
		d := prometheus.NewDesc("kyclink_"+name, help+" Of the account: all its processes give the same, so use max.", labels, of)
		a.descs = append(a.descs, d)
		return metric{d, kind}
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue

	a.up = metric{prometheus.NewDesc("kyclink_redis_up", "Whether Redis took the last heartbeat of this process, and the account could be read; where it could not, what is of the account is left out.", nil, nil), gauge}
	a.descs = append(a.descs, a.up.Desc)
	a.ended = add(counter, "requests_ended_total", "Ends of requests; one that is retried ends again.", "status")
	a.doubts = add(counter, "possible_duplicates_total", "Attempts that may have made a link that nobody knows of.")
	a.held = add(gauge, "requests_held", "Requests that wait for a person (kyclink held list).")
	a.failed = add(gauge, "requests_failed", "Requests that failed and that nobody has retried or dropped (kyclink failed list).")
	a.backlog = add(gauge, "backlog_requests", "Requests that wait or are queued.", "lane")
	a.state = add(gauge, "gate_state", "1 for the state that the gate is in, else 0.", "state")
	a.closed = add(gauge, "gate_closed", "1 for the reason for which FaceKi is not called, also while that is probed, else 0.", "reason")
	a.rate = add(gauge, "rate_limit_calls_per_second", "Calls to FaceKi that are allowed a second.")
	a.workers = add(gauge, "workers", "Worker processes that live.")
	a.entries = add(gauge, "results_entries", "Events in the results stream.")
	a.most = add(gauge, "results_cap", "Events above which the oldest go, acknowledged or not; left out before the first worker.")
	a.oldest = add(gauge, "results_oldest_age_seconds", "Age of the oldest event in the results stream, 0 where it is empty.")
	a.dropped = add(counter, "results_dropped_total", "Events that went because of the cap.")
	a.unacknowledged = add(gauge, "results_unacknowledged", "Events that a group has not acknowledged, of the first 50 groups by name. Where Redis does not know, it is counted to 100 at most.", "group")
	a.behind = add(gauge, "results_behind_seconds", "Age of the oldest event that a group has not acknowledged, of the first 50 groups by name.", "group")
	a.callbacksPending = add(gauge, "callbacks_pending", "Callbacks that are to be delivered.")
	a.callbacksGivenUp = add(gauge, "callbacks_given_up", "Callbacks that were given up and that nobody has retried or dropped (kyclink callbacks list).")
	return a
}

// Describe is what the registry asks.
func (a *account) Describe(to chan<- *prometheus.Desc) {
	for _, d := range a.descs {
		to <- d
	}
}

// Collect reads the account.
func (a *account) Collect(to chan<- prometheus.Metric) {
	send := func(m metric, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
	}
	g, err := a.read.answer()
	if err != nil {
		a.limited.Warn("the account could not be read for its metrics", zap.Error(err))
		send(a.up, 0)
		return
	}
	send(a.up, yes(a.written() == nil))
	send(a.ended, float64(g.Created), created)
	send(a.ended, float64(g.EndedFailed), "failed")
	send(a.ended, float64(g.EndedCancelled), "cancelled")
	send(a.doubts, float64(g.PossibleDuplicates))
	send(a.held, float64(g.Held))
	send(a.failed, float64(g.Failed))
	send(a.backlog, float64(g.Backlog.Interactive), "interactive")
	send(a.backlog, float64(g.Backlog.Bulk), "bulk")
	for _, state := range []string{"open", "closed", "probing", "ramping"} {
		send(a.state, yes(g.Gate.State == state), state)
	}
	for _, reason := range []fault.Reason{fault.Outage, fault.Throttled, fault.Refused, fault.NoCredit, fault.LimitReached, fault.Paused} {
		send(a.closed, yes(g.Gate.Reason == string(reason)), string(reason))
	}
	send(a.rate, g.Rate)
	send(a.workers, float64(g.Workers))
	send(a.callbacksPending, float64(g.Pending))
	send(a.callbacksGivenUp, float64(g.GivenUp))
	a.results(g.Results, send)
}

func (a *account) results(r ledger.Results, send func(metric, float64, ...string)) {
	send(a.entries, float64(r.Length))
	if r.Cap > 0 {
		send(a.most, float64(r.Cap))
	}
	send(a.oldest, r.Oldest().Seconds())
	send(a.dropped, float64(r.Dropped))
	for _, g := range r.Groups {
		name := g.Group
		if !utf8.ValidString(name) { // anybody may have made it
			name = strconv.Quote(name)
		}
		send(a.unacknowledged, float64(g.Unacknowledged()), name)
		send(a.behind, g.Behind, name)
	}
}

func yes(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
