package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

func signups() []scenario {
	return []scenario{
		{"signup-bulk", "1 process, 50/s, 20,000 waiting bulk requests, one interactive request per second", false, 50 * time.Second, 5 * time.Minute, signupBulk},
		{"signup-idle", "1 process, 500/s, otherwise idle", true, 40 * time.Second, 3 * time.Minute, signupIdle},
	}
}

func signupBulk(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{50, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, 20_000); err != nil {
		return nil, err
	}
	if err := r.workers(1, settings("50/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, 200); err != nil {
		return nil, err
	}
	figures, err := r.signups(ctx, pick(b, 15, 40, 300), 900*time.Millisecond, 1100*time.Millisecond, 8, 40)
	if err != nil {
		return nil, err
	}
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

func signupIdle(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{500, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	settings := settings("500/s", l.burst, slots)
	if err := r.workers(1, settings...); err != nil {
		return nil, err
	}
	if err := r.sleep(ctx, pick(b, 8*time.Second, 15*time.Second, time.Minute)); err != nil {
		return nil, err
	}
	// This includes the start of the process, which is less than half a percent.
	cpu, life, err := r.processes[0].stop(30 * time.Second)
	if err != nil {
		return nil, err
	}
	if err := r.workers(1, settings...); err != nil {
		return nil, err
	}
	if err := r.enqueueOne(ctx, "warm-up"); err != nil {
		return nil, err
	}
	figures, err := r.signups(ctx, pick(b, 200, 300, 2000), 20*time.Millisecond, 80*time.Millisecond, 3, 8)
	if err != nil {
		return nil, err
	}
	figures = append(figures, atMost("processor time of an idle process", "% of a core", 100*cpu.Seconds()/life.Seconds(), 3))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// signups enqueues n interactive requests with pauses, and measures the time from the call
// of Enqueue to the arrival at the upstream.
func (r *rig) signups(ctx context.Context, n int, shortest, longest time.Duration, p50, p99 float64) ([]figure, error) {
	sent := make(map[string]time.Time, n)
	for i := range n {
		id := fmt.Sprintf("S-%05d", i)
		sent[id] = time.Now()
		if err := r.enqueueOne(ctx, id); err != nil {
			return nil, err
		}
		if err := r.sleep(ctx, shortest+rand.N(longest-shortest)); err != nil {
			return nil, err
		}
	}
	var took []time.Duration
	received := func() bool {
		took = took[:0]
		for _, call := range r.upstream.calls() {
			if at, ours := sent[call.ApplicationID]; ours {
				took = append(took, call.At.Sub(at))
			}
		}
		return len(took) >= n
	}
	if err := r.waitUntil(ctx, "all interactive requests have arrived", received); err != nil {
		return nil, err
	}
	return []figure{
		atMost("from Enqueue to arrival, p50", "ms", milliseconds(percentile(took, 50)), p50),
		atMost("from Enqueue to arrival, p99", "ms", milliseconds(percentile(took, 99)), p99),
		info("from Enqueue to arrival, longest", "ms", milliseconds(percentile(took, 100))),
	}, nil
}

func (r *rig) enqueueOne(ctx context.Context, id string) error {
	_, err := r.client.Enqueue(ctx, tasks.Request{ApplicationID: id})
	return err
}
