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
}

const (
	leastSlots   = 4
	firstLatency = time.Second // until a call was answered
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
	if f == nil || f.Party() == fault.ThisRequest { // FaceKi answered, and was well
		s.usual += (took - s.usual) / 16
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

func (s *slots) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}
