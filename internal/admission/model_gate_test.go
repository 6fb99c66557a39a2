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
	connectWithin = 10_000                                          // for the process that was chosen to probe
	rampAfter     = 10_000                                          // for closures of more than this
	silenceLeast  = 2_000                                           // of FaceKi, after which calls that hang are an outage
	silenceMost   = 60_000                                          // the same, however slow FaceKi usually is
	maxUnobserved = 1_000                                           // without an observation, after which the silence is measured from the start
	observeEvery  = 200                                             // how often an observation is stored
	retryMost     = float64(fault.MaxRetryAfter / time.Millisecond) // 1 s being the least
)

const (
	rowFaults, windowFaults, window = 5, 14, 20
	hangingCalls                    = 5
)

// The reasons for which the gate is closed, besides those that the status needs.
const (
	outage       = string(fault.Outage)
	throttled    = string(fault.Throttled)
	noCredit     = string(fault.NoCredit)
	limitReached = string(fault.LimitReached)
)

// cause is a reason to be closed: the first pause before a probe, the longest, and the
// rank: a reason of a higher rank replaces one of a lower rank.
type cause struct{ first, most, rank float64 }

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

// gate is the account's gate. Times are ms since 1970.
type gate struct {
	state, reason string // open, closed or ramping
	under         string // the reason under an operator's pause
	since         float64
	closed        float64 // when it last closed
	opened        float64 // when it last opened
	next, pause   float64 // the next probe, and the pause before it
	prober, probe string  // process and id
	sent          bool    // the probe was sent, and is not only connecting
	by            float64 // when the probe is given up
	throttles     float64 // a quarter less for each success since
	row           []string
	last          string // the last outcomes: s or f
	answered      float64
	usual         float64          // p99 of the latency
	asked         float64          // when an interactive call was last denied by the closed gate
	looked        float64          // when the gate was last observed
	calls         map[call]float64 // in flight, by when they began
}

// call is a call in flight, or one that died with its process.
type call struct{ process, id string }

// Change is a change of the gate, or of a credential (reason refused).
type Change struct {
	At     float64
	State  string
	Reason string
}

func (s *State) recordChange(c Change) {
	s.history = append(s.history, c)
	s.history = s.history[max(0, len(s.history)-50):]
}

func (s *State) changeState(state, reason string, at float64) {
	if s.gate.state == state && s.gate.reason == reason {
		return
	}
	s.gate.state, s.gate.reason, s.gate.since = state, reason, at
	s.recordChange(Change{at, state, reason})
}

// closeReason is why FaceKi is not called, also under an operator's pause.
func (g *gate) closeReason() string {
	if g.reason == paused {
		return g.under
	}
	return g.reason
}

func (g *gate) clearProbe() { g.prober, g.probe, g.sent, g.by = "", "", false, 0 }

// closeGate closes for at least wait. Under an operator's pause it is stored for later.
func (s *State) closeGate(reason string, wait, pause float64) {
	g := &s.gate
	if g.closeReason() == "" {
		g.closed = s.now
	}
	g.pause, g.next = pause, max(g.next, s.now+wait)
	if g.reason == paused {
		g.under = reason
	} else {
		s.changeState(closed, reason, s.now)
	}
}

func (s *State) openGate() {
	g := &s.gate
	state := open
	if s.now-g.closed > rampAfter && s.rate.perSecond() >= 2 {
		state = ramping
	}
	g.opened, g.answered, g.row, g.last, g.pause, g.next = s.now, s.now, nil, "", 0, 0
	s.changeState(state, "", s.now)
}

// fail closes the gate, or keeps it closed, for a reason. probed: the probe found it.
// least: for how long FaceKi asked, or 0.
func (s *State) fail(reason string, probed bool, least float64) {
	g := &s.gate
	current := g.closeReason()
	now, then := causeOf(reason), causeOf(current)
	longer := min(then.most, g.pause*2)
	first := now.first
	if least > 0 {
		first = least
	}
	switch {
	case current == "":
		s.closeGate(reason, first, first)
	case probed && now.rank >= then.rank:
		if least == 0 && reason == current {
			first = longer
		}
		s.closeGate(reason, first, first)
	case probed:
		s.closeGate(current, max(longer, least), longer)
	case now.rank > then.rank:
		s.closeGate(reason, now.first, now.first)
	case least > 0:
		g.next = max(g.next, s.now+least)
	}
}

