package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func storms() []scenario {
	return []scenario{
		{"flapping", "4 processes, 200/s, alternating 10 s outages and 10 s of service", false, 90 * time.Second, 9 * time.Minute, flapping},
		{"storm", "4 processes at 200/s, but FaceKi allows 20/s: 429 with Retry-After", false, 35 * time.Second, 3 * time.Minute,
			func(ctx context.Context, b *suite) ([]figure, error) { return storm(ctx, b, false) }},
		{"storm-mute", "the same, without Retry-After", false, 35 * time.Second, 3 * time.Minute,
			func(ctx context.Context, b *suite) ([]figure, error) { return storm(ctx, b, true) }},
	}
}

func flapping(ctx context.Context, b *suite) ([]figure, error) {
	l := limit{200, 5}
	r, err := b.busy(ctx, answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	down := startFault("http_503")
	for range pick(b, 2, 4, 15) {
		for _, turn := range []func(*upstream) error{down, endFault} {
			if err := turn(r.upstream); err != nil {
				return nil, err
			}
			if err := r.sleep(ctx, 10*time.Second); err != nil {
				return nil, err
			}
		}
	}
	return r.stormFigures(ctx, l)
}

func storm(ctx context.Context, b *suite, omitRetryAfter bool) ([]figure, error) {
	l := limit{200, 5}
	cfg := answering()
	cfg.Script.RateLimit = &simulator.RateLimit{PerSecond: 20, Burst: 5}
	r, err := b.busy(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.upstream.omitRetryAfter.Store(omitRetryAfter)
	if err := r.sleep(ctx, pick(b, 15*time.Second, 30*time.Second, 2*time.Minute)); err != nil {
		return nil, err
	}
	return r.stormFigures(ctx, l)
}

// busy returns a rig with a fleet at 200/s and a backlog that outlasts the scenario. The
// caller calls close.
func (b *suite) busy(ctx context.Context, cfg simulator.Config) (*rig, error) {
	r, err := b.loaded(ctx, cfg, pick(b, 20_000, 50_000, 100_000), fleetSize, settings("200/s", 5, slots)...)
	if err == nil {
		if err = r.waitForCalls(ctx, 10); err != nil {
			r.close()
		}
	}
	return r, err
}

func (r *rig) stormFigures(ctx context.Context, l limit) ([]figure, error) {
	state := r.upstream.State()
	faults := 0
	for _, n := range state.Faults {
		faults += n
	}
	figures := []figure{
		info("calls", "", float64(state.LinkCalls)),
		info("refused calls", "", float64(faults)),
		info("links", "", float64(state.Links)),
	}
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}
