package admission

import (
	"time"
)

// State is everything that admission knows of one account, and the pure
// decision. Time is the argument of each method and must be one clock's. It is
// for one goroutine at a time. Make it with [NewState].
type State struct {
	rate, own, over Rate // in force, the workers', a person's
	bucket          bucket
	lines           lines
	gate            gate
	refused         map[string]*refusal
	cleared         map[string]float64
	beats           map[string]float64 // the last heartbeat of each process
	history         []Change

	us, now  float64 // the time of the call under way, µs and ms
	expected float64 // what its process takes the time for, ms; 0: it does not know
}

// NewState is an account that nobody has used: open, 5/s with a burst of 5, and
// an empty bucket.
func NewState() *State {
	rate := Rate{5, time.Second}
	return &State{
		rate: rate, own: rate, bucket: bucket{burst: 5},
		gate:    gate{state: open, calls: map[call]float64{}},
		refused: map[string]*refusal{}, cleared: map[string]float64{}, beats: map[string]float64{},
	}
}

// begin takes the time, sees that the clock went back by what was noted a moment
// before, and ends a ramp whose time is over.
func (s *State) begin(now time.Time) {
	s.us, s.now, s.expected = float64(now.UnixMicro()), float64(now.UnixMilli()), 0
	if ahead := max(s.gate.looked, s.gate.answered) - s.now; ahead > 0 {
		s.rebase(ahead)
	}
	if s.gate.state == ramping && s.now >= s.gate.opened+rampTakes {
		s.turn(open, "", s.gate.opened+rampTakes)
	}
}

// settle brings the bucket to now, at the rate that is in force now. During a
// ramp that is more than it was a moment ago, and never more than the rate.
func (s *State) settle() {
	part := 1.0
	if s.gate.state == ramping {
		part = 0.1 + 0.9*min(1, max(0, s.now-s.gate.opened)/rampTakes)
	}
	s.bucket.slot = float64(s.rate.Per.Milliseconds()) * 1000 / (float64(s.rate.N) * part)
	s.bucket.settle(s.us, s.expected > 0 && s.now-s.expected > step)
}

// Admit decides whether a call may go now.
func (s *State) Admit(now time.Time, ask Ask) Decision {
	s.begin(now)
	if !ask.Expected.IsZero() {
		s.expected = float64(ask.Expected.UnixMilli())
	}
	g := &s.gate
	if g.reason == paused {
		return Decision{Wait, millis(soon), paused}
	}
	s.look()
	if s.hanging() {
		s.failing(outage, false, 0)
	}
	r := s.refusal(ask.Credential)
	if r != nil && s.now < r.next {
		return Decision{Wait, millis(min(soon, r.next-s.now)), refused}
	}
	if r != nil {
		own := r.prober == ask.Process && r.id == ask.ID
		if r.by > s.now && !(own && r.by <= s.now+connectWithin) {
			return Decision{Wait, millis(soon), refused}
		}
		if !own || !ask.Connected {
			r.prober, r.id, r.by = ask.Process, ask.ID, s.now+connectWithin
			s.refused[ask.Credential] = r
			return Decision{Connect, 0, refused}
		}
	}
	var d Decision
	if g.state == closed {
		d = s.probing(ask)
	} else {
		d = s.byRate(ask)
	}
	if d.Verdict != Grant && d.Verdict != Probe {
		return d
	}
	g.calls[call{ask.Process, ask.ID}] = s.now
	if r != nil {
		r.prober, r.id, r.by = ask.Process, ask.ID, s.now+answerWithin
		s.refused[ask.Credential] = r
		d.Verdict, d.Reason = Probe, refused
	}
	return d
}

// Report takes the outcome of a grant, or of an order to connect.
func (s *State) Report(now time.Time, r Report) {
	s.begin(now)
	g := &s.gate
	marked, retryAfter := float64(r.Marked.UnixMilli()), float64(r.RetryAfter.Milliseconds())
	delete(g.calls, call{r.Process, r.ID})
	switch r.Kind {
	case Outage, None, Back, Unconnected:
	default:
		g.answered = s.now
	}
	good := r.Kind == Success || r.Kind == Alive
	if good {
		g.learn(float64(r.Latency.Milliseconds()))
		g.throttles = max(0, g.throttles-0.25)
	}
	s.judge(r, marked)
	switch {
	case g.isProbe(r):
		s.concludeProbe(r.Kind, retryAfter)
	case marked < g.opened: // it says nothing of now
	case r.Kind == Throttle:
		s.throttled(false, retryAfter)
	case r.Kind == NoCredit || r.Kind == LimitReached:
		s.failing(string(r.Kind), false, 0)
	case g.underlying() != "": // what was sent before it closed says nothing new
	case good || r.Kind == Outage:
		s.outcome(good, r.ID)
	}
}

// Beat is a heartbeat of a process.
func (s *State) Beat(now time.Time, process string) { s.beats[process] = float64(now.UnixMilli()) }

// Watch looks for calls that hang, which nobody would notice where every slot is
// with one. One process of the fleet calls it all the time.
func (s *State) Watch(now time.Time) {
	s.begin(now)
	s.look()
	if s.gate.state != closed && s.hanging() {
		s.failing(outage, false, 0)
	}
}

// Pause closes the gate until [State.Resume], whatever happens.
func (s *State) Pause(now time.Time) {
	s.begin(now)
	if s.gate.reason == paused {
		return
	}
	s.settle()
	s.gate.under = s.gate.reason
	s.gate.freeProbe()
	s.turn(closed, paused, s.now)
}

// Resume ends a pause. Where the gate is closed for another reason, underneath
// or alone, the next ask is the probe, whatever an earlier one finds, and pauses
// are short again: a person says that FaceKi is well.
func (s *State) Resume(now time.Time) {
	s.begin(now)
	g := &s.gate
	if g.reason == paused {
		state := closed
		if g.under == "" {
			state = open
		}
		under := g.under
		g.under = ""
		s.turn(state, under, s.now)
	}
	if g.reason != "" {
		g.freeProbe()
		g.next, g.pause = s.now, causeOf(g.reason).first/2 // the next is twice as long
	}
	for credential := range s.refused {
		r := s.refusal(credential)
		s.refused[credential] = r
		r.prober, r.id, r.by = "", "", 0
		r.next, r.pause = s.now, refusedFirst/2
	}
}

// SetRate is a worker's start: the last one wins, but for a person's override.
func (s *State) SetRate(now time.Time, rate Rate, burst int) {
	s.own = rate
	if s.over != (Rate{}) {
		rate = s.over
	}
	s.change(now, rate, float64(burst))
}

// OverrideRate is a person's: it is in force until [State.ResetRate].
func (s *State) OverrideRate(now time.Time, rate Rate) {
	s.over = rate
	s.change(now, rate, s.bucket.burst)
}

// ResetRate puts the workers' rate in force again.
func (s *State) ResetRate(now time.Time) {
	s.over = Rate{}
	s.change(now, s.own, s.bucket.burst)
}

// change refills at the old rate up to now. The lines are of the old rate, too:
// whoever waits enters again when it asks.
func (s *State) change(now time.Time, rate Rate, burst float64) {
	s.begin(now)
	s.settle()
	s.rate, s.bucket.burst = rate, burst
	s.bucket.level = min(s.bucket.level, burst)
	s.lines = lines{}
}
