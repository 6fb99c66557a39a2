package admission

import (
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// AnswerWithin is how long a call may take, with the recording of its answer: what is
// out for longer has died with its process.
const AnswerWithin = 75 * time.Second

// The gate's times, in ms.
const (
	connectWithin = 10_000 // for who was chosen to probe
	answerWithin  = float64(AnswerWithin / time.Millisecond)
	rampTakes     = 15_000                                          // from a tenth of the rate to all of it
	rampAfter     = 10_000                                          // for closures of more than this
	silenceLeast  = 2_000                                           // before calls that hang are an outage
	silenceMost   = 60_000                                          // the same, however slow FaceKi is
	unseen        = 1_000                                           // without a check, after which the silence is counted from the start
	lookEvery     = 200                                             // it is noted that somebody looked
	retryMost     = float64(fault.MaxRetryAfter / time.Millisecond) // 1 s being the least
)

const (
	rowFaults, windowFaults, window = 5, 14, 20
	hangingCalls                    = 5
)

// The gate's states and its reasons to be closed, the public words.
const (
	open    = "open"
	closed  = "closed"
	probing = "probing" // closed, and somebody finds out how things are
	ramping = "ramping"

	outage       = string(fault.Outage)
	throttled    = string(fault.Throttled)
	noCredit     = string(fault.NoCredit)
	limitReached = string(fault.LimitReached)
	refused      = string(fault.Refused)
	paused       = string(fault.Paused)
)

// cause is what a reason to be closed means: the first pause before a probe, how
// long pauses grow, and the rank: a higher one replaces a lower one.
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
	under         string // the reason underneath a person's pause
	since         float64
	closed        float64 // when it last closed
	opened        float64 // when it last opened
	next, pause   float64 // the next probe, and the pause before it
	prober, probe string  // process and id
	sent          bool    // the probe is on its way, not only connecting
	by            float64 // when the probe is given up
	throttles     float64 // less a quarter for each success since
	row           []string
	last          string // the last outcomes: s or f
	answered      float64
	usual         float64          // p99 of the latency
	asked         float64          // when an interactive call last met the gate closed
	looked        float64          // when somebody last asked, or watched
	calls         map[call]float64 // that are out, by when they were marked
}

// call is one that is out, or died with its process.
type call struct{ process, id string }

// Change is a change of the gate, or of a credential (reason refused).
type Change struct {
	At     float64
	State  string
	Reason string
}

func (s *State) note(c Change) {
	s.history = append(s.history, c)
	s.history = s.history[max(0, len(s.history)-50):]
}

func (s *State) turn(state, reason string, at float64) {
	if s.gate.state == state && s.gate.reason == reason {
		return
	}
	s.gate.state, s.gate.reason, s.gate.since = state, reason, at
	s.note(Change{at, state, reason})
}

// reason is why FaceKi is not called, whether a person paused or not.
func (g *gate) underlying() string {
	if g.reason == paused {
		return g.under
	}
	return g.reason
}

func (g *gate) freeProbe() { g.prober, g.probe, g.sent, g.by = "", "", false, 0 }

// shut closes for at least wait; under a person's pause it is remembered.
func (s *State) shut(reason string, wait, pause float64) {
	g := &s.gate
	if g.underlying() == "" {
		g.closed = s.now
	}
	g.pause, g.next = pause, max(g.next, s.now+wait)
	if g.reason == paused {
		g.under = reason
	} else {
		s.turn(closed, reason, s.now)
	}
}

func (s *State) reopen() {
	g := &s.gate
	state := open
	if s.now-g.closed > rampAfter && s.rate.perSecond() >= 2 {
		state = ramping
	}
	g.opened, g.answered, g.row, g.last, g.pause, g.next = s.now, s.now, nil, "", 0, 0
	s.turn(state, "", s.now)
}

// failing is what a fault that closes does: probed says that the probe met it,
// least for how long to stay closed where FaceKi said so.
func (s *State) failing(reason string, probed bool, least float64) {
	g := &s.gate
	current := g.underlying()
	now, then := causeOf(reason), causeOf(current)
	longer := min(then.most, g.pause*2)
	first := now.first
	if least > 0 {
		first = least
	}
	switch {
	case current == "":
		s.shut(reason, first, first)
	case probed && now.rank >= then.rank:
		if least == 0 && reason == current {
			first = longer
		}
		s.shut(reason, first, first)
	case probed:
		s.shut(current, max(longer, least), longer)
	case now.rank > then.rank:
		s.shut(reason, now.first, now.first)
	case least > 0:
		g.next = max(g.next, s.now+least)
	}
}

