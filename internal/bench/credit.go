package main

import (
	"context"
	"time"
)

func credits() []scenario {
	return []scenario{
		{"credit", "4 processes, 200/s, credit runs out in the middle; topped up after a while", false, 10 * time.Minute, credit},
	}
}

// credit takes minutes: for want of credit the gate probes each 1 to 10 minutes.
func credit(ctx context.Context, b *suite) ([]figure, error) {
	l, n := limit{200, 5}, pick(b, 1000, 10_000, 10_000)
	cfg := answering()
	paid := n / 2
	cfg.Script.Credit = &paid
	r, err := b.open(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, n); err != nil {
		return nil, err
	}
	if err := r.workers(fleetSize, settings("200/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.until(ctx, "the credit has run out", func() bool { return r.upstream.State().Faults["no_credit"] > 0 }); err != nil {
		return nil, err
	}
	if err := r.pass(ctx, 10*time.Second); err != nil {
		return nil, err
	}
	refused := r.upstream.State().Faults["no_credit"]
	r.upstream.TopUp(2 * n)
	topped := time.Now()
	if err := r.done(ctx); err != nil {
		return nil, err
	}
	figures := []figure{
		// What is out when the first one is told so may be told the same.
		atMost("calls refused for want of credit", "", float64(refused), fleetSize*slots),
		atLeast("links, without anyone's help", "", float64(r.ended.created), float64(n)),
		info("from the top-up until all are done", "s", time.Since(topped).Seconds()),
	}
	promised, err := r.promises(ctx, l)
	return append(figures, promised...), err
}
