package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// latency is the default latency of the simulated FaceKi.
const latency = 50 * time.Millisecond

func answering() simulator.Config {
	return simulator.Config{Script: defaultScript()}
}

func defaultScript() simulator.Script { return simulator.Script{Latency: simulator.Duration(latency)} }

// settings returns the settings of a rate limit and of the slots per lane and process.
func settings(rate string, burst, slots int) []string {
	return []string{"FACEKI_RATE=" + rate, fmt.Sprintf("FACEKI_BURST=%d", burst), fmt.Sprintf("KYCLINK_CONCURRENCY=%d", slots)}
}

const (
	fleetSize = 4
	slots     = 10 // per lane and process, so 40 in the fleet
)

func rates() []scenario {
	return []scenario{
		{"rate-200", "4 processes, 200/s, 6,000 waiting requests, 50 ms latency", true, 35 * time.Second, 2 * time.Minute, rate200},
		{"rate-kill", "the same, and one of the processes is killed", true, 35 * time.Second, 2 * time.Minute, rateKill},
		{"rolling", "3 processes, 100/s, 6,000 waiting requests, 50 ms latency; each process is stopped gracefully and replaced, one after the other", false, 65 * time.Second, 4 * time.Minute, rolling},
		{"rate-5", "4 processes, 5/s, 40 slots", false, 50 * time.Second, 3 * time.Minute, rate5},
		{"rate-500", "4 processes, 500/s, 10,000 waiting requests", false, 25 * time.Second, 2 * time.Minute, rate500},
		{"rate-1m", "4 processes, 1/m, 40 slots", false, 130 * time.Second, 6 * time.Minute, rate1m},
	}
}

func rate200(ctx context.Context, b *suite) ([]figure, error) {
	return measureRate(ctx, b, "200/s", limit{200, 5}, pick(b, 3000, 6000, 20_000))
}

func rate500(ctx context.Context, b *suite) ([]figure, error) {
	return measureRate(ctx, b, "500/s", limit{500, 5}, pick(b, 5000, 10_000, 50_000))
}

// measureRate drains a backlog and measures the used share of the rate.
func measureRate(ctx context.Context, b *suite, rate string, l limit, n int) ([]figure, error) {
	r, err := b.loaded(ctx, answering(), n, fleetSize, settings(rate, l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	at, from, to, err := r.drained(ctx)
	if err != nil {
		return nil, err
	}
	return r.rateFigures(ctx, l, at, from, to, 98)
}

// rateFigures returns the used share of the rate, the excess in each window, and the figures
// of the promises.
func (r *rig) rateFigures(ctx context.Context, l limit, at []time.Time, from, to time.Time, target float64) ([]figure, error) {
	figures := []figure{atLeast("share of the rate used", "%", l.share(at, from, to), target)}
	for _, w := range windows() {
		figures = append(figures, must(atMost(fmt.Sprintf("calls over the limit in %v", w), "", l.excess(at, w), 0)))
	}
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// rateKill does not wait for the requests of the killed process, which are recovered later.
func rateKill(ctx context.Context, b *suite) ([]figure, error) {
	l, n := limit{200, 5}, pick(b, 3000, 6000, 20_000)
	r, err := b.loaded(ctx, answering(), n, fleetSize, settings("200/s", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.waitForCalls(ctx, n*2/5); err != nil {
		return nil, err
	}
	r.processes[0].Kill()
	killed := time.Now()
	if err := r.waitForCalls(ctx, n*95/100); err != nil {
		return nil, err
	}
	at := times(r.upstream.calls())
	from, to := killed.Add(time.Second), at[n*95/100-1]
	if !to.After(from) {
		from, to = killed.Add(-time.Second), killed
	}
	return r.rateFigures(ctx, l, at, from, to, 98)
}

func rate5(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{5, 5}
	r, err := b.loaded(ctx, answering(), 5000, fleetSize, settings("5/s", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.waitForCalls(ctx, 1); err != nil {
		return nil, err
	}
	took := 3*time.Second + pick(b, 20*time.Second, 40*time.Second, 2*time.Minute)
	if err := r.sleep(ctx, took); err != nil {
		return nil, err
	}
	at := times(r.upstream.calls())
	return r.rateFigures(ctx, l, at, at[0].Add(3*time.Second), at[0].Add(took), 98)
}

func rate1m(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{1.0 / 60, 2}
	r, err := b.loaded(ctx, answering(), 1000, fleetSize, settings("1/m", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	minutes := pick(b, 1, 1, 5)
	// A bucket starts empty, and bulk requests leave a token for interactive ones.
	if err := r.sleep(ctx, time.Duration(minutes+1)*time.Minute+10*time.Second); err != nil {
		return nil, err
	}
	figures, err := r.promiseFigures(ctx, l)
	return append([]figure{atLeast("calls", "", float64(r.upstream.State().LinkCalls), float64(minutes))}, figures...), err
}
