// Package stall tells how late a process gets its turn, for what judges others by
// when their calls arrive: a crowded machine makes an even row of calls a crowd.
package stall

import (
	"sync"
	"time"
)

const tick = 5 * time.Millisecond

// Watch looks on until it is closed. It is safe for concurrent use.
type Watch struct {
	stop    chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
	mu      sync.Mutex
	longest time.Duration
}

// New begins to look.
func New() *Watch {
	w := &Watch{stop: make(chan struct{})}
	w.ended.Go(w.run)
	return w
}

func (w *Watch) run() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-w.stop:
			return
		case <-ticker.C:
		}
		now := time.Now()
		w.see(now.Sub(last) - tick)
		last = now
	}
}

func (w *Watch) see(late time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.longest = max(w.longest, late)
}

// Longest is by how much this process was late so far, at the worst.
func (w *Watch) Longest() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.longest
}

// Close ends it, also a second time.
func (w *Watch) Close() {
	w.once.Do(func() { close(w.stop) })
	w.ended.Wait()
}
