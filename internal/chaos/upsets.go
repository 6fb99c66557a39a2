package main

import (
	"context"
	"os"
	"sync"
	"time"
)

// upsets is what Redis did that explains what no worker can mend: it lost what it took
// last, or its clock was off. It is safe for concurrent use.
type upsets struct {
	mu     sync.Mutex
	losses []span // in which it took what it lost in the end
	steps  []span // in which its clock was off
}

// span is a time by this machine's clock.
type span struct {
	from, to time.Time
	off      time.Duration // of Redis' clock
}

// slack is how much later than Redis somebody may note what it did.
const slack = time.Second

func (s span) holds(at time.Time) bool {
	return !at.Before(s.from.Add(-slack)) && !at.After(s.to.Add(slack))
}

func (u *upsets) lost(s span) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.losses = append(u.losses, s)
}

func (u *upsets) stepped(s span) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.steps = append(u.steps, s)
}

// forgot says that Redis lost what it took then.
func (u *upsets) forgot(at time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.losses {
		if s.holds(at) {
			return true
		}
	}
	return false
}

// within is how often Redis lost something in that time.
func (u *upsets) within(from, to time.Time) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.losses {
		if !s.to.Before(from.Add(-slack)) && !s.from.After(to.Add(slack)) {
			n++
		}
	}
	return n
}

// wrongClock says that a time by Redis' clock may be of when it was off.
func (u *upsets) wrongClock(at time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.steps {
		if s.holds(at.Add(-s.off)) {
			return true
		}
	}
	return false
}

// moved says that the clock was off at all.
func (u *upsets) moved() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.steps) > 0
}

// setClock puts Redis' clock off for a while, which makes two steps of it.
func (s *single) setClock(_ context.Context, o occasion) error {
	offs := []time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 20 * time.Second, 24 * time.Hour}
	step := span{from: time.Now(), off: offs[o.pick(len(offs))]}
	if err := s.clock.Set(step.off); err != nil {
		return err
	}
	o.wait()
	err := s.clock.Set(0)
	step.to = time.Now()
	s.upset.stepped(step)
	return err
}

// lose kills the server and starts it without what it took during the occasion.
func (s *single) lose(_ context.Context, o occasion) error {
	file := s.largest()
	kept, err := os.Stat(file)
	if err != nil {
		return err
	}
	loss := span{from: time.Now()}
	o.wait()
	s.server.Kill()
	loss.to = time.Now()
	s.upset.lost(loss)
	if err := os.Truncate(file, kept.Size()); err != nil {
		return err
	}
	return s.server.Relaunch()
}

// excused is how many calls for an id were admitted by what Redis has lost, at the most.
func (e evidence) excused(id string) (n int) {
	for _, call := range e.calls {
		if call.ApplicationID == id && e.upset.forgot(call.At) {
			n++
		}
	}
	return n
}
