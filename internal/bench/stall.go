package main

import (
	"sync"
	"time"
)

// stall watches how late this process gets its turn: what the simulator notes
// as an arrival may be as late, so that calls seem to come in a crowd.
type stall struct {
	stop   chan struct{}
	once   sync.Once
	ended  sync.WaitGroup
	mu     sync.Mutex
	latest time.Duration
}

const stallTick = 5 * time.Millisecond

func watchStalls() *stall {
	s := &stall{stop: make(chan struct{})}
	s.ended.Go(func() {
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-s.stop:
				return
			case <-tick.C:
			}
			now := time.Now()
			s.see(now.Sub(last) - stallTick)
			last = now
		}
	})
	return s
}

func (s *stall) see(late time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = max(s.latest, late)
}

func (s *stall) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

func (s *stall) close() {
	s.once.Do(func() { close(s.stop) })
	s.ended.Wait()
}
