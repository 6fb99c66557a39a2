package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// recoveryWindow is the length of the window in which recoveredShare of the rate must be
// used for an outage to be over.
const recoveryWindow = 5 * time.Second

func outages() []scenario {
	const timeout = 8 * time.Minute
	return []scenario{
		{"outage-503", "4 processes, 200/s, 100,000 waiting requests, every answer is a 503 during an outage", false, 110 * time.Second, timeout,
			func(ctx context.Context, b *suite) ([]figure, error) {
				// Calls until five answers have arrived and all processes know.
				return outage(ctx, b, 200*(latency+250*time.Millisecond).Seconds(), probePause, startFault("http_503"), endFault)
			}},
		{"outage-hang", "the same, but calls get no answer", false, 130 * time.Second, timeout,
			func(ctx context.Context, b *suite) ([]figure, error) {
				// The slots limit the calls of two seconds without an answer.
				return outage(ctx, b, fleetSize*slots, longestProbePause, startFault("hang"), endFault)
			}},
		{"outage-refused", "the same, but connections are refused", false, 110 * time.Second, timeout,
			func(ctx context.Context, b *suite) ([]figure, error) {
				return outage(ctx, b, 0, probePause, refuseConnections, (*upstream).listen)
			}},
		{"outage-minute", "one process, 100/s, every answer is a 503 for 60 s, with 2,000 requests waiting at its end", false, 95 * time.Second, timeout, outageOfAMinute},
	}
}

// The pauses between probes: the first, which does not grow if the probes make no link, and
// the longest of those that may have made one.
const (
	probePause        = 5 * time.Second
	longestProbePause = time.Minute
)

// outageOfAMinute measures the time from the end of an outage to the last of 2,000 links. At
// 100/s they take 20 s.
func outageOfAMinute(ctx context.Context, b *suite) ([]figure, error) {
	const waiting = 2000
	l := limit{100, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.workers(1, settings("100/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.bulk(ctx, r.client, 200); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, 200); err != nil {
		return nil, err
	}
	from := time.Now()
	if err := startFault("http_503")(r.upstream); err != nil {
		return nil, err
	}
	if err := r.bulk(ctx, r.client, waiting); err != nil {
		return nil, err
	}
	if err := r.sleep(ctx, pick(b, 20*time.Second, time.Minute, time.Minute)-time.Since(from)); err != nil {
		return nil, err
	}
	to := time.Now()
	if err := endFault(r.upstream); err != nil {
		return nil, err
	}
	made := func() bool { return r.upstream.State().Links >= r.accepted }
	if err := r.waitUntil(ctx, "all links are made", made); err != nil {
		return nil, err
	}
	took := time.Since(to)
	calls := between(times(r.upstream.calls()), from, to)
	figures := []figure{
		atMost("calls during the outage", "", float64(calls), float64(5+probes(to.Sub(from), probePause))+l.perSecond*(latency+250*time.Millisecond).Seconds()),
		atMost("from its end until the last link", "s", took.Seconds(), 27),
	}
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

func startFault(fault string) func(*upstream) error {
	return func(u *upstream) error {
		script := defaultScript()
		script.Outage = &simulator.Fault{Name: fault}
		return u.SetScript(script)
	}
}

func endFault(u *upstream) error { return u.SetScript(defaultScript()) }

func refuseConnections(u *upstream) error {
	u.refuse()
	return nil
}

// outage interrupts the upstream while a backlog drains. closing is the number of calls that
// rate and slots permit until the gate closes, in addition to the five failed calls that
// close it. longest is the longest pause between probes.
func outage(ctx context.Context, b *suite, closing float64, longest time.Duration, down, up func(*upstream) error) ([]figure, error) {
	l := limit{200, 5}
	r, err := b.loaded(ctx, answering(), pick(b, 20_000, 100_000, 100_000), fleetSize, settings("200/s", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.waitForCalls(ctx, 1000); err != nil {
		return nil, err
	}
	lasts := pick(b, 20*time.Second, time.Minute, 10*time.Minute)
	inFlight := r.upstream.State().InFlight
	from := time.Now()
	if err := down(r.upstream); err != nil {
		return nil, err
	}
	if err := r.sleep(ctx, lasts); err != nil {
		return nil, err
	}
	to := time.Now()
	before := r.upstream.State().LinkCalls
	if err := up(r.upstream); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, before+1); err != nil { // the first good probe
		return nil, err
	}
	if err := r.sleep(ctx, 20*time.Second+recoveryWindow+time.Second); err != nil {
		return nil, err
	}
	return r.afterOutage(ctx, l, from, to, closing+float64(inFlight+5), probes(lasts, longest))
}

func (r *rig) afterOutage(ctx context.Context, l limit, from, to time.Time, closing float64, probes int) ([]figure, error) {
	at := times(r.upstream.calls())
	calls := between(at, from, to)
	figures := []figure{
		atMost("calls during the outage", "", float64(calls), closing+float64(probes)),
		atMost("calls after its first 4 s: probes", "", float64(between(at, from.Add(4*time.Second), to)), float64(probes)),
	}
	closed, ok, err := r.gate(ctx, from)
	if err != nil {
		return nil, err
	}
	if !ok {
		closed = to.Sub(from) // it did not close
	}
	// Five failed answers close the gate, and so do two seconds without an answer.
	figures = append(figures, atMost("until the gate closed", "s", closed.Seconds(), 3))
	probe := at[between(at, at[0], to)]
	figures = append(figures, info("until the first good probe", "s", probe.Sub(to).Seconds()))
	took, ok := l.recovered(at, probe, recoveryWindow)
	if !ok {
		took = time.Hour // it did not recover during the measurement
	}
	figures = append(figures, atMost("from that until 95 % of the rate", "s", took.Seconds(), 10))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// probes returns the number of probes in an outage: the first after 5 s, and then with
// pauses that double up to the longest.
func probes(lasts, longest time.Duration) int {
	n := 0
	for pause, at := probePause, probePause; at <= lasts; at += pause {
		n++
		pause = min(2*pause, longest)
	}
	return n
}
