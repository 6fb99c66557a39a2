package admission

import (
	"math"
	"slices"
)

// bucket is the rate's state. Times are microseconds since 1970, as floats so
// that each step is the one that Lua makes.
type bucket struct {
	level float64
	at    float64   // when the level was this; 0: never
	held  []float64 // grants that lie ahead, in order; their tokens are in level still
	burst float64
	slot  float64 // how long one token takes
}

func (b *bucket) fill(level, elapsed float64) float64 {
	return min(b.burst, level+elapsed/b.slot)
}

// settle brings the level to now: refilled, and without the grants whose moment came.
// A step of the clock says nothing of how much to refill: then nothing is left, and
// what was granted ahead is still to be paid.
func (b *bucket) settle(now float64, leapt bool) {
	if b.at == 0 || b.at > now || leapt {
		b.level, b.at, b.held = min(0, b.level)-float64(len(b.held)), now, nil
		return
	}
	level, at := b.level, b.at
	var rest []float64
	for _, s := range b.held {
		if s <= now {
			level, at = b.fill(level, s-at)-1, s
		} else {
			rest = append(rest, s)
		}
	}
	b.level, b.at, b.held = b.fill(level, now-at), now, rest
}

// ahead is how far in the future a grant may lie.
func (b *bucket) ahead() float64 { return min(20_000, max(5_000, b.slot)) }

// earliest is the first moment from now on at which the level is goal, after
// from of the held grants at least, and how many of them come before it.
func (b *bucket) earliest(goal float64, from int) (float64, int) {
	level, at := b.level, b.at
	for i := 0; ; i++ {
		if i > 0 {
			level, at = b.fill(level, b.held[i-1]-at)-1, b.held[i-1]
		}
		if i < from {
			continue
		}
		s := at + math.Ceil(max(0, goal-level)*b.slot)
		if i == len(b.held) || s <= b.held[i] && b.fits(i, level, at, s) {
			return s, i
		}
	}
}

// fits says whether the held grants from the i-th on still have their tokens
// when one more is taken at s.
func (b *bucket) fits(i int, level, at, s float64) bool {
	level, at = b.fill(level, s-at)-1, s
	for _, h := range b.held[i:] {
		level, at = b.fill(level, h-at)-1, h
		if level < 0 {
			return false
		}
	}
	return true
}

// take takes the token of moment s, which comes after i of the held grants.
func (b *bucket) take(s float64, i int) {
	if s <= b.at {
		b.level--
		return
	}
	b.held = slices.Insert(b.held, i, s)
}
