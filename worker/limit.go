package worker

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
)

// limit is the concurrency limit of one lane: how many of its calls are in flight, from the
// query for a grant to the answer or, if that is a fault, until it is recorded. Automatic,
// it is twice what the rate in force needs at the usual latency, up to slots; calls that are
// not answered never raise it.
//
// A machine that is too busy to send calls in time after their grants would do nothing but
// ask for grants. The fewer calls are in flight, the sooner each is sent: so the limit is
// halved while calls are late, and grows by a quarter with each round of calls that are not.
type limit struct {
	slots int // the most calls in flight
	auto  bool

	mu       sync.Mutex
	inFlight int
	need
	sends   promptness
	waiting []chan struct{} // turns that wait for a slot, in order; closed when the turn has one
	load    load
}

// need is how many calls are in flight at the rate in force.
type need struct {
	rate  float64       // per second, of the whole fleet
	usual time.Duration // usual latency of answered calls
}

// promptness is how many calls in flight this process sends in time after their grants, as
// far as it knows.
type promptness struct {
	most   float64
	halved time.Time
}

// load is the load since a turn last had to wait for a grant.
type load struct {
	since       time.Time
	inFlight, n int  // calls in flight, summed over n observations
	answered    bool // some call was answered, so that the calls in flight do not just hang
}

const (
	// leastSlots is how many calls the gate must see hang before it closes. With fewer, it
	// would notice that FaceKi answers none only when several have timed out.
	leastSlots     = 5
	lateOnce       = 2 * grantLife // what makes several calls late within this time counts once
	growth         = 0.25          // for each call that is in time
	firstLatency   = time.Second   // assumed until a call is answered
	saturatedAfter = time.Minute
	saturatedShare = 0.8 // of the slots
)

func newLimit(slots int, auto bool) *limit {
	return &limit{slots: slots, auto: auto, need: need{usual: firstLatency}, sends: promptness{most: float64(slots)}}
}

func (l *limit) most() int {
	most := min(l.slots, int(l.sends.most))
	if !l.auto || l.rate == 0 {
		return most
	}
	return min(most, max(leastSlots, int(math.Ceil(2*l.rate*l.usual.Seconds()))))
}

// take waits until one more call may be in flight, and counts it. Turns that wait are served
// in order. It returns false when stopping is closed or ctx is done first.
func (l *limit) take(ctx context.Context, stopping <-chan struct{}) bool {
	l.mu.Lock()
	if l.inFlight < l.most() {
		l.inFlight++
		l.mu.Unlock()
		return true
	}
	own := make(chan struct{})
	l.waiting = append(l.waiting, own)
	l.mu.Unlock()
	select {
	case <-own:
		return true
	case <-stopping:
	case <-ctx.Done():
	}
	l.leave(own)
	return false
}

// leave takes a turn out of those that wait. If it was just given a slot, the next one gets that.
func (l *limit) leave(own chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, own); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		return
	}
	l.inFlight--
	l.serve()
}

// putBack frees a slot that take counted and no call used.
func (l *limit) putBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.serve()
}

// end counts that a call has ended, answered or not.
func (l *limit) end(took time.Duration, f *fault.Fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	if f == nil || f.Scope() == fault.ThisRequest { // FaceKi answered, and works
		l.usual += (took - l.usual) / 16
		l.load.answered = true
	}
	if f != nil && f.Kind == fault.Interrupted {
		l.wasLate(time.Now())
	} else {
		l.sends.most = min(l.sends.most+growth, float64(l.slots))
	}
	l.serve()
}

// wasLate counts a call that was not sent in time after its grant.
func (l *limit) wasLate(now time.Time) {
	if now.Sub(l.sends.halved) >= lateOnce {
		l.sends = promptness{min(l.sends.most, max(leastSlots, float64(l.most())/2)), now}
	}
}

// setRate sets the account's rate.
func (l *limit) setRate(perSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate != perSecond {
		l.rate = perSecond
		l.serve()
	}
}

// saturated is called every second or more often. It reports, at most once a minute, that
// the number of slots and not the rate limits the lane: for a minute every grant came at
// once, nearly all slots had a call in flight, and calls were answered.
func (l *limit) saturated(now time.Time, flowing bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !flowing || l.load.n == 0 {
		l.load = load{since: now}
	}
	l.load.inFlight += l.inFlight
	l.load.n++
	if now.Sub(l.load.since) < saturatedAfter {
		return false
	}
	observed := l.load
	l.load = load{}
	return observed.answered && float64(observed.inFlight) >= saturatedShare*float64(observed.n*l.slots)
}

// serve gives the free slots to the turns that wait.
func (l *limit) serve() {
	for len(l.waiting) > 0 && l.inFlight < l.most() {
		l.inFlight++
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
	}
}

// slot is one of the calls that the limit counts, which a turn may hold.
type slot struct {
	limit *limit
	held  bool
}

// free frees the slot after a call with a result, if it is held.
func (s *slot) free(r result) {
	if s.held {
		s.held = false
		s.limit.end(r.attempt.Took, r.fault)
	}
}

// putBack frees the slot, if it is held, when no call has ended.
func (s *slot) putBack() {
	if s.held {
		s.held = false
		s.limit.putBack()
	}
}
