package worker

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// hosts shares the handlers of callbacks out among the receivers: one that is slow
// or dead costs the others little.
type hosts struct {
	mu    sync.Mutex
	known map[string]*host
	now   func() time.Time
}

// host is one receiver, as this process knows it.
type host struct {
	busy, waiting int
	failed        int           // attempts that had no answer, and began after the last answer
	answered      time.Time     // the last time
	took          time.Duration // the usual time of an attempt
	next          time.Time     // until when its time is given away to those that were put off
	free          chan struct{} // has something where one that waits may look again
}

const (
	hostMost   = 16                     // attempts at a time
	hostFew    = 2                      // the same of one that does not answer
	hostDead   = 5                      // attempts without an answer, from which on it does not
	hostWait   = 250 * time.Millisecond // in the handler
	hostPutOff = 5 * time.Minute        // at most
)

func newHosts() *hosts { return &hosts{known: map[string]*host{}, now: time.Now} }

func (h *host) most() int {
	if h.failed >= hostDead {
		return hostFew
	}
	return hostMost
}

// enter takes a place for an attempt. Where there is none, and none comes free in a
// moment, it gives for how long to put the task off: such that those that were put
// off come back about as fast as the host takes them.
func (s *hosts) enter(ctx context.Context, name string) (putOff time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.known[name]
	if h == nil {
		h = &host{took: time.Second, free: make(chan struct{}, 1)}
		s.known[name] = h
	}
	if h.busy >= h.most() && h.failed < hostDead && h.waiting < hostMost {
		s.wait(ctx, h)
	}
	if h.busy >= h.most() {
		return s.putOff(h), false
	}
	h.busy++
	return 0, true
}

// wait lets go of the lock meanwhile.
func (s *hosts) wait(ctx context.Context, h *host) {
	timer := time.NewTimer(hostWait)
	defer timer.Stop()
	h.waiting++
	defer func() { h.waiting-- }()
	for h.busy >= h.most() {
		s.mu.Unlock()
		again := true
		select {
		case <-h.free:
		case <-timer.C:
			again = false
		case <-ctx.Done():
			again = false
		}
		s.mu.Lock()
		if !again {
			return
		}
	}
}

func (s *hosts) putOff(h *host) time.Duration {
	now := s.now()
	step := h.took / time.Duration(h.most())
	if soonest := now.Add(time.Second); h.next.Before(soonest) {
		h.next = soonest
	}
	if h.next.Sub(now) > hostPutOff {
		return hostPutOff/2 + rand.N(hostPutOff/2)
	}
	h.next = h.next.Add(step)
	return h.next.Sub(now)
}

// heard is what an attempt told of its receiver; zero where that was not asked.
type heard struct {
	took     time.Duration
	answered bool // whatever it said
}

// leave ends what enter began.
func (s *hosts) leave(name string, of heard) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.known[name]
	h.busy--
	if of != (heard{}) {
		h.took += (of.took - h.took) / 8
		switch now := s.now(); {
		case of.answered:
			h.failed, h.answered = 0, now
		case now.Add(-of.took).After(h.answered): // else it lives: some of its answers are lost
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
