package main

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// again is a window in which most of the rate must be used for an outage to be
// over.
const again = 5 * time.Second

func outages() []scenario {
	within := 8 * time.Minute
	return []scenario{
		{"outage-503", "4 processes, 200/s, 100,000 waiting, every answer is a 503 for a while", false, within,
			func(ctx context.Context, b *suite) ([]figure, error) {
				// Five answers, and a moment for the fleet to see them.
				return outage(ctx, b, 200*(latency+250*time.Millisecond).Seconds(), failing("http_503"), healed)
			}},
		{"outage-hang", "the same, no call is answered for a while", false, within,
			func(ctx context.Context, b *suite) ([]figure, error) {
				// Two seconds without an answer; the slots hold what is out till then.
				return outage(ctx, b, fleetSize*slots, failing("hang"), healed)
			}},
		{"outage-refused", "the same, connections are refused for a while", false, within,
			func(ctx context.Context, b *suite) ([]figure, error) {
				return outage(ctx, b, 0, refusing, (*upstream).listen)
			}},
	}
}

func failing(fault string) func(*upstream) error {
	return func(u *upstream) error {
		script := calm()
		script.Outage = &simulator.Fault{Name: fault}
		return u.SetScript(script)
	}
}

func healed(u *upstream) error { return u.SetScript(calm()) }

func refusing(u *upstream) error {
	u.refuse()
	return nil
}

// outage takes the upstream down in the middle of a backlog and up again.
// closing is how many calls the rate and the slots allow, besides the five that
// tell, until the gate can be closed.
func outage(ctx context.Context, b *suite, closing float64, down, up func(*upstream) error) ([]figure, error) {
	l := limit{200, 5}
	r, err := b.open(answering())
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, pick(b, 20_000, 100_000, 100_000)); err != nil {
		return nil, err
	}
	if err := r.workers(fleetSize, settings("200/s", l.burst, slots)...); err != nil {
		return nil, err
	}
	if err := r.arrivals(ctx, 1000); err != nil {
		return nil, err
	}
	lasts := pick(b, 20*time.Second, 2*time.Minute, 10*time.Minute)
	inFlight := r.upstream.State().InFlight
	from := time.Now()
	if err := down(r.upstream); err != nil {
		return nil, err
	}
	if err := r.pass(ctx, lasts); err != nil {
		return nil, err
	}
	to := time.Now()
	before := r.upstream.State().LinkCalls
	if err := up(r.upstream); err != nil {
		return nil, err
	}
	if err := r.arrivals(ctx, before+1); err != nil { // the first good probe
		return nil, err
	}
	if err := r.pass(ctx, 20*time.Second+again+time.Second); err != nil {
		return nil, err
	}
	return r.afterOutage(ctx, l, from, to, closing, inFlight)
}

func (r *rig) afterOutage(ctx context.Context, l limit, from, to time.Time, closing float64, inFlight int) ([]figure, error) {
	at := times(r.upstream.calls())
	calls := between(at, from, to)
	allowed := float64(inFlight+5+probes(to.Sub(from))) + closing
	figures := []figure{
		atMost("calls during the outage", "", float64(calls), allowed),
		info("in flight at its start", "", float64(inFlight)),
		atMost("calls after its first 4 s: probes", "", float64(between(at, from.Add(4*time.Second), to)), float64(probes(to.Sub(from)))),
	}
	closed, ok, err := r.gate(ctx, from)
	if err != nil {
		return nil, err
	}
	if !ok {
		closed = to.Sub(from) // not at all
	}
	// Five answers are soon there; two seconds without any are an outage, too.
	figures = append(figures, atMost("until the gate closed", "s", closed.Seconds(), 3))
	probe := at[between(at, at[0], to)]
	figures = append(figures, info("until the first good probe", "s", probe.Sub(to).Seconds()))
	took, ok := l.recovered(at, probe, again)
	if !ok {
		took = time.Hour // it did not within the time that was waited
	}
	figures = append(figures, atMost("from that until 95 % of the rate", "s", took.Seconds(), 20))
	promised, err := r.promises(ctx, l)
	return append(figures, promised...), err
}

// probes is how many are due in an outage that lasts: the first after 5 s, each
// pause twice the one before, up to a minute.
func probes(lasts time.Duration) int {
	const first, longest = 5 * time.Second, time.Minute
	n := 0
	for pause, at := first, first; at <= lasts; at += pause {
		n++
		pause = min(2*pause, longest)
	}
	return n
}
