package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func storms() []scenario {
	return []scenario{
		{"flapping", "4 processes, 200/s, 10 s up and 10 s down", false, 9 * time.Minute, flapping},
		{"storm", "4 processes at 200/s where FaceKi allows 20/s: 429 with Retry-After", false, 3 * time.Minute,
			func(ctx context.Context, b *suite) ([]figure, error) { return storm(ctx, b, false) }},
		{"storm-mute", "the same, without Retry-After", false, 3 * time.Minute,
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
	down := failing("http_503")
	for range pick(b, 2, 15, 15) {
		for _, turn := range []func(*upstream) error{down, healed} {
			if err := turn(r.upstream); err != nil {
				return nil, err
			}
			if err := r.pass(ctx, 10*time.Second); err != nil {
				return nil, err
			}
		}
	}
	return r.stormy(ctx, l)
}

func storm(ctx context.Context, b *suite, mute bool) ([]figure, error) {
	l := limit{200, 5}
	cfg := answering()
	cfg.Script.RateLimit = &simulator.RateLimit{PerSecond: 20, Burst: 5}
	r, err := b.busy(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	r.upstream.mute.Store(mute)
	if err := r.pass(ctx, pick(b, 15*time.Second, 30*time.Second, 2*time.Minute)); err != nil {
		return nil, err
	}
	return r.stormy(ctx, l)
}

// busy is a fleet at 200/s with more to do than it ever can.
func (b *suite) busy(ctx context.Context, cfg simulator.Config) (_ *rig, err error) {
	r, err := b.open(cfg)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if err := r.bulk(ctx, r.client, pick(b, 20_000, 50_000, 100_000)); err != nil {
		return nil, err
	}
	if err := r.workers(fleetSize, settings("200/s", 5, slots)...); err != nil {
		return nil, err
	}
	return r, r.arrivals(ctx, 10)
}

func (r *rig) stormy(ctx context.Context, l limit) ([]figure, error) {
	state := r.upstream.State()
	faults := 0
	for _, n := range state.Faults {
		faults += n
	}
	figures := []figure{
		info("calls", "", float64(state.LinkCalls)),
		info("of them refused", "", float64(faults)),
		info("links", "", float64(state.Links)),
	}
	promised, err := r.promises(ctx, l)
	return append(figures, promised...), err
}
