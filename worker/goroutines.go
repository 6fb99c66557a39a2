package worker

import "sync"

// goroutines runs functions, each in a goroutine of its own, and keeps the goroutines for
// later functions. The stack of a new goroutine is copied several times on its way through
// the pipeline, which took a tenth of the processor time of a busy worker.
type goroutines struct {
	running sync.WaitGroup

	mu     sync.Mutex
	spare  []chan<- func() // each leads to a goroutine that has no function; the latest one is last
	closed bool
}

// Go runs f in a spare goroutine, or in a new one if there is none.
func (g *goroutines) Go(f func()) {
	g.running.Add(1)
	g.take() <- f
}

func (g *goroutines) take() chan<- func() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := len(g.spare) - 1; last >= 0 {
		next := g.spare[last]
		g.spare = g.spare[:last]
		return next
	}
	next := make(chan func(), 1) // so that Go does not wait for the goroutine
	go g.work(next)
	return next
}

func (g *goroutines) work(next chan func()) {
	for f := range next {
		g.run(f)
		g.put(next)
	}
}

func (g *goroutines) run(f func()) {
	defer g.running.Done()
	f()
}

func (g *goroutines) put(next chan func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		close(next)
		return
	}
	g.spare = append(g.spare, next)
}

// Wait waits until no function runs, and ends the spare goroutines.
func (g *goroutines) Wait() {
	g.running.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, next := range g.spare {
		close(next)
	}
	g.spare = nil
}
