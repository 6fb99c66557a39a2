package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// script returns FaceKi's behavior without injected faults. It always refuses some requests
// as invalid.
func script(seed uint64) simulator.Script {
	return simulator.Script{
		Seed: seed, Latency: simulator.Duration(20 * time.Millisecond), Jitter: simulator.Duration(15 * time.Millisecond),
		Rules: []simulator.Rule{{Match: "*-bad-*", Fault: simulator.Fault{Name: "code_5002"}}},
	}
}

// upstreamKinds returns the faults of FaceKi and of the connections to it.
func (r *rig) upstreamKinds(long bool) []kind {
	const group, net = "faceki", "faceki-net"
	sec := time.Second
	answering := func(name string, probability float64) injectFunc {
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
		kind{"faceki-cut", net, moment, moment, func(ctx context.Context, _ injection) error { return r.proxy.disconnect(ctx) }},
		kind{"faceki-slow", net, 2 * sec, 4 * sec, r.blocked(func() error { return r.proxy.addLatency(400) })},
		kind{"faceki-hole", net, 2 * sec, 6 * sec, r.blocked(r.proxy.blackhole)},
	)
	if long {
		kinds = append(kinds,
			kind{"faceki-redirect", group, sec, 2 * sec, answering("redirect", 0.2)},
			kind{"faceki-no-token", group, 2 * sec, 4 * sec, r.refuseTokens},
			kind{"faceki-revoke", group, moment, moment, func(context.Context, injection) error { r.upstream.Revoke(); return nil }})
	}
	return kinds
}

// scripted changes FaceKi's script for the duration of a fault. After a fault that an
// operator has to fix, such as a lack of credit, it opens the gate immediately.
func (r *rig) scripted(change func(*simulator.Script), operator bool) injectFunc {
	return func(ctx context.Context, o injection) error {
		s := script(r.cfg.seed)
		change(&s)
		if err := r.upstream.SetScript(s); err != nil {
			return err
		}
		o.wait()
		if err := r.restoreUpstream(); err != nil || !operator {
			return err
		}
		r.resume(ctx)
		return nil
	}
}

// refuseTokens refuses existing tokens and token requests.
func (r *rig) refuseTokens(_ context.Context, o injection) error {
	s := script(r.cfg.seed)
	s.TokenFault = &simulator.Fault{Name: "http_500"}
	if err := r.upstream.SetScript(s); err != nil {
		return err
	}
	r.upstream.Revoke()
	o.wait()
	return r.restoreUpstream()
}

// restoreUpstream ends all faults of FaceKi.
func (r *rig) restoreUpstream() error {
	r.upstream.Release()
	return r.upstream.SetScript(script(r.cfg.seed))
}

// resume opens the gate, as an operator does after an outage of FaceKi.
func (r *rig) resume(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// If Redis is unavailable, the gate opens later by itself.
	_ = admission.NewAccount(r.rdb, account).Resume(ctx)
}

// blocked applies a fault of the proxy to FaceKi.
func (r *rig) blocked(begin func() error) injectFunc {
	return func(ctx context.Context, o injection) error {
		if err := begin(); err != nil {
			return err
		}
		o.wait()
		return r.proxy.reset(ctx)
	}
}
