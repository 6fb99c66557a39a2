package worker

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
)

// slots bounds how many calls of this process are out. Fixed, it is the number
// of handlers that bounds them; automatic, it follows what the rate in force
// needs at the usual latency, twice over, and calls that are not answered never
// raise it.
type slots struct {
	auto bool

	mu      sync.Mutex
	out     int
	rate    float64       // per second, of the whole fleet
	usual   time.Duration // of answered calls
	changed chan struct{} // closed when a call ends or the rate changes
	seen    looks
}

// looks is what was seen of the slots since a grant had to be waited for.
type looks struct {
	since    time.Time
	out, n   int  // calls that were out, summed over n looks
	answered bool // a call, so that it is no hang that keeps them out
}

const (
	leastSlots   = 4
	firstLatency = time.Second // until a call was answered
	crowdedAfter = time.Minute
	crowdedShare = 0.8 // of the handlers; the rest of their time is Redis'
)

func newSlots(auto bool) *slots {
	return &slots{auto: auto, usual: firstLatency, changed: make(chan struct{})}
}

func (s *slots) limit() int {
	if !s.auto || s.rate == 0 {
		return math.MaxInt
	}
	return max(leastSlots, int(math.Ceil(2*s.rate*s.usual.Seconds())))
}

// take waits until one more call may be out, and counts it; it says whether it
// may. What is not used is put back.
func (s *slots) take(ctx context.Context, stopping <-chan struct{}) bool {
	for {
		s.mu.Lock()
		changed := s.changed
		if s.out < s.limit() {
			s.out++
			s.mu.Unlock()
			return true
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (s *slots) putBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out--
	s.wake()
}

// end is of a call that took so long, answered or not.
func (s *slots) end(took time.Duration, f *fault.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out--
	if f == nil || f.Scope() == fault.ThisRequest { // FaceKi answered, and was well
		s.usual += (took - s.usual) / 16
		s.seen.answered = true
	}
	s.wake()
}

// inForce sets the account's rate.
func (s *slots) inForce(perSecond float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rate != perSecond {
		s.rate = perSecond
		s.wake()
	}
}

// crowded is called every second or more often. It says, at most once a minute,
// that slots and not the rate are the limit: grants came at once all the time, and
// nearly all handlers were out with calls that do get their answers.
func (s *slots) crowded(now time.Time, handlers int, flows bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !flows || s.seen.n == 0 {
		s.seen = looks{since: now}
	}
	s.seen.out += s.out
	s.seen.n++
	if now.Sub(s.seen.since) < crowdedAfter {
		return false
	}
	seen := s.seen
	s.seen = looks{}
	return seen.answered && float64(seen.out) >= crowdedShare*float64(seen.n*handlers)
}

func (s *slots) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