// throttled: the pause doubles with each 429, and four successes forgive one:
// a limit that is lower than the rate is found out, a stray 429 costs a second.
// More of them from calls that were out are one.
func (s *State) throttled(probed bool, retryAfter float64) {
	g := &s.gate
	if probed || g.underlying() == "" {
		g.throttles++
	}
	c := causeOf(throttled)
	wait := min(c.most, c.first*math.Exp2(min(10, max(0, math.Floor(g.throttles)-1))))
	if retryAfter > 0 {
		wait = min(retryMost, max(1_000, retryAfter))
	}
	s.failing(throttled, probed, wait)
}

// outcome keeps the last 20, and the ids of the present row of faults.
func (s *State) outcome(good bool, id string) {
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
		s.failing(outage, false, 0)
	}
}

func tail(last string) string { return last[max(0, len(last)-window):] }

// look keeps the clock of silence: it starts anew where nobody has looked for a
// while, as when Redis was away, since answers could not be recorded either.
func (s *State) look() {
	g := &s.gate
	if s.now-g.looked > unseen {
		g.answered = max(g.answered, s.now)
	}
	if s.now-g.looked >= lookEvery {
		g.looked = s.now
	}
}

// hanging: calls are out, and FaceKi is silent. What was out before the gate
// opened, or for longer than a call may take, has died with its process; so may
// have what is out for a process that has not beaten since it should be answered. A
// heartbeat of the future is from before the clock went back.
func (s *State) hanging() bool {
	g := &s.gate
	silence := max(silenceLeast, min(silenceMost, 4*g.usual))
	if g.underlying() != "" || s.now-g.answered <= silence {
		return false
	}
	hang := 0
	for c, marked := range g.calls {
		beat := s.beats[c.process]
		if marked >= max(g.opened, s.now-answerWithin) && marked < s.now-silence && beat >= marked+silence && beat <= s.now {
			hang++
		}
	}
	return hang >= hangingCalls
}

// probing chooses who probes a closed gate, and lets that one call go.
func (s *State) probing(ask Ask) Decision {
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
			return Decision{Wait, millis(soon), g.reason}
		case s.now < g.next:
			return Decision{Wait, millis(min(soon, g.next-s.now)), g.reason}
		case ask.Lane == request.Bulk && s.now-g.asked < soon+fresh:
			return Decision{Wait, millis(soon), g.reason}
		}
	}
	s.settle()
	b := &s.bucket
	moment, i := b.earliest(1, 0)
	if moment-s.us > b.ahead() {
		return Decision{Wait, millis(min(soon, max(1, (moment-s.us-b.ahead())/1000))), g.reason}
	}
	g.prober, g.probe = ask.Process, ask.ID
	if chosen && ask.Connected {
		g.sent, g.by = true, s.now+answerWithin
		b.take(moment, i)
		return Decision{Probe, micros(moment - s.us), g.reason}
	}
	g.sent, g.by = false, s.now+connectWithin
	return Decision{Connect, 0, g.reason}
}

func (g *gate) isProbe(r Report) bool {
	return g.prober != "" && g.prober == r.Process && g.probe == r.ID
}

// concludeProbe is for the one call, or connect, that was to find out.
func (s *State) concludeProbe(kind Kind, retryAfter float64) {
	g := &s.gate
	g.freeProbe()
	switch kind {
	case Success, Alive:
		s.reopen()
	case Throttle:
		s.throttled(true, retryAfter)
	case None:
		g.next = s.now + g.pause
	case Back, Refused:
		g.next = s.now
	case NoCredit, LimitReached:
		s.failing(string(kind), true, 0)
	default:
		s.failing(outage, true, 0)
	}
}

// learn moves the estimate of the p99 a twentieth up for a slower answer, and
// as little down for a faster one as holds it where one in a hundred is slower.
func (g *gate) learn(latency float64) {
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
