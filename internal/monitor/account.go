package monitor

import (
	"context"
	"strconv"
	"sync/atomic"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/results"
)

// accountCollector collects the metrics of the accounts at each scrape. Without Redis it
// reports only kyclink_redis_up.
type accountCollector struct {
	accounts []*watched
	descs    []*prometheus.Desc

	up, ended, possibleDuplicates, held, failed, backlog, waiting, rate, workers, state, closed              metric
	entries, resultsCap, oldest, dropped, unacknowledged, behind, callbacksPending, callbacksGivenUp, status metric
	memory, memoryLimit                                                                                      metric
}

// watched is an account whose state is read at each scrape.
type watched struct {
	name    string
	reads   sharedRead[reading]
	written func() error
	limited *zap.Logger
}

// readAtOnce is the number of accounts that are read at a time, so that a scrape of many does
// not keep Redis and the connections busy.
const readAtOnce = 8

// reading is the account as it is at a scrape.
type reading struct {
	account.Gauges
	diagnosis diagnosis.Diagnosis
	diagnosed error // why that is not known
}

// metric is a metric whose values are read at each scrape.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func newWatched(cfg Config) *watched {
	return &watched{
		name: cfg.Name, limited: cfg.Limited, written: cfg.Account.WriteError,
		reads: sharedRead[reading]{within: readWithin, read: func(ctx context.Context) (r reading, err error) {
			if r.Gauges, err = cfg.Account.Gauges(ctx); err != nil {
				return r, err
			}
			r.diagnosis, r.diagnosed = cfg.Diagnose(ctx)
			return r, nil
		}},
	}
}

func newAccounts(all []Config) *accountCollector {
	a := &accountCollector{}
	for _, cfg := range all {
		a.accounts = append(a.accounts, newWatched(cfg))
	}
	add := func(kind prometheus.ValueType, name, help string, labels ...string) metric {
		d := prometheus.NewDesc("kyclink_"+name, help+" The same from every process of the account: aggregate with max.", append([]string{"account"}, labels...), nil)
		a.descs = append(a.descs, d)
		return metric{d, kind}
	}
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue

	a.up = metric{prometheus.NewDesc("kyclink_redis_up", "1 if Redis accepted the last heartbeat of this process and the account could be read, else 0; of each account if it works for several. Metrics of an account are absent if it could not be read.", nil, nil), gauge}
	a.descs = append(a.descs, a.up.Desc)
	a.ended = add(counter, "requests_ended_total", "Ends of requests; a request that is retried ends again.", "status")
	a.possibleDuplicates = add(counter, "possible_duplicates_total", "Attempts that may have created a link that is not recorded.")
	a.held = add(gauge, "requests_held", "Requests that are held for an operator (kyclink held list).")
	a.failed = add(gauge, "requests_failed", "Failed requests that were not retried or dropped (kyclink failed list).")
	a.backlog = add(gauge, "backlog_requests", "Waiting and queued requests.", "lane")
	a.waiting = add(gauge, "backlog_oldest_age_seconds", "Time since the oldest request among those that are called next was accepted, 0 if there is none. Requests of paused batches do not count.", "lane")
	a.state = add(gauge, "gate_state", "1 for the state of the gate, else 0.", "state")
	a.closed = add(gauge, "gate_closed", "1 for the reason for which the gate is closed or probing, else 0.", "reason")
	a.rate = add(gauge, "rate_limit_calls_per_second", "Rate limit in force, in calls to FaceKi per second.")
	a.status = add(gauge, "status", "1 for the code of the present diagnosis and of each further finding (kyclink status), else 0.", "code")
	a.workers = add(gauge, "workers", "Live worker processes.")
	a.memory = add(gauge, "redis_memory_used_bytes", "Memory of the Redis server of the account, absent if Redis does not permit INFO.")
	a.memoryLimit = add(gauge, "redis_memory_max_bytes", "Limit of that memory (maxmemory), absent if there is none.")
	a.entries = add(gauge, "results_entries", "Events in the results stream.")
	a.resultsCap = add(gauge, "results_cap", "Number of events above which the oldest are trimmed, acknowledged or not; absent before the first worker.")
	a.oldest = add(gauge, "results_oldest_age_seconds", "Age of the oldest event in the results stream, 0 if it is empty.")
	a.dropped = add(counter, "results_dropped_total", "Events that were trimmed because of the cap.")
	a.unacknowledged = add(gauge, "results_unacknowledged", "Events that a group has not acknowledged, for the first 50 groups by name. If Redis does not know the number, it is counted up to 100.", "group")
	a.behind = add(gauge, "results_behind_seconds", "Age of the oldest event that a group has not acknowledged, for the first 50 groups by name.", "group")
	a.callbacksPending = add(gauge, "callbacks_pending", "Deliveries that are not finished.")
	a.callbacksGivenUp = add(gauge, "callbacks_given_up", "Deliveries that were given up and not retried or dropped (kyclink callbacks list).")
	return a
}

