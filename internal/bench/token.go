package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func tokens() []scenario {
	return []scenario{
		{"token-start", "50 processes start simultaneously", true, 15 * time.Second, 3 * time.Minute, tokenStart},
		{"token-expiry", "4 processes, 50/s, token lifetime 40 s", false, 65 * time.Second, 3 * time.Minute, tokenExpiry},
		{"token-refused", "4 processes, 50/s, every token is refused for some time", false, 130 * time.Second, 6 * time.Minute, tokenRefused},
	}
}

func tokenStart(ctx context.Context, b *suite) ([]figure, error) {
	const processes = 50
	l := limit{50, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, 500); err != nil {
		return nil, err
	}
	if err := r.workers(processes, settings("50/s", l.burst, 2)...); err != nil {
		return nil, err
	}
	if err := r.waitForEnds(ctx); err != nil {
		return nil, err
	}
	figures, err := r.promiseFigures(ctx, l)
	return append([]figure{atMost("token requests", "", r.tokens(), 1)}, figures...), err
}

func (r *rig) tokens() float64 { return float64(r.upstream.State().TokenRequests) }

func tokenExpiry(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{50, 5}
	cfg := answering()
	cfg.TokenLifetime = 40 * time.Second // more than the 30 s between renewals
	r, err := b.open(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, 10_000); err != nil {
		return nil, err
	}
	if err := r.workers(fleetSize, settings("50/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, 1); err != nil {
		return nil, err
	}
	first := r.tokens()
	if err := r.sleep(ctx, time.Minute); err != nil {
		return nil, err
	}
	figures, err := r.promiseFigures(ctx, l)
	return append([]figure{
		atMost("token requests at the start", "", first, 1),
		atMost("token requests after the expiry", "", r.tokens()-first, 1),
	}, figures...), err
}

func tokenRefused(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{50, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, 10_000); err != nil {
		return nil, err
	}
	if err := r.workers(fleetSize, settings("50/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.waitForCalls(ctx, 250); err != nil {
		return nil, err
	}
	script := defaultScript()
	script.Rules = []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_401"}}}
	if err := r.upstream.SetScript(script); err != nil {
		return nil, err
	}
	first, calls := r.tokens(), r.upstream.State().LinkCalls
	if err := r.sleep(ctx, pick(b, 20*time.Second, time.Minute, time.Minute)); err != nil {
		return nil, err
	}
	figures := []figure{
		atMost("token requests while refused", "", r.tokens()-first, 3),
		info("calls while refused", "", float64(r.upstream.State().LinkCalls-calls)),
	}
	if err := endFault(r.upstream); err != nil {
		return nil, err
	}
	calls = r.upstream.State().LinkCalls
	start := time.Now()
	if err := r.waitForCalls(ctx, calls+100); err != nil {
		return nil, err
	}
	figures = append(figures, info("until calls resume without an operator action", "s", time.Since(start).Seconds()))
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}
