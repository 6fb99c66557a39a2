package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// script is how FaceKi behaves where nothing is done to it. Some requests are
// wrong in themselves, whatever happens.
func script(seed uint64) simulator.Script {
	return simulator.Script{
		Seed: seed, Latency: simulator.Duration(20 * time.Millisecond), Jitter: simulator.Duration(15 * time.Millisecond),
		Rules: []simulator.Rule{{Match: "*-bad-*", Fault: simulator.Fault{Name: "code_5002"}}},
	}
}

// upstreamKinds is what can be done to FaceKi, and on the way to it.
func (r *rig) upstreamKinds(long bool) []kind {
	const group, net = "faceki", "faceki-net"
	sec := time.Second
	answering := func(name string, probability float64) inject {
		return r.scripted(func(s *simulator.Script) {
			s.Faults = []simulator.Chance{{Fault: simulator.Fault{Name: name}, Probability: probability}}
		}, name == "redirect")
	}
	var kinds []kind
	for _, name := range []string{
		"http_500", "http_502", "http_503", "http_504", "http_429", "code_1000", "code_8016",
		"reset_before", "reset_after", "truncated", "not_json", "too_long", "hang",
	} {
		kinds = append(kinds, kind{"faceki-" + name, group, sec, 3 * sec, answering(name, 0.4)})
	}
	kinds = append(kinds,
		kind{"faceki-no_url", group, sec, 2 * sec, answering("no_url", 0.1)},
		kind{"faceki-no_data", group, sec, 2 * sec, answering("no_data", 0.1)},
		kind{"faceki-foreign", group, sec, 2 * sec, answering("foreign_url", 0.1)},
		kind{"faceki-outage", group, 3 * sec, 8 * sec, r.scripted(func(s *simulator.Script) { s.Outage = &simulator.Fault{Name: "http_503"} }, false)},
		kind{"faceki-dead", group, 3 * sec, 8 * sec, r.scripted(func(s *simulator.Script) { s.Outage = &simulator.Fault{Name: "hang"} }, false)},
		kind{"faceki-limit", group, 2 * sec, 5 * sec, r.scripted(func(s *simulator.Script) {
			s.RateLimit = &simulator.RateLimit{PerSecond: r.cfg.rate / 2, Burst: 5}
		}, false)},
		kind{"faceki-no-credit", group, 2 * sec, 4 * sec, r.scripted(func(s *simulator.Script) { credit := 5; s.Credit = &credit }, true)},
		kind{"faceki-cut", net, aBit, aBit, func(ctx context.Context, _ occasion) error { return r.road.cut(ctx) }},
		kind{"faceki-slow", net, 2 * sec, 4 * sec, r.blocked(func() error { return r.road.slow(400) })},
		kind{"faceki-hole", net, 2 * sec, 6 * sec, r.blocked(r.road.swallow)},
	)
	if long {
		kinds = append(kinds,
			kind{"faceki-redirect", group, sec, 2 * sec, answering("redirect", 0.2)},
			kind{"faceki-no-token", group, 2 * sec, 4 * sec, r.tokenless},
			kind{"faceki-revoke", group, aBit, aBit, func(context.Context, occasion) error { r.upstream.Revoke(); return nil }})
	}
	return kinds
}

// scripted changes FaceKi for a while. Where a person had to mend it, such as by
// topping up, that person lets the fleet try at once afterwards.
func (r *rig) scripted(change func(*simulator.Script), person bool) inject {
	return func(ctx context.Context, o occasion) error {
		s := script(r.cfg.seed)
		change(&s)
		if err := r.upstream.SetScript(s); err != nil {
			return err
		}
		o.wait()
		if err := r.wellAgain(); err != nil || !person {
			return err
		}
		r.resume(ctx)
		return nil
	}
}

// tokenless refuses new tokens for a while, and the old ones.
func (r *rig) tokenless(_ context.Context, o occasion) error {
	s := script(r.cfg.seed)
	s.TokenFault = &simulator.Fault{Name: "http_500"}
	if err := r.upstream.SetScript(s); err != nil {
		return err
	}
	r.upstream.Revoke()
	o.wait()
	return r.wellAgain()
}

func (r *rig) wellAgain() error {
	r.upstream.Release()
	return r.upstream.SetScript(script(r.cfg.seed))
}

// resume is what a person does who knows that FaceKi is well.
func (r *rig) resume(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// Redis may be away: then the gate's own pauses have to do.
	_ = admission.NewAccount(r.rdb, account).Resume(ctx)
}

func (r *rig) blocked(begin func() error) inject {
	return func(ctx context.Context, o occasion) error {
		if err := begin(); err != nil {
			return err
		}
		o.wait()
		return r.road.clear(ctx)
	}
}