// Describe implements [prometheus.Collector].
func (a *accountCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range a.descs {
		to <- d
	}
}

// Collect implements [prometheus.Collector].
func (a *accountCollector) Collect(to chan<- prometheus.Metric) {
	var down atomic.Bool
	var reads errgroup.Group
	reads.SetLimit(readAtOnce)
	for _, one := range a.accounts {
		reads.Go(func() error {
			if !a.collect(one, to) || one.written() != nil {
				down.Store(true)
			}
			return nil
		})
	}
	_ = reads.Wait() // no function returns an error
	to <- prometheus.MustNewConstMetric(a.up.Desc, a.up.kind, oneIf(!down.Load()))
}

// collect collects the metrics of one account. It returns false if it could not be read.
func (a *accountCollector) collect(one *watched, to chan<- prometheus.Metric) bool {
	send := func(m metric, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, append([]string{one.name}, labels...)...)
	}
	g, err := one.reads.value()
	if err != nil {
		one.limited.Warn("read the account for metrics", zap.Error(err))
		return false
	}
	send(a.ended, float64(g.Created), fault.LabelCreated)
	send(a.ended, float64(g.EndedFailed), "failed")
	send(a.ended, float64(g.EndedCancelled), "cancelled")
	send(a.possibleDuplicates, float64(g.PossibleDuplicates))
	send(a.held, float64(g.Held))
	send(a.failed, float64(g.Failed))
	send(a.backlog, float64(g.Backlog.Interactive), "interactive")
	send(a.backlog, float64(g.Backlog.Bulk), "bulk")
	send(a.waiting, g.Oldest.Interactive.Seconds(), "interactive")
	send(a.waiting, g.Oldest.Bulk.Seconds(), "bulk")
	for _, state := range []string{"open", "closed", "probing", "ramping"} {
		send(a.state, oneIf(g.Gate.State == state), state)
	}
	for _, reason := range []fault.Reason{fault.Outage, fault.Throttled, fault.Refused, fault.NoCredit, fault.LimitReached, fault.Paused} {
		send(a.closed, oneIf(g.Gate.Reason == string(reason)), string(reason))
	}
	if g.diagnosed != nil {
		one.limited.Warn("diagnose the account for metrics", zap.Error(g.diagnosed))
	} else {
		for _, code := range diagnosis.Codes() {
			send(a.status, oneIf(g.diagnosis.Applies(code)), string(code))
		}
	}
	send(a.rate, g.Rate)
	send(a.workers, float64(g.Workers))
	send(a.callbacksPending, float64(g.Pending))
	send(a.callbacksGivenUp, float64(g.GivenUp))
	if g.Memory.Used > 0 {
		send(a.memory, float64(g.Memory.Used))
	}
	if g.Memory.Max > 0 {
		send(a.memoryLimit, float64(g.Memory.Max))
	}
	a.results(g.Results, send)
	return true
}

func (a *accountCollector) results(r results.Status, send func(metric, float64, ...string)) {
	send(a.entries, float64(r.Length))
	if r.Cap > 0 {
		send(a.resultsCap, float64(r.Cap))
	}
	send(a.oldest, r.Oldest().Seconds())
	send(a.dropped, float64(r.Dropped))
	for _, g := range r.Groups {
		name := g.Group
		if !utf8.ValidString(name) { // groups are created by others
			name = strconv.Quote(name)
		}
		send(a.unacknowledged, float64(g.Unacknowledged()), name)
		send(a.behind, g.Behind, name)
	}
}

func oneIf(condition bool) float64 {
	if condition {
		return 1
	}
	return 0
}
