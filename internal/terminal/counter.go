package terminal

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/kyclink/kyclink/internal/forecast"
)

// Counter counts what was done, and shows it on a terminal until it is stopped. It is
// safe for concurrent use.
type Counter struct {
	*Line
	verb          string // as in "12 retried"
	mu            sync.Mutex
	done, skipped int
	throughput    forecast.Throughput
	drawn         time.Time
}

// NewCounter returns a counter, whose verb, such as "retried", says what is counted.
func NewCounter(out io.Writer, terminal bool, verb string) *Counter {
	return &Counter{Line: NewLine(out, terminal), verb: verb}
}

// Stop removes the count from the terminal. It may be called several times.
func (c *Counter) Stop() { c.End(false) }

// Counts returns the numbers of entries done and skipped.
func (c *Counter) Counts() (done, skipped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done, c.skipped
}

const drawInterval = 100 * time.Millisecond

// Count adds an entry that was done or skipped.
func (c *Counter) Count(done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !done {
		c.skipped++
		return
	}
	c.done++
	now := time.Now()
	c.throughput.Add(now, c.done)
	if now.Sub(c.drawn) < drawInterval {
		return
	}
	c.drawn = now
	c.Draw(func(int) string {
		text := fmt.Sprintf("%s %s", humanize.Comma(int64(c.done)), c.verb)
		if rate := c.throughput.Rate(now, c.done); rate > 0 {
			text += "  " + rate.String()
		}
		return text
	})
}
