// Package stall measures the scheduling delay of this process. Tests and benchmarks that
// check arrival times use it: on a busy machine, evenly spaced calls arrive in bursts.
package stall

import (
	"sync"
	"time"
)

const interval = 5 * time.Millisecond

// Watch measures scheduling delays until it is closed. It is safe for concurrent use.
type Watch struct {
	stop    chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
	mu      sync.Mutex
	longest time.Duration
}

// New starts a watch.
func New() *Watch {
	w := &Watch{stop: make(chan struct{})}
	w.ended.Go(w.run)
	return w
}

func (w *Watch) run() {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		w.record(now.Sub(last) - interval)
		last = now
	}
}

func (w *Watch) record(late time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, late)
}

// Longest returns the longest delay so far.
func (w *Watch) Longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest
}

// Close stops the watch. It may be called more than once.
func (w *Watch) Close() {
	w.once.Do(func() { close(w.stop) })
	w.ended.Wait()
}
