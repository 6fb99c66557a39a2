package admission

import (
	"math"
	"slices"
)

// bucket is the state of the rate limit. Times are µs since 1970, as floats, so that each
// operation is the one of Lua.
type bucket struct {
	level     float64
	at        float64   // the time of the level; 0: never
	held      []float64 // grants in the future, in order; level still has their tokens
	burst     float64
	tokenTime float64 // of one token
}

func (b *bucket) refilled(level, elapsed float64) float64 {
	return min(b.burst, level+elapsed/b.tokenTime)
}

// settle brings the level to the present: refilled, and without the grants whose time has
// come. After a step of the clock the time to refill for is not known: then the bucket is
// empty, and the tokens of held grants are owed.
func (b *bucket) settle(now float64, jumpedAhead bool) {
	if b.at == 0 || b.at > now || jumpedAhead {
		b.level, b.at, b.held = min(0, b.level)-float64(len(b.held)), now, nil
		return
	}
	level, at := b.level, b.at
	var rest []float64
	for _, s := range b.held {
		if s <= now {
			level, at = b.refilled(level, s-at)-1, s
		} else {
			rest = append(rest, s)
		}
	}
	b.level, b.at, b.held = b.refilled(level, now-at), now, rest
}

// maxAhead is how far in the future a grant may lie.
func (b *bucket) maxAhead() float64 { return min(20_000, max(5_000, b.tokenTime)) }

// earliestGrant returns the first time from now on at which the level is goal, after at
// least from of the held grants, and the number of held grants before it.
func (b *bucket) earliestGrant(goal float64, from int) (float64, int) {
	level, at := b.level, b.at
	for i := 0; ; i++ {
		if i > 0 {
			level, at = b.refilled(level, b.held[i-1]-at)-1, b.held[i-1]
		}
		if i < from {
			continue
		}
		s := at + math.Ceil(max(0, goal-level)*b.tokenTime)
		if i == len(b.held) || s <= b.held[i] && b.fits(i, level, at, s) {
			return s, i
		}
	}
}

// fits reports whether the held grants from the i-th on still have their tokens if one
// more is taken at s.
func (b *bucket) fits(i int, level, at, s float64) bool {
	level, at = b.refilled(level, s-at)-1, s
	for _, h := range b.held[i:] {
		level, at = b.refilled(level, h-at)-1, h
		if level < 0 {
			return false
		}
	}
	return true
}

// takeToken takes the token of time s, after i held grants.
func (b *bucket) takeToken(s float64, i int) {
	if s <= b.at {
		b.level--
		return
	}
	b.held = slices.Insert(b.held, i, s)
}
