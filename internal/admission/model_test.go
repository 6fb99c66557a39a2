package admission

import (
	"cmp"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Query asks whether a call may be sent now.
type Query struct {
	Lane       request.Lane
	Process    string // the asking process; it has one place in each lane
	Credential string // the fingerprint of the credentials of the call
	ID         string // the id of the request, which has one call in flight at a time
	Connected  bool   // the process has connected, after the verdict Connect
	// Expected is the time of Redis that the process expects from its monotonic clock, or
	// the zero time if it does not know.
	Expected time.Time
}

// Decision is the answer to a query.
type Decision struct {
	Verdict Verdict
	// Wait is how long to hold a granted call before it is sent, or the time until the
	// next query.
	Wait time.Duration
	// Reason is why the call waits or probes: "rate", or the reason of the closed gate.
	Reason string
}

// Signal is what the outcome of an attempt tells the gate.
type Signal = fault.Signal

// The signals, which package fault describes.
const (
	Success      Signal = fault.SignalSuccess
	Alive        Signal = fault.SignalAlive
	Outage       Signal = fault.SignalOutage
	Unavailable  Signal = fault.SignalUnavailable
	Throttle     Signal = fault.SignalThrottle
	Refused      Signal = fault.SignalRefused
	NoCredit     Signal = fault.SignalNoCredit
	LimitReached Signal = fault.SignalLimitReached
	None         Signal = fault.SignalNone
	Unused       Signal = fault.SignalUnused
	Unconnected  Signal = fault.SignalUnconnected
	NoToken      Signal = fault.SignalNoToken
)

// Report is the outcome of a granted call, or of an attempt to connect.
type Report struct {
	Signal     Signal
	ID         string
	Process    string
	Credential string
	Began      time.Time     // when the attempt began, by Redis' clock
	RetryAfter time.Duration // for Throttle; 0 if FaceKi sent none
	Latency    time.Duration // for Success and Alive; 0 if it was not measured
	// Message is the text of the fault, for the status. It has no effect on decisions, and
	// [Model] ignores it.
	Message string
}

// Model is the reference model of the scripts: the state of one account and its decisions,
// in pure Go. The time is an argument of each method. Fields have the names that they have
// in the hash of the gate, see gate_state.lua, where that helps to compare the two.
type Model struct {
	rate       Rate // in force
	workerRate Rate // set by a worker
	// workerBurst is set by a worker, and overrideBurst by an operator; 0: that of the workers.
	workerBurst, overrideBurst int
	override                   Rate // set by an operator; zero if none is set
	bucket                     bucket
	waiters                    waitersByLane
	gate                       gate
	refused                    map[string]*refusal
	cleared                    map[string]float64
	heartbeats                 map[string]float64 // the last heartbeat of each process
	history                    []Change

	us, now  float64 // the time of the current call, in µs and in ms
	expected float64 // the time that the process expects, in ms; 0 if it does not know
}

// NewModel returns an unused account: an open gate, 5/s with a burst of 5, and an empty
// bucket.
func NewModel() *Model {
	rate := Rate{5, time.Second}
	return &Model{
		rate: rate, workerRate: rate, workerBurst: 5, bucket: bucket{burst: 5},
		gate:    gate{state: open, calls: map[call]float64{}},
		refused: map[string]*refusal{}, cleared: map[string]float64{}, heartbeats: map[string]float64{},
	}
}

// begin sets the time, corrects the stored times if the clock went back, and ends a ramp
// whose time is over.
func (m *Model) begin(now time.Time) {
	m.us, m.now, m.expected = float64(now.UnixMicro()), float64(now.UnixMilli()), 0
	if ahead := max(m.gate.looked, m.gate.answered) - m.now; ahead > 0 {
		m.shiftTimes(ahead)
	}
	if m.gate.state == ramping && m.now >= m.gate.opened+rampTime {
		m.changeState(open, "", m.gate.opened+rampTime)
	}
}

// settle brings the bucket up to date, at the rate in force now. During a ramp that rate
// grows, up to the configured one.
func (m *Model) settle() {
	part := 1.0
	if m.gate.state == ramping {
		part = 0.1 + 0.9*min(1, max(0, m.now-m.gate.opened)/rampTime)
	}
	m.bucket.tokenTime = float64(m.rate.Per.Milliseconds()) * 1000 / (float64(m.rate.N) * part)
	m.bucket.settle(m.us, m.expected > 0 && m.now-m.expected > maxDrift)
}

// Admit decides whether a call may be sent now.
func (m *Model) Admit(now time.Time, query Query) Decision {
	m.begin(now)
	if !query.Expected.IsZero() {
		m.expected = float64(query.Expected.UnixMilli())
	}
	g := &m.gate
	if g.reason == paused {
		return Decision{Wait, millis(maxWait), paused}
	}
	m.observe()
	if m.callsHang() {
		m.closeFor(outage, false, 0)
	}
	r := m.refusal(query.Credential)
	if r != nil && m.now < r.next {
		return Decision{Wait, millis(min(maxWait, r.next-m.now)), refused}
	}
	if r != nil {
		own := r.prober == query.Process && r.id == query.ID
		if r.by > m.now && !(own && r.by <= m.now+connectWithin) {
			return Decision{Wait, millis(maxWait), refused}
		}
		if !own || !query.Connected {
			r.prober, r.id, r.by = query.Process, query.ID, m.now+connectWithin
			m.refused[query.Credential] = r
			return Decision{Connect, 0, refused}
		}
	}
	var d Decision
	if g.state == closed {
		d = m.probeGate(query)
	} else {
		d = m.admitByRate(query)
	}
	if d.Verdict != Grant && d.Verdict != Probe {
		return d
	}
	g.calls[call{query.Process, query.ID}] = m.now
	if r != nil {
		r.prober, r.id, r.by = query.Process, query.ID, m.now+answerWithin
		m.refused[query.Credential] = r
		d.Verdict, d.Reason = Probe, refused
	}
	return d
}

// Report records the outcome of a granted call, or of an attempt to connect.
func (m *Model) Report(now time.Time, r Report) {
	m.begin(now)
	g := &m.gate
	began, retryAfter := float64(r.Began.UnixMilli()), float64(r.RetryAfter.Milliseconds())
	delete(g.calls, call{r.Process, r.ID})
	switch r.Signal {
	case Outage, Unavailable, None, Unused, Unconnected, NoToken:
	default:
		g.answered = m.now
	}
	good := r.Signal == Success || r.Signal == Alive
	if good {
		g.learnLatency(float64(r.Latency.Milliseconds()))
		g.throttles = max(0, g.throttles-0.25)
	}
	m.updateRefusal(r, began)
	switch {
	case g.isProbe(r):
		m.concludeProbe(r.Signal, retryAfter)
	case began < g.opened: // sent before the gate opened: it says nothing about the present
	case r.Signal == Throttle:
		m.throttled(false, retryAfter)
	case r.Signal == NoCredit || r.Signal == LimitReached:
		m.closeFor(string(r.Signal), false, 0)
	case g.closeReason() != "": // sent before the gate closed: it shows nothing new
	case good || r.Signal == Outage || r.Signal == Unavailable:
		m.countOutcome(good, r.ID)
	}
}

// Heartbeat records a heartbeat of a process.
func (m *Model) Heartbeat(now time.Time, process string) {
	m.heartbeats[process] = float64(now.UnixMilli())
}

// Watch checks for hanging calls. One process of the fleet calls it regularly.
func (m *Model) Watch(now time.Time) {
	m.begin(now)
	m.observe()
	if m.gate.state != closed && m.callsHang() {
		m.closeFor(outage, false, 0)
	}
}

// Pause closes the gate until [Model.Resume].
func (m *Model) Pause(now time.Time) {
	m.begin(now)
	if m.gate.reason == paused {
		return
	}
	m.settle()
	m.gate.under = m.gate.reason
	m.gate.clearProbe()
	m.changeState(closed, paused, m.now)
}

// Resume ends a pause. If the gate is closed for another reason, the next call probes, even
// if another probe is in flight, and the pauses between probes start short again.
func (m *Model) Resume(now time.Time) {
	m.begin(now)
	g := &m.gate
	if g.reason == paused {
		state := closed
		if g.under == "" {
			state = open
		}
		under := g.under
		g.under = ""
		m.changeState(state, under, m.now)
	}
	if g.reason != "" {
		g.clearProbe()
		g.next, g.pause = m.now, causeOf(g.reason).firstPause/2 // doubled after the next probe
	}
	for credential := range m.refused {
		r := m.refusal(credential)
		m.refused[credential] = r
		r.prober, r.id, r.by = "", "", 0
		r.next, r.pause = m.now, firstRefusedPause/2
	}
}

// SetRate sets the rate of a worker that joins. The last rate that was set is in force,
// unless an operator has overridden it.
func (m *Model) SetRate(now time.Time, rate Rate, burst int) {
	m.workerRate, m.workerBurst = rate, burst
	if m.override != (Rate{}) {
		rate = m.override
		burst = cmp.Or(m.overrideBurst, burst)
	}
	m.changeRate(now, rate, float64(burst))
}

// OverrideRate sets an operator's rate, which stays in force until [Model.ResetRate]. The
// burst is 0 for that of the workers.
func (m *Model) OverrideRate(now time.Time, rate Rate, burst int) {
	m.override, m.overrideBurst = rate, burst
	m.changeRate(now, rate, float64(cmp.Or(burst, m.workerBurst)))
}

// ResetRate puts the workers' rate in force again.
func (m *Model) ResetRate(now time.Time) {
	m.override, m.overrideBurst = Rate{}, 0
	m.changeRate(now, m.workerRate, float64(m.workerBurst))
}

// changeRate refills the bucket at the old rate until now, and then changes the rate. Waiting
// processes lose their places; each gets a new one with its next query.
func (m *Model) changeRate(now time.Time, rate Rate, burst float64) {
	m.begin(now)
	m.settle()
	m.rate, m.bucket.burst = rate, burst
	m.bucket.level = min(m.bucket.level, burst)
	m.waiters = waitersByLane{}
}
