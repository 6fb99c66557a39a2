package admission

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// stepped drives a machine whose clock is set while it runs, with one process that asks
// every 50 ms and tells what FaceKi would answer.
type stepped struct {
	t          *testing.T
	m          machine
	true       time.Duration // since the start
	off        time.Duration // of Redis' clock
	heard      time.Duration // what the process knows of that, since its last heartbeat
	heartbeats time.Duration // when that was
	out        []Report
	grants     []time.Duration
	n          int
}

func (s *stepped) now() time.Time { return start.Add(s.true + s.off) }

// tick passes 50 ms, and asks for one call.
func (s *stepped) tick() Decision {
	s.true += 50 * time.Millisecond
	if s.true-s.heartbeats >= time.Second {
		s.heartbeats, s.heard = s.true, s.off
		s.m.Heartbeat(s.now(), "1")
	}
	s.m.Watch(s.now())
	s.n++
	return s.ask(Query{Lane: request.Interactive, Process: "1", Credential: "good", ID: fmt.Sprint("A-", s.n)})
}

func (s *stepped) ask(ask Query) Decision {
	ask.Expected = start.Add(s.true + s.heard)
	d := s.m.Admit(s.now(), ask)
	switch d.Verdict {
	case Grant, Probe:
		s.grants = append(s.grants, s.true+d.Wait)
		s.out = append(s.out, Report{ID: ask.ID, Process: "1", Credential: "good", Began: s.now()})
	case Connect:
		ask.Connected = true
		return s.ask(ask)
	case Wait:
	}
	return d
}

func (s *stepped) answer(kind Kind) {
	for _, r := range s.out {
		r.Kind, r.Latency = kind, 50*time.Millisecond
		s.m.Report(s.now(), r)
	}
	s.out = nil
}

// until ticks until a call is decided so, within that much true time.
func (s *stepped) until(what string, within time.Duration, kind Kind, holds func(Decision) bool) {
	s.t.Helper()
	for end := s.true + within; ; {
		d := s.tick()
		if holds(d) {
			return
		}
		if s.true > end {
			s.t.Fatalf("within %v it never came true: %s; the last decision was %+v", within, what, d)
		}
		if kind != "" {
			s.answer(kind)
		}
	}
}

func opens(d Decision) bool  { return d.Verdict == Grant }
func closes(d Decision) bool { return d.Reason == outage }

func (s *stepped) pace(rate, burst float64) {
	s.t.Helper()
	for i := range s.grants {
		for j := i; j < len(s.grants); j++ {
			if n, most := float64(j-i+1), rate*(s.grants[j]-s.grants[i]).Seconds()+burst; n > most+1e-6 {
				s.t.Fatalf("%g grants from %v to %v, at most %g may be", n, s.grants[i], s.grants[j], most)
			}
		}
	}
}

// TestStepsOfTheClock: whatever state the gate is in when Redis' clock is set, the gate
// opens as maxWait as FaceKi is well, closes on an outage and on a hang, and the rate is kept.
func TestStepsOfTheClock(t *testing.T) {
	states := map[string]func(s *stepped){
		"open": func(s *stepped) { s.until("it is open", 10*time.Second, Success, opens) },
		"calls out": func(s *stepped) {
			s.until("it is open", 10*time.Second, "", func(Decision) bool { return len(s.out) == 4 })
		},
		"closed": func(s *stepped) { s.until("it closes", 10*time.Second, Outage, closes) },
		"closed for long": func(s *stepped) {
			s.until("it closes", 10*time.Second, Outage, closes)
			s.until("a minute passes", 2*time.Minute, Outage, func(Decision) bool { return s.true > time.Minute })
		},
		"connecting": func(s *stepped) {
			s.until("it closes", 10*time.Second, Outage, closes)
			s.true += 5 * time.Second
			s.m.Admit(s.now(), Query{Lane: request.Interactive, Process: "2", Credential: "good", ID: "B-1"})
		},
		"probing": func(s *stepped) {
			s.until("it closes", 10*time.Second, Outage, closes)
			s.until("it probes", 10*time.Second, "", func(d Decision) bool { return d.Verdict == Probe })
			s.out = nil // its process dies
		},
		"ramping": func(s *stepped) {
			s.until("it closes", 10*time.Second, Outage, closes)
			s.until("it opens", 2*time.Minute, "", func(d Decision) bool {
				if s.true > 30*time.Second {
					s.answer(Success)
				} else {
					s.answer(Outage)
				}
				return opens(d)
			})
		},
		"refused": func(s *stepped) {
			s.until("it is open", 10*time.Second, "", opens)
			s.answer(Refused)
		},
		"throttled": func(s *stepped) {
			s.until("it is open", 10*time.Second, "", opens)
			s.answer(Throttle)
		},
	}
	for name, prepare := range states {
		for _, step := range []time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 5 * time.Second, 20 * time.Second, 24 * time.Hour} {
			t.Run(fmt.Sprint(name, " ", step), func(t *testing.T) {
				t.Parallel()
				everyStep(t, step, func(t *testing.T, m machine) {
					s := &stepped{t: t, m: m}
					m.SetRate(s.now(), Rate{5, time.Second}, 5)
					prepare(s)
					s.off = step
					// A probe that died is given up after 75 s, refused credentials rest for 60 s.
					s.until("it opens", 80*time.Second, Success, opens)
					s.until("it closes on an outage", 10*time.Second, Outage, closes)
					s.until("it opens again", 15*time.Second, Success, opens)
					s.until("it closes on a hang", 10*time.Second, "", closes)
					s.answer(None)
					s.until("it opens once more", 15*time.Second, Success, opens)
					s.pace(5, 5)
				})
			})
		}
	}
}

// everyStep leaves miniredis, which is slow, to the differential test, and half of
// the steps on Redis to test-long.
func everyStep(t *testing.T, step time.Duration, test func(t *testing.T, m machine)) {
	t.Run("go", func(t *testing.T) { test(t, NewState()) })
	if everyStepOnRedis || slices.Contains([]time.Duration{-time.Hour, -5 * time.Second, 20 * time.Second}, step) {
		t.Run("redis", func(t *testing.T) { test(t, onRedis(t)) })
	}
}