// throttled: the pause doubles with each 429, and four successes undo one, so that a
// limit below the rate is found and a single 429 costs a second. Further 429s of calls
// that were in flight when the gate closed do not count.
func (s *State) throttled(probed bool, retryAfter float64) {
	g := &s.gate
	if probed || g.closeReason() == "" {
		g.throttles++
	}
	c := causeOf(throttled)
	wait := min(c.most, c.first*math.Exp2(min(10, max(0, math.Floor(g.throttles)-1))))
	if retryAfter > 0 {
		wait = min(retryMost, max(1_000, retryAfter))
	}
	s.fail(throttled, probed, wait)
}

// countOutcome keeps the last 20 outcomes, and the ids of the faults in a row.
func (s *State) countOutcome(good bool, id string) {
	g := &s.gate
	if good {
		g.last, g.row = tail(g.last+"s"), nil
		return
	}
	g.last = tail(g.last + "f")
	if !slices.Contains(g.row, id) {
		g.row = append(g.row, id)
	}
	faults := 0
	for _, o := range g.last {
		if o == 'f' {
			faults++
		}
	}
	if len(g.row) >= rowFaults || faults >= windowFaults {
		s.fail(outage, false, 0)
	}
}

func tail(last string) string { return last[max(0, len(last)-window):] }

// observe restarts the measurement of FaceKi's silence if nobody observed the gate for a
// while, as when Redis was away: answers could not be recorded either.
func (s *State) observe() {
	g := &s.gate
	if s.now-g.looked > maxUnobserved {
		g.answered = max(g.answered, s.now)
	}
	if s.now-g.looked >= observeEvery {
		g.looked = s.now
	}
}

// callsHang reports whether calls are in flight and FaceKi is silent. A call that began
// before the gate opened, or longer ago than a call may take, died with its process. So
// may have a call whose process has had no heartbeat since the answer was due. A
// heartbeat in the future was stored before the clock went back.
func (s *State) callsHang() bool {
	g := &s.gate
	silence := max(silenceLeast, min(silenceMost, 4*g.usual))
	if g.closeReason() != "" || s.now-g.answered <= silence {
		return false
	}
	hang := 0
	for c, began := range g.calls {
		beat := s.heartbeats[c.process]
		if began >= max(g.opened, s.now-answerWithin) && began < s.now-silence && beat >= began+silence && beat <= s.now {
			hang++
		}
	}
	return hang >= hangingCalls
}

// probeGate chooses the process that probes a closed gate, and lets its one call pass.
func (s *State) probeGate(ask Query) Decision {
	g := &s.gate
	chosen := g.prober == ask.Process && !g.sent && g.prober != ""
	busy := g.prober != "" && g.by > s.now
	if ask.Lane == request.Interactive {
		g.asked = s.now
	}
	if !chosen || !ask.Connected {
		switch {
		case chosen && busy && g.probe == ask.ID:
			return Decision{Connect, 0, g.reason}
		case busy:
			return Decision{Wait, millis(maxWait), g.reason}
		case s.now < g.next:
			return Decision{Wait, millis(min(maxWait, g.next-s.now)), g.reason}
		case ask.Lane == request.Bulk && s.now-g.asked < maxWait+waiterTTL:
			return Decision{Wait, millis(maxWait), g.reason}
		}
	}
	s.settle()
	b := &s.bucket
	moment, i := b.earliestGrant(1, 0)
	if moment-s.us > b.maxAhead() {
		return Decision{Wait, millis(min(maxWait, max(1, (moment-s.us-b.maxAhead())/1000))), g.reason}
	}
	g.prober, g.probe = ask.Process, ask.ID
	if chosen && ask.Connected {
		g.sent, g.by = true, s.now+answerWithin
		b.takeToken(moment, i)
		return Decision{Probe, micros(moment - s.us), g.reason}
	}
	g.sent, g.by = false, s.now+connectWithin
	return Decision{Connect, 0, g.reason}
}

func (g *gate) isProbe(r Report) bool {
	return g.prober != "" && g.prober == r.Process && g.probe == r.ID
}

// concludeProbe takes the outcome of the probe, or of its connect.
func (s *State) concludeProbe(kind Kind, retryAfter float64) {
	g := &s.gate
	g.clearProbe()
	switch kind {
	case Success, Alive:
		s.openGate()
	case Throttle:
		s.throttled(true, retryAfter)
	case None:
		g.next = s.now + g.pause
	case Back, Refused:
		g.next = s.now
	case NoCredit, LimitReached:
		s.fail(string(kind), true, 0)
	default:
		s.fail(outage, true, 0)
	}
}

// learnLatency moves the estimate of the p99 up by a twentieth for a slower answer, and
// down for a faster one by as little as keeps one answer in a hundred above it.
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
