package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
)

// limit is the concurrency limit of one lane: how many of its calls are in flight. Fixed,
// the number of handlers is the limit. Automatic, it is twice what the rate in force needs
// at the usual latency; calls that are not answered never raise it.
type limit struct {
	auto bool

	mu       sync.Mutex
	inFlight int
	rate     float64       // per second, of the whole fleet
	usual    time.Duration // usual latency of answered calls
	changed  chan struct{} // closed when a call ends or the rate changes
	load     load
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
	firstLatency   = time.Second // assumed until a call is answered
	saturatedAfter = time.Minute
	saturatedShare = 0.8 // of the handlers; the rest of their time is spent on Redis
)

func newLimit(auto bool) *limit {
	return &limit{auto: auto, usual: firstLatency, changed: make(chan struct{})}
}

func (l *limit) most() int {
	if !l.auto || l.rate == 0 {
		return math.MaxInt
	}
	return max(leastSlots, int(math.Ceil(2*l.rate*l.usual.Seconds())))
}

// take waits until one more call may be in flight, and counts it. It returns false when
// stopping is closed or ctx is done first.
func (l *limit) take(ctx context.Context, stopping <-chan struct{}) bool {
	for {
		l.mu.Lock()
		changed := l.changed
		if l.inFlight < l.most() {
			l.inFlight++
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		select {
		case <-changed:
		case <-stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// putBack frees a slot that take counted and no call used.
func (l *limit) putBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.wake()
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
	l.wake()
}

// setRate sets the account's rate.
func (l *limit) setRate(perSecond float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate != perSecond {
		l.rate = perSecond
		l.wake()
	}
}

// saturated is called every second or more often. It reports, at most once a minute, that
// the number of handlers and not the rate limits the lane: for a minute every grant came at
// once, nearly all handlers had a call in flight, and calls were answered.
func (l *limit) saturated(now time.Time, handlers int, flowing bool) bool {
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
	return observed.answered && float64(observed.inFlight) >= saturatedShare*float64(observed.n*handlers)
}

func (l *limit) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}
