package admission

import (
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// The gate's times, in ms.
const (
	connectWithin = 10_000 // how long a process that is to probe may take to connect
	rampAfter     = 10_000 // a gate that was closed for longer ramps when it opens
	minSilence    = 2_000  // how long FaceKi is silent before hanging calls count as an outage
	maxSilence    = 60_000 // the same if FaceKi is usually slow
	maxUnobserved = 1_000  // after this time without an observation, the silence is measured again from 0
	observeEvery  = 200    // how often an observation is stored

	minRetryAfter = 1_000
	maxRetryAfter = float64(fault.MaxRetryAfter / time.Millisecond)
)

const (
	faultsInARow    = 5 // close the gate, if they are of different requests
	outcomeWindow   = 20
	faultsInWindow  = 14 // of outcomeWindow outcomes, close the gate
	minHangingCalls = 5
)

// The reasons for which the gate is closed, besides those that status.go names.
const (
	outage       = string(fault.Outage)
	throttled    = string(fault.Throttled)
	noCredit     = string(fault.NoCredit)
	limitReached = string(fault.LimitReached)
)

// cause describes a reason for which the gate is closed.
type cause struct {
	firstPause, maxPause float64 // before a probe
	rank                 float64 // a reason of a higher rank replaces one of a lower rank
}

func causeOf(reason string) cause {
	switch reason {
	case throttled:
		return cause{1_000, 60_000, 1}
	case noCredit, limitReached:
		return cause{60_000, 600_000, 2}
	default:
		return cause{5_000, 60_000, 1}
	}
}

// gate is the state of the gate. Times are ms since 1970.
type gate struct {
	state, reason string // open, closed or ramping
	under         string // the reason that applies again after an operator's pause
	since         float64
	closed        float64          // when it last closed
	opened        float64          // when it last opened
	next, pause   float64          // the time of the next probe, and the pause before it
	prober, probe string           // the process that probes, and the id of its request
	sent          bool             // the probe was sent; otherwise, its process is connecting
	by            float64          // the time after which the probe is given up
	throttles     float64          // number of 429s, less a quarter for each success since
	row           []string         // ids of the requests with faults since the last success
	last          string           // the last outcomes: s for a success, f for a fault
	answered      float64          // when FaceKi last answered
	usual         float64          // the 99th percentile of the latency
	asked         float64          // when the closed gate last denied an interactive call
	looked        float64          // when the gate was last observed
	calls         map[call]float64 // the calls in flight, and when they began
}

// call is a call in flight, or a call whose process died.
type call struct{ process, id string }

// Change is a change of the gate or, with the reason refused, of a credential.
type Change struct {
	At     float64
	State  string
	Reason string
}

func (m *Model) recordChange(c Change) {
	m.history = append(m.history, c)
	m.history = m.history[max(0, len(m.history)-50):]
}

func (m *Model) changeState(state, reason string, at float64) {
	if m.gate.state == state && m.gate.reason == reason {
		return
	}
	m.gate.state, m.gate.reason, m.gate.since = state, reason, at
	m.recordChange(Change{at, state, reason})
}

// closeReason returns why FaceKi must not be called, apart from an operator's pause.
func (g *gate) closeReason() string {
	if g.reason == paused {
		return g.under
	}
	return g.reason
}

func (g *gate) clearProbe() { g.prober, g.probe, g.sent, g.by = "", "", false, 0 }

// closeGate closes the gate for at least wait ms. During an operator's pause, the reason is
// stored for later.
func (m *Model) closeGate(reason string, wait, pause float64) {
	g := &m.gate
	if g.closeReason() == "" {
		g.closed = m.now
	}
	g.pause, g.next = pause, max(g.next, m.now+wait)
	if g.reason == paused {
		g.under = reason
	} else {
		m.changeState(closed, reason, m.now)
	}
}

func (m *Model) openGate() {
	g := &m.gate
	state := open
	if m.now-g.closed > rampAfter && m.rate.perSecond() >= 2 {
		state = ramping
	}
	g.opened, g.answered, g.row, g.last, g.pause, g.next = m.now, m.now, nil, "", 0, 0
	m.changeState(state, "", m.now)
}

// closeFor closes the gate, or keeps it closed, for a reason. fromProbe reports that the probe
// found the reason. wait is the Retry-After in ms, or 0.
func (m *Model) closeFor(reason string, fromProbe bool, wait float64) {
	g := &m.gate
	current := g.closeReason()
	cause, currentCause := causeOf(reason), causeOf(current)
	longerPause := min(currentCause.maxPause, g.pause*2)
	pause := cause.firstPause
	if wait > 0 {
		pause = wait
	}
	switch {
	case current == "":
		m.closeGate(reason, pause, pause)
	case fromProbe && cause.rank >= currentCause.rank:
		if wait == 0 && reason == current {
			pause = longerPause
		}
		m.closeGate(reason, pause, pause)
	case fromProbe:
		m.closeGate(current, max(longerPause, wait), longerPause)
	case cause.rank > currentCause.rank:
		m.closeGate(reason, cause.firstPause, cause.firstPause)
	case wait > 0:
		g.next = max(g.next, m.now+wait)
	}
}

// throttled closes the gate after a 429. Without a Retry-After, the pause doubles with each
// 429, and four successes undo one doubling: a single 429 costs a second, and a limit below
// the rate leads to longer pauses. Further 429s of calls that were in flight when the gate
// closed do not count.
func (m *Model) throttled(fromProbe bool, retryAfter float64) {
	g := &m.gate
	if fromProbe || g.closeReason() == "" {
		g.throttles++
	}
	c := causeOf(throttled)
	wait := min(c.maxPause, c.firstPause*math.Exp2(min(10, max(0, math.Floor(g.throttles)-1))))
	if retryAfter > 0 {
		wait = min(maxRetryAfter, max(minRetryAfter, retryAfter))
	}
	m.closeFor(throttled, fromProbe, wait)
}

// countOutcome records an outcome, and closes the gate if the faults show an outage.
func (m *Model) countOutcome(good bool, id string) {
	g := &m.gate
	if good {
		g.last, g.row = lastOutcomes(g.last+"s"), nil
		return
	}
	g.last = lastOutcomes(g.last + "f")
	if !slices.Contains(g.row, id) {
		g.row = append(g.row, id)
	}
	faults := 0
	for _, o := range g.last {
		if o == 'f' {
			faults++
		}
	}
	if len(g.row) >= faultsInARow || faults >= faultsInWindow {
		m.closeFor(outage, false, 0)
	}
}

func lastOutcomes(all string) string { return all[max(0, len(all)-outcomeWindow):] }

// observe measures FaceKi's silence from now on if no process observed the gate for a while,
// for example because Redis was unavailable: answers could not be recorded either.
func (m *Model) observe() {
	g := &m.gate
	if m.now-g.looked > maxUnobserved {
		g.answered = max(g.answered, m.now)
	}
	if m.now-g.looked >= observeEvery {
		g.looked = m.now
	}
}

// callsHang reports whether calls are in flight that FaceKi does not answer. It ignores
// calls that began before the gate opened or longer ago than a call can take, and calls
// whose process has had no heartbeat since the answer was due: that process may be dead. A
// heartbeat in the future does not count, because it was stored before the clock went back.
func (m *Model) callsHang() bool {
	g := &m.gate
	silence := max(minSilence, min(maxSilence, 4*g.usual))
	if g.closeReason() != "" || m.now-g.answered <= silence {
		return false
	}
	hanging := 0
	for c, began := range g.calls {
		heartbeat := m.heartbeats[c.process]
		if began >= max(g.opened, m.now-answerWithin) && began < m.now-silence &&
			heartbeat >= began+silence && heartbeat <= m.now {
			hanging++
		}
	}
	return hanging >= minHangingCalls
}

// probeGate chooses the process that probes a closed gate, and admits its one call.
func (m *Model) probeGate(query Query) Decision {
	g := &m.gate
	chosen := g.prober == query.Process && !g.sent && g.prober != ""
	busy := g.prober != "" && g.by > m.now
	if query.Lane == request.Interactive {
		g.asked = m.now
	}
	if !chosen || !query.Connected {
		switch {
		case chosen && busy && g.probe == query.ID:
			return Decision{Connect, 0, g.reason}
		case busy:
			return Decision{Wait, millis(maxWait), g.reason}
		case m.now < g.next:
			return Decision{Wait, millis(min(maxWait, g.next-m.now)), g.reason}
		case query.Lane == request.Bulk && m.now-g.asked < maxWait+waiterTTL:
			return Decision{Wait, millis(maxWait), g.reason}
		}
	}
	m.settle()
	b := &m.bucket
	moment, i := b.earliestGrant(1, 0)
	if moment-m.us > b.maxAhead() {
		return Decision{Wait, millis(min(maxWait, max(1, (moment-m.us-b.maxAhead())/1000))), g.reason}
	}
	g.prober, g.probe = query.Process, query.ID
	if chosen && query.Connected {
		g.sent, g.by = true, m.now+answerWithin
		b.takeToken(moment, i)
		return Decision{Probe, micros(moment - m.us), g.reason}
	}
	g.sent, g.by = false, m.now+connectWithin
	return Decision{Connect, 0, g.reason}
}

func (g *gate) isProbe(r Report) bool {
	return g.prober != "" && g.prober == r.Process && g.probe == r.ID
}

// concludeProbe records the outcome of the probe, or of the attempt to connect before it.
func (m *Model) concludeProbe(signal Signal, retryAfter float64) {
	g := &m.gate
	g.clearProbe()
	switch signal {
	case Success, Alive:
		m.openGate()
	case Throttle:
		m.throttled(true, retryAfter)
	case None:
		g.next = m.now + g.pause
	case Unused, Refused:
		g.next = m.now
	case NoCredit, LimitReached:
		m.closeFor(string(signal), true, 0)
	case Unavailable, Unconnected:
		m.probeFailed(false)
	default:
		m.probeFailed(true)
	}
}

// probeFailed keeps the gate closed after a probe that found an outage. Only if the probe
// may have made a link does the pause before the next one grow.
func (m *Model) probeFailed(mayHaveMadeLink bool) {
	g := &m.gate
	if mayHaveMadeLink || g.closeReason() != outage {
		m.closeFor(outage, true, 0)
		return
	}
	g.next = max(g.next, m.now+causeOf(outage).firstPause)
}

// learnLatency updates the estimate of the 99th percentile: a slower answer raises it by up
// to 5 %, and a faster one lowers it by 0.05 %, so that one answer in a hundred is slower.
func (g *gate) learnLatency(latency float64) {
	switch {
	case latency <= 0:
	case g.usual == 0:
		g.usual = latency
	case latency > g.usual:
		g.usual = min(latency, g.usual*1.05)
	default:
		g.usual *= 0.9995
	}
}

// perSecond returns the rate in calls per second.
func (r Rate) perSecond() float64 { return float64(r.N) / r.Per.Seconds() }
