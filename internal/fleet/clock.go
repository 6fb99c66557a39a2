package fleet

import (
	"sync"
	"time"
)

// clock relates Redis' clock to the monotonic clock of this process, by its heartbeats.
// Either may be set, or stop while the other runs; then Redis' times do not tell how long a
// process was silent.
type clock struct {
	mu     sync.Mutex
	origin time.Time // its monotonic reading is what the other times are counted from

	reached time.Duration // since when Redis was reached without a break; 0: it was not
	last    time.Duration // the last heartbeat
	// Redis' time is ahead of the monotonic one by so much, in between; 0: not known.
	least, most time.Duration
}

// stepMost is by how much the two clocks may move against each other, as they do while
// one of them is corrected.
const maxDrift = 500 * time.Millisecond

func newClock() *clock { return &clock{origin: time.Now().Add(-time.Nanosecond)} }

// heartbeat records a heartbeat that was sent and answered then, at Redis' time at.
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

// join records that Redis was reached, without a time of it.
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

// unbroken is for how long this process has reached Redis without a break or a step of
// a clock. A process that was stopped for a while, perhaps with all others and Redis
// itself, has not, although no heartbeat failed.
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

// expected is what this process takes Redis' time for now, in ms as scripts get it, at
// the latest; 0 before its first heartbeat.
func (c *clock) expected() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 {
		return 0
	}
	return (c.most + time.Since(c.origin)).Milliseconds()
}

// stepped says that Redis' time is not what this process takes it for.
func (c *clock) stepped(at time.Time) bool {
	expected := c.expected()
	return expected != 0 && time.UnixMilli(expected).Sub(at).Abs() > maxDrift
}
