package admission

import (
	"math"
	"slices"
)

// bucket is the token bucket of the rate limit. Times are µs since 1970. They are floats, as
// in Lua, so that both calculate alike.
type bucket struct {
	level     float64
	at        float64   // the time of the level; 0 if there is none yet
	held      []float64 // times of grants in the future, in order; level includes their tokens
	burst     float64
	tokenTime float64 // in which one token is refilled
}

func (b *bucket) refilled(level, elapsed float64) float64 {
	return min(b.burst, level+elapsed/b.tokenTime)
}

// settle brings the level up to date: it refills the bucket and takes the tokens of the
// grants whose time has come. After a step of the clock the elapsed time is unknown; then
// the bucket is empty, less the tokens of all held grants.
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

// maxAhead returns how far in the future a grant may lie.
func (b *bucket) maxAhead() float64 { return min(20_000, max(5_000, b.tokenTime)) }

// earliestGrant returns the first time from now on at which the level reaches goal, and the
// number of held grants before that time, which is at least from.
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

// takeToken takes a token at time s, after i held grants.
func (b *bucket) takeToken(s float64, i int) {
	if s <= b.at {
		b.level--
		return
	}
	b.held = slices.Insert(b.held, i, s)
}
