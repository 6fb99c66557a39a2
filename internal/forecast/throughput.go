package forecast

import (
	"fmt"
	"time"
)

// Throughput measures how fast a number grows now: growth before the first sample, and
// long ago, does not count. The zero value is ready to use.
type Throughput struct {
	samples []sample // at least a second apart, the oldest first
	changed time.Time
}

type sample struct {
	at time.Time
	n  int
}

const (
	shortWindow = 15 * time.Second // the usual window
	longWindow  = time.Minute      // if nothing grew within the usual one
	warmUp      = 2 * time.Second  // before the first rate is known
	stalled     = 4                // usual pauses without growth after which the rate is 0
)

// Add takes a sample.
func (t *Throughput) Add(at time.Time, n int) {
	if last := len(t.samples) - 1; last >= 0 && at.Sub(t.samples[last].at) < time.Second {
		return
	}
	if last := len(t.samples) - 1; last < 0 || n != t.samples[last].n {
		t.changed = at
	}
	for len(t.samples) > 0 && at.Sub(t.samples[0].at) > longWindow {
		t.samples = t.samples[1:]
	}
	t.samples = append(t.samples, sample{at, n})
}

// Rate returns the rate; 0 if nothing grows, or if the rate is not yet known.
func (t *Throughput) Rate(now time.Time, n int) Rate {
	for _, window := range []time.Duration{shortWindow, longWindow} {
		for _, s := range t.samples {
			age := now.Sub(s.at)
			if age > window {
				continue
			}
			if age < warmUp || n <= s.n {
				break
			}
			rate := float64(n-s.n) / age.Seconds()
			if pause := now.Sub(t.changed); pause > shortWindow && pause.Seconds()*rate > stalled && n == t.samples[len(t.samples)-1].n {
				break
			}
			return Rate(rate)
		}
	}
	return 0
}

// Rate is how many a second.
type Rate float64

// String uses the unit that suits the rate.
func (r Rate) String() string {
	switch {
	case r >= 1:
		return fmt.Sprintf("%.1f/s", float64(r))
	case r*60 >= 1:
		return fmt.Sprintf("%.1f/min", float64(r)*60)
	}
	return fmt.Sprintf("%.1f/h", float64(r)*3600)
}

// Left returns how long n more take at the rate, at least a second, in words.
func (r Rate) Left(n int) string {
	left := time.Duration(float64(n) / float64(r) * float64(time.Second))
	return Short(Round(max(left, time.Second)).Round(time.Second)) + " left"
}
