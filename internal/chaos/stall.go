package main

import (
	"sync"
	"time"
)

// stall watches how late this process gets its turn: what it notes of a call's
// arrival may be as late.
type stall struct {
	stop  chan struct{}
	ended sync.WaitGroup
	mu    sync.Mutex
	most  time.Duration
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
			s.mu.Lock()
			s.most = max(s.most, now.Sub(last)-stallTick)
			s.mu.Unlock()
			last = now
		}
	})
	return s
}

func (s *stall) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func (s *stall) close() {
	close(s.stop)
	s.ended.Wait()
}
