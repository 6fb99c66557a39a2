package main

import (
	"context"
	"time"
)

func credits() []scenario {
	return []scenario{
		{"credit", "4 processes, 200/s, credit runs out halfway and is topped up after 10 s", false, 130 * time.Second, 10 * time.Minute, credit},
	}
}

// credit takes minutes, because without credit the gate probes only every 1 to 10 minutes.
func credit(ctx context.Context, b *suite) ([]figure, error) {
	l, n := limit{200, 5}, pick(b, 1000, 10_000, 10_000)
	cfg := answering()
	paid := n / 2
	cfg.Script.Credit = &paid
	r, err := b.loaded(ctx, cfg, n, fleetSize, settings("200/s", l.burst, slots)...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.waitUntil(ctx, "the credit has run out", func() bool { return r.upstream.State().Faults["no_credit"] > 0 }); err != nil {
		return nil, err
	}
	if err := r.sleep(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	refused := r.upstream.State().Faults["no_credit"]
	r.upstream.TopUp(2 * n)
	topped := time.Now()
	if err := r.waitForEnds(ctx); err != nil {
		return nil, err
	}
	figures := []figure{
		// Calls in flight at the first refusal may be refused, too.
		atMost("calls refused for lack of credit", "", float64(refused), fleetSize*slots),
		atLeast("links, without an operator action", "", float64(r.outcomes.created), float64(n)),
		info("from the top-up until all requests ended", "s", time.Since(topped).Seconds()),
	}
	promised, err := r.promiseFigures(ctx, l)
	return append(figures, promised...), err
}
