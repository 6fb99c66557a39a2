package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/tasks"
)

func signups() []scenario {
	return []scenario{
		{"signup-bulk", "1 process, 50/s, 20,000 waiting bulk requests, one interactive request per second", false, 50 * time.Second, 5 * time.Minute, signupBulk},
		{"signup-idle", "1 process, 500/s, otherwise idle", true, 40 * time.Second, 3 * time.Minute, signupIdle},
		{"signup-ways", "1 process, 500/s, otherwise idle; interactive requests by HTTP and by the intake stream in turn", true, 25 * time.Second, 3 * time.Minute, signupWays},
	}
}

func signupBulk(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{50, 5}
	r, err := b.loaded(ctx, answering(), 20_000, 1, settings("50/s", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
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
	began := time.Now()
	if err := r.workers(1, settings...); err != nil {
		return nil, err
	}
	if err := r.sleep(ctx, pick(b, 8*time.Second, 15*time.Second, time.Minute)); err != nil {
		return nil, err
	}
	// This includes the start of the process, which is less than half a percent.
	if err := r.processes[0].Stop(30 * time.Second); err != nil {
		return nil, err
	}
	share := cpuOf(r.processes[0]).Seconds() / time.Since(began).Seconds()
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
	figures = append(figures, atMost("processor time of an idle process", "% of a core", 100*share, 3))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// signupWays compares the ways in: none may be slower than HTTP.
func signupWays(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{500, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	s, err := r.serve(ctx, 1)
	if err != nil {
		return nil, err
	}
	if err := r.workers(1, settings("500/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.enqueueOne(ctx, "warm-up"); err != nil {
		return nil, err
	}
	http, err := s.connect(ctx, 0, "")
	if err != nil {
		return nil, err
	}
	defer func() { _ = http.conn.Close() }()
	byHTTP := func(_ context.Context, id string) error {
		status, body, err := http.post(id)
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("status %d: %s", status, body)
		}
		return err
	}
	byStream := func(ctx context.Context, id string) error {
		return r.rdb.XAdd(ctx, &redis.XAddArgs{Stream: requestsStream, Values: []string{"application_id", id}}).Err()
	}
	took, err := r.arrivals(ctx, pick(b, 200, 300, 4000), 20*time.Millisecond, 80*time.Millisecond, byHTTP, byStream)
	if err != nil {
		return nil, err
	}
	var figures []figure
	for i, way := range []string{"POST", "XADD"} {
		figures = append(figures,
			info("from "+way+" to arrival, p50", "ms", milliseconds(percentile(took[i], 50))),
			info("from "+way+" to arrival, p99", "ms", milliseconds(percentile(took[i], 99))))
	}
	figures = append(figures, atMost("p50 from XADD against POST", "", float64(percentile(took[1], 50))/float64(percentile(took[0], 50)), 1))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}

// requestsStream is the key of the intake stream.
const requestsStream = "{kyclink:default}:requests"

// signups enqueues n interactive requests with pauses, and measures the time from the call
// of Enqueue to the arrival at the upstream.
func (r *rig) signups(ctx context.Context, n int, shortest, longest time.Duration, p50, p99 float64) ([]figure, error) {
	all, err := r.arrivals(ctx, n, shortest, longest, r.enqueueOne)
	if err != nil {
		return nil, err
	}
	took := all[0]
	return []figure{
		atMost("from Enqueue to arrival, p50", "ms", milliseconds(percentile(took, 50)), p50),
		atMost("from Enqueue to arrival, p99", "ms", milliseconds(percentile(took, 99)), p99),
		info("from Enqueue to arrival, longest", "ms", milliseconds(percentile(took, 100))),
	}, nil
}

// arrivals sends n interactive requests with pauses, each in the next of the ways, and
// returns for each way how long they took from then to the arrival at the upstream.
func (r *rig) arrivals(ctx context.Context, n int, shortest, longest time.Duration, ways ...func(ctx context.Context, id string) error) ([][]time.Duration, error) {
	type request struct {
		way int
		at  time.Time
	}
	sent := make(map[string]request, n)
	for i := range n {
		id, way := fmt.Sprintf("S-%05d", r.signedUp), i%len(ways)
		r.signedUp++
		sent[id] = request{way, time.Now()}
		if err := ways[way](ctx, id); err != nil {
			return nil, err
		}
		if err := r.sleep(ctx, shortest+rand.N(longest-shortest)); err != nil {
			return nil, err
		}
	}
	took := make([][]time.Duration, len(ways))
	received := func() bool {
		clear(took)
		arrived := 0
		for _, call := range r.upstream.calls() {
			if r, ours := sent[call.ApplicationID]; ours {
				took[r.way] = append(took[r.way], call.At.Sub(r.at))
				arrived++
			}
		}
		return arrived >= n
	}
	return took, r.waitUntil(ctx, "all interactive requests have arrived", received)
}

func (r *rig) enqueueOne(ctx context.Context, id string) error {
	_, err := r.client.Enqueue(ctx, tasks.Request{ApplicationID: id})
	return err
}
