package main

import (
	"context"
	"errors"
	"time"
)

const rollingProcesses = 3

// rolling restarts the processes in turn: each is stopped gracefully, and another one is
// started when it has ended.
func rolling(ctx context.Context, b *suite) ([]figure, error) {
	l, pause := limit{100, 5}, pick(b, 8*time.Second, 15*time.Second, time.Minute)
	settings := []string{"FACEKI_RATE=100/s", "FACEKI_BURST=5"}
	r, err := b.loaded(ctx, answering(), int(l.perSecond*(rollingProcesses+1)*pause.Seconds()), rollingProcesses, settings...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	var slowest time.Duration
	for i := range rollingProcesses {
		if err := r.sleep(ctx, pause); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := r.processes[i].Stop(time.Minute); err != nil {
			return nil, err
		}
		slowest = max(slowest, time.Since(began))
		if err := r.workers(1, settings...); err != nil {
			return nil, err
		}
	}
	at, from, to, err := r.drained(ctx)
	if err != nil {
		return nil, err
	}
	lowest, measured := l.lowest(at, from, to)
	if !measured {
		return nil, errTooFew
	}
	state := r.upstream.State()
	promised, err := r.promiseFigures(ctx, l)
	return append([]figure{
		atLeast("share of the rate used in the lowest window of 10 s", "%", lowest, recoveredShare),
		must(atMost("requests without a link", "", float64(r.accepted-r.outcomes.created), 0)),
		must(atMost("calls beyond one for each request", "", float64(state.LinkCalls-r.accepted), 0)),
		info("stop of a process, slowest", "s", slowest.Seconds()),
	}, promised...), errors.Join(err, r.alive())
}
