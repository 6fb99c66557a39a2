package main

import (
	"math"
	"slices"
)

// trend is the course of a quantity after the warm-up: the medians of three equal parts of
// the remaining time. A median ignores the peaks of outages and of garbage collection, and
// a level that falls and rises again several times in each part.
type trend struct{ first, middle, last float64 }

// fewestSamples is how many samples each part of a trend has at least.
const fewestSamples = 5

// trendOf returns the trend of values that were measured at regular intervals; NaN stands
// for one that is missing. The first third is the warm-up: pools fill, the garbage collector
// adapts, and retention has not begun to erase. ok is false if there are too few values.
func trendOf(values []float64) (t trend, ok bool) {
	rest := values[len(values)/3:]
	size := len(rest) / 3
	for i, to := range []*float64{&t.first, &t.middle, &t.last} {
		part := slices.DeleteFunc(slices.Clone(rest[i*size:(i+1)*size]), math.IsNaN)
		if len(part) < fewestSamples {
			return trend{}, false
		}
		*to = median(part)
	}
	return t, true
}

// median returns the median of values, which it sorts.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// allowance is how much a quantity may grow from the first to the last part of a trend: the
// larger of an amount and a share of what it was.
type allowance struct{ amount, share float64 }

func (a allowance) of(value float64) float64 { return max(a.amount, a.share*value) }

// grows is the rule by which a soak fails: a quantity grows if it is higher in each part than
// in the part before, and in the last one by more than the allowance higher than in the
// first. So a leak that is small for an hour takes several hours to be found, and a single
// step, such as one more connection after an outage, is no growth.
func (t trend) grows(a allowance) bool {
	return t.first < t.middle && t.middle < t.last && t.last-t.first > a.of(t.first)
}
