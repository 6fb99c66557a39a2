package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// clockRun runs a decider whose clock is set meanwhile, with one process that queries it
// every 50 ms.
type clockRun struct {
	t             *testing.T
	decider       decider
	elapsed       time.Duration // true time since the start
	offset        time.Duration // of Redis' clock
	knownOffset   time.Duration // the offset at the last heartbeat of the process
	lastHeartbeat time.Duration // since the start
	inFlight      []Report
	grants        []time.Duration
	calls         int
}

func (s *clockRun) now() time.Time { return start.Add(s.elapsed + s.offset) }

// tick advances the time by 50 ms, and queries one call.
func (s *clockRun) tick() Decision {
	s.elapsed += 50 * time.Millisecond
	if s.elapsed-s.lastHeartbeat >= time.Second {
		s.lastHeartbeat, s.knownOffset = s.elapsed, s.offset
		s.decider.Heartbeat(s.now(), "1")
	}
	s.decider.Watch(s.now())
	s.calls++
	return s.admit(Query{Lane: request.Interactive, Process: "1", Credential: "good", ID: fmt.Sprint("A-", s.calls)})
}

func (s *clockRun) admit(query Query) Decision {
	query.Expected = start.Add(s.elapsed + s.knownOffset)
	d := s.decider.Admit(s.now(), query)
	switch d.Verdict {
	case Grant, Probe:
		s.grants = append(s.grants, s.elapsed+d.Wait)
		s.inFlight = append(s.inFlight, Report{ID: query.ID, Process: "1", Credential: "good", Began: s.now()})
	case Connect:
		query.Connected = true
		return s.admit(query)
	case Wait:
	}
	return d
}

// report reports the outcome of all calls in flight.
func (s *clockRun) report(signal Signal) {
	for _, r := range s.inFlight {
		r.Signal, r.Latency = signal, 50*time.Millisecond
		s.decider.Report(s.now(), r)
	}
	s.inFlight = nil
}

// until ticks until a condition holds, at most for a given time. If signal is not "", it is
// the outcome of each call.
func (s *clockRun) until(condition string, within time.Duration, signal Signal, holds func(Decision) bool) {
	s.t.Helper()
	for end := s.elapsed + within; ; {
		d := s.tick()
		if holds(d) {
			return
		}
		if s.elapsed > end {
			s.t.Fatalf("not so after %v: %s; the last decision is %+v", within, condition, d)
		}
		if signal != "" {
			s.report(signal)
		}
	}
}

func granted(d Decision) bool        { return d.Verdict == Grant }
func closedByOutage(d Decision) bool { return d.Reason == outage }

// checkRate checks that no interval has more grants than the rate and the burst allow.
func (s *clockRun) checkRate(rate, burst float64) {
	s.t.Helper()
	for i := range s.grants {
		for j := i; j < len(s.grants); j++ {
			if n, limit := float64(j-i+1), rate*(s.grants[j]-s.grants[i]).Seconds()+burst; n > limit+1e-6 {
				s.t.Fatalf("%g grants from %v to %v, want at most %g", n, s.grants[i], s.grants[j], limit)
			}
		}
	}
}

// TestGate_WorksAfterStepsOfTheClock sets Redis' clock in each state of the gate. Afterwards
// the gate opens while FaceKi works, and closes on an outage and on hanging calls; the rate
// is never exceeded.
func TestGate_WorksAfterStepsOfTheClock(t *testing.T) {
	states := map[string]func(s *clockRun){
		"open": func(s *clockRun) { s.until("the gate is open", 10*time.Second, Success, granted) },
		"calls in flight": func(s *clockRun) {
			s.until("four calls are in flight", 10*time.Second, "", func(Decision) bool { return len(s.inFlight) == 4 })
		},
		"closed": func(s *clockRun) { s.until("the gate closes", 10*time.Second, Outage, closedByOutage) },
		"closed for a minute": func(s *clockRun) {
			s.until("the gate closes", 10*time.Second, Outage, closedByOutage)
			s.until("a minute passes", 2*time.Minute, Outage, func(Decision) bool { return s.elapsed > time.Minute })
		},
		"connecting": func(s *clockRun) {
			s.until("the gate closes", 10*time.Second, Outage, closedByOutage)
			s.elapsed += 5 * time.Second
			s.decider.Admit(s.now(), Query{Lane: request.Interactive, Process: "2", Credential: "good", ID: "B-1"})
		},
		"probing": func(s *clockRun) {
			s.until("the gate closes", 10*time.Second, Outage, closedByOutage)
			s.until("the gate probes", 10*time.Second, "", func(d Decision) bool { return d.Verdict == Probe })
			s.inFlight = nil // the process that probes dies
		},
		"ramping": func(s *clockRun) {
			s.until("the gate closes", 10*time.Second, Outage, closedByOutage)
			s.until("the gate opens", 2*time.Minute, "", func(d Decision) bool {
				if s.elapsed > 30*time.Second {
					s.report(Success)
				} else {
					s.report(Outage)
				}
				return granted(d)
			})
		},
		"refused": func(s *clockRun) {
			s.until("the gate is open", 10*time.Second, "", granted)
			s.report(Refused)
		},
		"throttled": func(s *clockRun) {
			s.until("the gate is open", 10*time.Second, "", granted)
			s.report(Throttle)
		},
	}
	for name, prepare := range states {
		for _, step := range []time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 5 * time.Second, 20 * time.Second, 24 * time.Hour} {
			t.Run(fmt.Sprint(name, " ", step), func(t *testing.T) {
				t.Parallel()
				onModelAndRedis(t, step, func(t *testing.T, d decider) {
					s := &clockRun{t: t, decider: d}
					d.SetRate(s.now(), Rate{5, time.Second}, 5)
					prepare(s)
					s.offset = step
					// A probe of a dead process is given up after 75 s, and refused credentials
					// are probed after 60 s.
					s.until("the gate opens after the step", 80*time.Second, Success, granted)
					s.until("the gate closes on an outage", 10*time.Second, Outage, closedByOutage)
					s.until("the gate opens after the outage", 15*time.Second, Success, granted)
					s.until("the gate closes on hanging calls", 10*time.Second, "", closedByOutage)
					s.report(None)
					s.until("the gate opens after the hanging calls", 15*time.Second, Success, granted)
					s.checkRate(5, 5)
				})
			})
		}
	}
}

// onModelAndRedis runs a test with the model and, for half of the steps or in test-long for
// all, with Redis. The differential test covers miniredis, which is slow.
func onModelAndRedis(t *testing.T, step time.Duration, test func(t *testing.T, d decider)) {
	t.Run("model", func(t *testing.T) { test(t, NewModel()) })
	if everyStepOnRedis || slices.Contains([]time.Duration{-time.Hour, -5 * time.Second, 20 * time.Second}, step) {
		t.Run("redis", func(t *testing.T) { test(t, onRedis(t)) })
	}
}
