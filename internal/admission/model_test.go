package admission

import (
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Query is a call that is to be sent now.
type Query struct {
	Lane       request.Lane
	Process    string // that asks; it has one place in each lane
	Credential string // fingerprint of the credentials of the call
	ID         string // of the request, which has one call in flight at a time
	Connected  bool   // after Connect: the process has connected
	// Expected is what the process expects Redis' time to be, by its monotonic clock; the
	// zero time if it does not know.
	Expected time.Time
}

// Decision is the answer to a query.
type Decision struct {
	Verdict Verdict
	// Wait is how long to hold a granted call before sending it, or after how long to ask
	// again.
	Wait time.Duration
	// Reason is why the call waits or probes: "rate", or why the gate is closed.
	Reason string
}

// Kind is the gate signal of a report.
type Kind = fault.Signal

// The kinds, which package fault describes.
const (
	Success      Kind = fault.SignalSuccess
	Alive        Kind = fault.SignalAlive
	Outage       Kind = fault.SignalOutage
	Throttle     Kind = fault.SignalThrottle
	Refused      Kind = fault.SignalRefused
	NoCredit     Kind = fault.SignalNoCredit
	LimitReached Kind = fault.SignalLimitReached
	None         Kind = fault.SignalNone
	Back         Kind = fault.SignalUnused
	Unconnected  Kind = fault.SignalUnconnected
)

// Report is the outcome of a grant, or of a connect.
type Report struct {
	Kind       Kind
	ID         string
	Process    string
	Credential string
	Began      time.Time     // when the attempt began, by Redis' clock
	RetryAfter time.Duration // of a Throttle; 0 if FaceKi named none
	Latency    time.Duration // of a Success or Alive; 0 if it was not measured
	// Message is the text of the fault, for the status. It decides nothing, and [State]
	// ignores it.
	Message string
}

// State is the reference model: the state of one account, and the decision in pure Go.
// The time is an argument of each method.
type State struct {
	rate, own, over Rate // in force, the workers', an operator's
	bucket          bucket
	waiters         waitersByLane
	gate            gate
	refused         map[string]*refusal
	cleared         map[string]float64
	heartbeats      map[string]float64 // the last heartbeat of each process
	history         []Change

	us, now  float64 // the time of the present call, µs and ms
	expected float64 // the time that its process expects, ms; 0: not known
}

// NewState returns an unused account: open, 5/s with a burst of 5, and an empty bucket.
func NewState() *State {
	rate := Rate{5, time.Second}
	return &State{
		rate: rate, own: rate, bucket: bucket{burst: 5},
		gate:    gate{state: open, calls: map[call]float64{}},
		refused: map[string]*refusal{}, cleared: map[string]float64{}, heartbeats: map[string]float64{},
	}
}

// begin sets the time, corrects the stored times if the clock went back, and ends a ramp
// whose time is over.
func (s *State) begin(now time.Time) {
	s.us, s.now, s.expected = float64(now.UnixMicro()), float64(now.UnixMilli()), 0
	if ahead := max(s.gate.looked, s.gate.answered) - s.now; ahead > 0 {
		s.shiftTimes(ahead)
	}
	if s.gate.state == ramping && s.now >= s.gate.opened+rampTime {
		s.changeState(open, "", s.gate.opened+rampTime)
	}
}

// settle brings the bucket to the present, at the rate in force now. During a ramp that is
// more than before, and never more than the rate.
func (s *State) settle() {
	part := 1.0
	if s.gate.state == ramping {
		part = 0.1 + 0.9*min(1, max(0, s.now-s.gate.opened)/rampTime)
	}
	s.bucket.tokenTime = float64(s.rate.Per.Milliseconds()) * 1000 / (float64(s.rate.N) * part)
	s.bucket.settle(s.us, s.expected > 0 && s.now-s.expected > maxDrift)
}

// Admit decides whether a call may be sent now.
func (s *State) Admit(now time.Time, ask Query) Decision {
	s.begin(now)
	if !ask.Expected.IsZero() {
		s.expected = float64(ask.Expected.UnixMilli())
	}
	g := &s.gate
	if g.reason == paused {
		return Decision{Wait, millis(maxWait), paused}
	}
	s.observe()
	if s.callsHang() {
		s.fail(outage, false, 0)
	}
	r := s.refusal(ask.Credential)
	if r != nil && s.now < r.next {
		return Decision{Wait, millis(min(maxWait, r.next-s.now)), refused}
	}
	if r != nil {
		own := r.prober == ask.Process && r.id == ask.ID
		if r.by > s.now && !(own && r.by <= s.now+connectWithin) {
			return Decision{Wait, millis(maxWait), refused}
		}
		if !own || !ask.Connected {
			r.prober, r.id, r.by = ask.Process, ask.ID, s.now+connectWithin
			s.refused[ask.Credential] = r
			return Decision{Connect, 0, refused}
		}
	}
	var d Decision
	if g.state == closed {
		d = s.probeGate(ask)
	} else {
		d = s.admitByRate(ask)
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

// Report takes the outcome of a grant, or of a connect.
func (s *State) Report(now time.Time, r Report) {
	s.begin(now)
	g := &s.gate
	began, retryAfter := float64(r.Began.UnixMilli()), float64(r.RetryAfter.Milliseconds())
	delete(g.calls, call{r.Process, r.ID})
	switch r.Kind {
	case Outage, None, Back, Unconnected:
	default:
		g.answered = s.now
	}
	good := r.Kind == Success || r.Kind == Alive
	if good {
		g.learnLatency(float64(r.Latency.Milliseconds()))
		g.throttles = max(0, g.throttles-0.25)
	}
	s.updateRefusal(r, began)
	switch {
	case g.isProbe(r):
		s.concludeProbe(r.Kind, retryAfter)
	case began < g.opened: // it says nothing about the present
	case r.Kind == Throttle:
		s.throttled(false, retryAfter)
	case r.Kind == NoCredit || r.Kind == LimitReached:
		s.fail(string(r.Kind), false, 0)
	case g.closeReason() != "": // a call that was sent before it closed shows nothing new
	case good || r.Kind == Outage:
		s.countOutcome(good, r.ID)
	}
}

// Heartbeat records a heartbeat of a process.
func (s *State) Heartbeat(now time.Time, process string) {
	s.heartbeats[process] = float64(now.UnixMilli())
}

// Watch looks for calls that hang. One process of the fleet calls it all the time.
func (s *State) Watch(now time.Time) {
	s.begin(now)
	s.observe()
	if s.gate.state != closed && s.callsHang() {
		s.fail(outage, false, 0)
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
	s.gate.clearProbe()
	s.changeState(closed, paused, s.now)
}

// Resume ends a pause. If the gate is closed for another reason, the next call probes,
// whatever an earlier probe finds, and pauses are short again.
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
		s.changeState(state, under, s.now)
	}
	if g.reason != "" {
		g.clearProbe()
		g.next, g.pause = s.now, causeOf(g.reason).first/2 // it doubles after the next probe
	}
	for credential := range s.refused {
		r := s.refusal(credential)
		s.refused[credential] = r
		r.prober, r.id, r.by = "", "", 0
		r.next, r.pause = s.now, refusedFirst/2
	}
}

// SetRate sets the rate of a worker that joins. The last one is in force, unless an
// operator has overridden it.
func (s *State) SetRate(now time.Time, rate Rate, burst int) {
	s.own = rate
	if s.over != (Rate{}) {
		rate = s.over
	}
	s.change(now, rate, float64(burst))
}

// OverrideRate sets an operator's rate, which is in force until [State.ResetRate].
func (s *State) OverrideRate(now time.Time, rate Rate) {
	s.over = rate
	s.change(now, rate, s.bucket.burst)
}

// ResetRate puts the workers' rate in force again.
func (s *State) ResetRate(now time.Time) {
	s.over = Rate{}
	s.change(now, s.own, s.bucket.burst)
}

// change refills at the old rate until now. The waiting processes are listed again, at the
// new rate, when they ask.
func (s *State) change(now time.Time, rate Rate, burst float64) {
	s.begin(now)
	s.settle()
	s.rate, s.bucket.burst = rate, burst
	s.bucket.level = min(s.bucket.level, burst)
	s.waiters = waitersByLane{}
}
