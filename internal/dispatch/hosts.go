package dispatch

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// hosts divides the handlers of this process among the receivers, so that a slow or dead
// receiver delays the others little.
type hosts struct {
	mu    sync.Mutex
	known map[string]*host
	now   func() time.Time
}

// host is what this process knows about one receiver.
type host struct {
	busy, waiting int
	failed        int           // attempts without an answer that began after the last answer
	answered      time.Time     // time of the last answer
	took          time.Duration // usual duration of an attempt
	next          time.Time     // end of the time that is reserved for postponed tasks
	free          chan struct{} // receives a value when a place may be free
}

const (
	mostPerHost     = 16                     // attempts at a time
	mostPerDeadHost = 2                      // the same for a receiver that does not answer
	deadAfter       = 5                      // attempts without an answer that make it such a receiver
	waitForHost     = 250 * time.Millisecond // in the handler
	longestPostpone = 5 * time.Minute
)

func newHosts() *hosts { return &hosts{known: map[string]*host{}, now: time.Now} }

func (h *host) most() int {
	if h.failed >= deadAfter {
		return mostPerDeadHost
	}
	return mostPerHost
}

// enter takes a place for an attempt. If none is free, and none becomes free in a moment,
// it returns how long to postpone the task: postponed tasks return about as fast as the
// receiver answers.
func (s *hosts) enter(ctx context.Context, name string) (postpone time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.known[name]
	if h == nil {
		h = &host{took: time.Second, free: make(chan struct{}, 1)}
		s.known[name] = h
	}
	if h.busy >= h.most() && h.failed < deadAfter && h.waiting < mostPerHost {
		s.wait(ctx, h)
	}
	if h.busy >= h.most() {
		return s.postpone(h), false
	}
	h.busy++
	return 0, true
}

// wait waits for a place, without the lock.
func (s *hosts) wait(ctx context.Context, h *host) {
	timer := time.NewTimer(waitForHost)
	defer timer.Stop()
	h.waiting++
	defer func() { h.waiting-- }()
	for h.busy >= h.most() {
		s.mu.Unlock()
		free := true
		select {
		case <-h.free:
		case <-timer.C:
			free = false
		case <-ctx.Done():
			free = false
		}
		s.mu.Lock()
		if !free {
			return
		}
	}
}

func (s *hosts) postpone(h *host) time.Duration {
	now := s.now()
	step := h.took / time.Duration(h.most())
	if soonest := now.Add(time.Second); h.next.Before(soonest) {
		h.next = soonest
	}
	if h.next.Sub(now) > longestPostpone {
		return longestPostpone/2 + rand.N(longestPostpone/2)
	}
	h.next = h.next.Add(step)
	return h.next.Sub(now)
}

// contact is what an attempt showed about its receiver; zero if it did not contact it.
type contact struct {
	took     time.Duration
	answered bool // with any status
}

// leave frees the place that enter took.
func (s *hosts) leave(name string, of contact) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.known[name]
	h.busy--
	if of != (contact{}) {
		h.took += (of.took - h.took) / 8
		switch now := s.now(); {
		case of.answered:
			h.failed, h.answered = 0, now
		case now.Add(-of.took).After(h.answered): // otherwise the receiver is alive, and only some answers are lost
			h.failed++
		}
	}
	select {
	case h.free <- struct{}{}:
	default:
	}
	if h.busy == 0 && h.waiting == 0 && h.failed == 0 && h.next.Before(s.now()) {
		delete(s.known, name)
	}
}
