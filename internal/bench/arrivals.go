package main

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// grace is how long a grant may be on its way: what FaceKi sees may be bunched
// by that much, see promise 4 of the design.
const grace = 100 * time.Millisecond

// limit is what an account is allowed.
type limit struct {
	perSecond float64
	burst     int
}

// windows are the lengths over which the limit is looked at.
func windows() []time.Duration {
	return []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second}
}

// excess is by how many calls the fullest window of that length, wherever it
// begins, is over the limit; negative where every window is under it. The
// arrivals are sorted.
func (l limit) excess(at []time.Time, window time.Duration) float64 {
	fullest, first := 0, 0
	for last := range at {
		for at[last].Sub(at[first]) > window {
			first++
		}
		fullest = max(fullest, last-first+1)
	}
	return float64(fullest) - l.perSecond*(window+grace).Seconds() - float64(l.burst)
}

// worst is the largest excess over all windows, and over the whole time.
func (l limit) worst(at []time.Time) float64 {
	worst := math.Inf(-1)
	lengths := windows()
	if len(at) > 0 {
		lengths = append(lengths, at[len(at)-1].Sub(at[0]))
	}
	for _, w := range lengths {
		worst = max(worst, l.excess(at, w))
	}
	return worst
}

// share is which part of the rate was used between two moments, in percent.
func (l limit) share(at []time.Time, from, to time.Time) float64 {
	return 100 * float64(between(at, from, to)) / (l.perSecond * to.Sub(from).Seconds())
}

// between counts the arrivals from one moment until before another.
func between(at []time.Time, from, to time.Time) int {
	first, _ := slices.BinarySearchFunc(at, from, time.Time.Compare)
	last, _ := slices.BinarySearchFunc(at, to, time.Time.Compare)
	return max(0, last-first)
}

// back is the percentage of the rate at which an outage is over.
const back = 95

// recovered is how long after a moment the first window begins in which so much
// of the rate was used again. It is false where there is none.
func (l limit) recovered(at []time.Time, since time.Time, window time.Duration) (time.Duration, bool) {
	if len(at) == 0 {
		return 0, false
	}
	const step = 100 * time.Millisecond
	end := at[len(at)-1].Add(step)
	for begin := since; !begin.Add(window).After(end); begin = begin.Add(step) {
		if l.share(at, begin, begin.Add(window)) >= back {
			return begin.Sub(since), true
		}
	}
	return 0, false
}

var errTooFew = errors.New("too few calls arrived to say anything")

// steady is the time between the start of a run, when processes come up one by
// one, and its end, when they run out of work: some seconds after the first
// arrival until all but a few percent have arrived. A run that is over sooner
// than that is taken whole.
func steady(at []time.Time, lead time.Duration) (from, to time.Time, err error) {
	if len(at) < 10 {
		return from, to, errTooFew
	}
	from, to = at[0].Add(lead), at[len(at)*97/100]
	if to.Sub(from) < time.Second {
		from, to = at[0], at[len(at)-1]
	}
	if !to.After(from) {
		return from, to, errTooFew
	}
	return from, to, nil
}

// times gives the moments of calls, sorted: a call may be noted a moment after
// one that arrived later.
func times(calls []simulator.Call) []time.Time {
	at := make([]time.Time, len(calls))
	for i, c := range calls {
		at[i] = c.At
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// percentile is the smallest sample that at least p percent are not above.
func percentile(samples []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// milliseconds is for figures.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
