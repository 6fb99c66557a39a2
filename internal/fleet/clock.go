package fleet

import (
	"sync"
	"time"
)

// clock compares Redis' clock with the monotonic clock of this process at each heartbeat.
// Redis' clock may be set, and either clock may stop while the other runs; then Redis' times
// do not show how long a process was silent.
type clock struct {
	mu     sync.Mutex
	origin time.Time // the zero of the monotonic times below

	reached time.Duration // since when Redis was reached without interruption; 0: it is not reached
	last    time.Duration // the last heartbeat
	// Redis' time is ahead of the monotonic time by at least least and at most most;
	// 0: not known.
	least, most time.Duration
}

// maxDrift is the largest difference between the two clocks that does not count as a step.
// Clocks drift while one of them is corrected.
const maxDrift = 500 * time.Millisecond

func newClock() *clock { return &clock{origin: time.Now().Add(-time.Nanosecond)} }

// heartbeat records a heartbeat with its times of sending and answer, and Redis' time.
func (c *clock) heartbeat(sent, answered time.Time, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Duration(at.UnixNano())
	least, most := since-answered.Sub(c.origin), since-sent.Sub(c.origin)
	stepped := c.most != 0 && (least > c.most+maxDrift || most < c.least-maxDrift)
	c.least, c.most = least, most
	now := answered.Sub(c.origin)
	if stepped || c.unbrokenAt(now) == 0 {
		c.reached = now
	}
	c.last = now
}

// join records that Redis was reached, without Redis' time.
func (c *clock) join(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := now.Sub(c.origin)
	if c.unbrokenAt(since) == 0 {
		c.reached = since
	}
	c.last = since
}

// lose records that Redis was not reached.
func (c *clock) lose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reached = 0
}

// unbroken returns for how long this process has reached Redis without an interruption or a
// clock step. A process that was stopped for a while, perhaps together with all others and
// Redis, was interrupted, although no heartbeat failed.
func (c *clock) unbroken() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unbrokenAt(time.Since(c.origin))
}

func (c *clock) unbrokenAt(now time.Duration) time.Duration {
	if c.reached == 0 || now-c.last > maxPause {
		return 0
	}
	return max(now-c.reached, time.Nanosecond)
}

// expected returns the latest time that Redis' clock should show now, in ms; 0 before the
// first heartbeat.
func (c *clock) expected() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 {
		return 0
	}
	return (c.most + time.Since(c.origin)).Milliseconds()
}

// stepped reports whether Redis' clock has stepped, given its time.
func (c *clock) stepped(at time.Time) bool {
	expected := c.expected()
	return expected != 0 && time.UnixMilli(expected).Sub(at).Abs() > maxDrift
}
