package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// disruptions records the periods in which Redis lost writes or had a wrong clock. They
// excuse violations that no worker can prevent. It is safe for concurrent use.
type disruptions struct {
	mu          sync.Mutex
	losses      []period // writes of these periods were lost
	clockShifts []period // periods with a wrong clock
}

// period is a period by this machine's clock.
type period struct {
	from, to time.Time
	offset   time.Duration // of Redis' clock in the period
}

// tolerance is the maximum delay between an action of Redis and its record by a client.
const tolerance = time.Second

func (s period) contains(at time.Time) bool {
	return !at.Before(s.from.Add(-tolerance)) && !at.After(s.to.Add(tolerance))
}

func (u *disruptions) addLoss(s period) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.losses = append(u.losses, s)
}

func (u *disruptions) addClockShift(s period) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.clockShifts = append(u.clockShifts, s)
}

// lostAt reports whether Redis lost the writes of that time.
func (u *disruptions) lostAt(at time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.losses {
		if s.contains(at) {
			return true
		}
	}
	return false
}

// lossesBetween returns the number of losses that overlap a period.
func (u *disruptions) lossesBetween(from, to time.Time) (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.losses {
		if !s.to.Before(from.Add(-tolerance)) && !s.from.After(to.Add(tolerance)) {
			n++
		}
	}
	return n
}

// clockShiftedAt reports whether a time by Redis' clock may be from a period in which the
// clock was wrong.
func (u *disruptions) clockShiftedAt(at time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range u.clockShifts {
		if s.contains(at.Add(-s.offset)) {
			return true
		}
	}
	return false
}

// clockShiftedDuring reports whether the clock was wrong at some time of a period by this
// machine's clock.
func (u *disruptions) clockShiftedDuring(from, to time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.ContainsFunc(u.clockShifts, func(s period) bool {
		return !s.to.Before(from.Add(-tolerance)) && !s.from.After(to.Add(tolerance))
	})
}

// clockShifted reports whether the clock was ever wrong.
func (u *disruptions) clockShifted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.clockShifts) > 0
}

// setClock shifts Redis' clock for the duration of the fault.
func (s *single) setClock(_ context.Context, o injection) error {
	offs := []time.Duration{-time.Hour, -5 * time.Minute, -5 * time.Second, 20 * time.Second, 24 * time.Hour}
	step := period{from: time.Now(), offset: offs[o.pick(len(offs))]}
	if err := s.clock.Set(step.offset); err != nil {
		return err
	}
	o.wait()
	err := s.clock.Set(0)
	step.to = time.Now()
	s.disrupted.addClockShift(step)
	return err
}

// lose kills the server at the end of the fault, and restarts it without the writes since
// the start of the fault.
func (s *single) lose(ctx context.Context, o injection) error {
	file := s.largest()
	kept, err := os.Stat(file)
	if err != nil {
		return err
	}
	loss := period{from: time.Now()}
	o.wait()
	s.server.Kill()
	loss.to = time.Now()
	s.disrupted.addLoss(loss)
	if err := os.Truncate(file, kept.Size()); err != nil {
		return err
	}
	if err := removeIncomplete(ctx, filepath.Join(filepath.Dir(file), "appendonly.aof.manifest")); err != nil {
		return err
	}
	return s.server.Relaunch()
}

// removeIncomplete removes a command or a transaction that was cut off from the end of an
// append-only file. Redis 7.0 itself removes only the last command of a transaction that is cut within
// one. It ignores the rest when it starts, but executes that when it starts once more, with
// the next transaction.
func removeIncomplete(ctx context.Context, manifest string) error {
	check := exec.CommandContext(ctx, "redis-check-aof", "--fix", manifest) //nolint:gosec // the file is of this run
	check.Stdin = strings.NewReader("y\n")
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("redis-check-aof: %w: %s", err, out)
	}
	return nil
}

// excused returns the maximum number of calls for an id whose records Redis has lost.
func (e evidence) excused(id string) (n int) {
	for _, call := range e.calls {
		if call.ApplicationID == id && e.disruptions.lostAt(call.At) {
			n++
		}
	}
	return n
}
