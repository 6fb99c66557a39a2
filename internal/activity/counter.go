package activity

import (
	"sync"

	"github.com/kyclink/kyclink/internal/fault"
)

// created is the name under which links are counted. No reason has this name.
const created = "created"

// Counter counts in memory what a process does. The zero value is ready for use, and it is
// safe for concurrent use.
type Counter struct {
	mu     sync.Mutex
	counts map[string]int // by name; nil if nothing was counted
}

// Created counts a link.
func (c *Counter) Created() { c.add(created, 1) }

// Failed counts a call without a link.
func (c *Counter) Failed(reason fault.Reason) { c.add(string(reason), 1) }

func (c *Counter) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[name] += n
}

// take returns the counts, and sets them to zero.
func (c *Counter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.counts
	c.counts = nil
	return taken
}

// giveBack adds counts that were taken.
func (c *Counter) giveBack(counts map[string]int) {
	for name, n := range counts {
		c.add(name, n)
	}
}
