package main

import (
	"errors"
	"math"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// grace is the validity of a grant: calls may arrive this much later, and so in bursts
// (promise 4).
const grace = 100 * time.Millisecond

// limit is the rate limit of an account.
type limit struct {
	perSecond float64
	burst     int
}

// windows returns the lengths of the windows in which the limit is checked.
func windows() []time.Duration {
	return []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second}
}

// excess returns the number of calls over the limit in the fullest window of the given
// length; it is negative if all windows are below the limit. The arrivals must be sorted.
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

// worst returns the largest excess in all windows and in the whole run.
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

// share returns the percentage of the rate used in a period.
func (l limit) share(at []time.Time, from, to time.Time) float64 {
	return 100 * float64(between(at, from, to)) / (l.perSecond * to.Sub(from).Seconds())
}

// lowestWindow is the length of the windows of [limit.lowest].
const lowestWindow = 10 * time.Second

// lowest returns the lowest percentage of the rate used in a window, or false if the period
// is shorter. The windows begin 100 ms after one another.
func (l limit) lowest(at []time.Time, from, to time.Time) (share float64, ok bool) {
	share = math.Inf(1)
	for begin := from; !begin.Add(lowestWindow).After(to); begin = begin.Add(100 * time.Millisecond) {
		share, ok = min(share, l.share(at, begin, begin.Add(lowestWindow))), true
	}
	return share, ok
}

// between counts the arrivals from one time until before another.
func between(at []time.Time, from, to time.Time) int {
	first, _ := slices.BinarySearchFunc(at, from, time.Time.Compare)
	last, _ := slices.BinarySearchFunc(at, to, time.Time.Compare)
	return max(0, last-first)
}

// recoveredShare is the percentage of the rate at which an outage is over.
const recoveredShare = 95

// recovered returns the time until the first window in which recoveredShare of the rate was
// used, or false if there is none.
func (l limit) recovered(at []time.Time, since time.Time, window time.Duration) (time.Duration, bool) {
	if len(at) == 0 {
		return 0, false
	}
	const step = 100 * time.Millisecond
	end := at[len(at)-1].Add(step)
	for begin := since; !begin.Add(window).After(end); begin = begin.Add(step) {
		if l.share(at, begin, begin.Add(window)) >= recoveredShare {
			return begin.Sub(since), true
		}
	}
	return 0, false
}

var errTooFew = errors.New("too few calls for a measurement")

// steady returns the period in which all processes run and have work: from lead after the
// first arrival until 97 % have arrived. For a shorter run it returns the whole run.
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

// times returns the sorted times of calls, which may be recorded out of order.
func times(calls []simulator.Call) []time.Time {
	at := make([]time.Time, len(calls))
	for i, c := range calls {
		at[i] = c.At
	}
	slices.SortFunc(at, time.Time.Compare)
	return at
}

// percentile returns the smallest sample that is not less than p percent of the samples.
func percentile(samples []time.Duration, p float64) time.Duration {
	sorted := slices.Sorted(slices.Values(samples))
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// milliseconds returns a duration as the value of a figure.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// microseconds returns a duration as the value of a figure.
func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
