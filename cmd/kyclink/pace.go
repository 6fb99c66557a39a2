package main

import "time"

// pace is how fast a number grows now: what was before it was first seen does not
// count, and neither does what was long ago.
type pace struct {
	seen    []sample // at least a second apart, the oldest first
	changed time.Time
}

type sample struct {
	at time.Time
	n  int
}

const (
	recent   = 15 * time.Second // what the pace is taken from
	patient  = time.Minute      // where it is so slow that nothing came within recent
	leastFor = 2 * time.Second  // before which no pace is known
	overdue  = 4                // times the usual pause, after which nothing moves
)

func (p *pace) see(at time.Time, n int) {
	if last := len(p.seen) - 1; last >= 0 && at.Sub(p.seen[last].at) < time.Second {
		return
	}
	if last := len(p.seen) - 1; last < 0 || n != p.seen[last].n {
		p.changed = at
	}
	for len(p.seen) > 0 && at.Sub(p.seen[0].at) > patient {
		p.seen = p.seen[1:]
	}
	p.seen = append(p.seen, sample{at, n})
}

// perSecond is 0 where nothing moves, or that is not known yet.
func (p *pace) perSecond(now time.Time, n int) float64 {
	for _, window := range []time.Duration{recent, patient} {
		for _, s := range p.seen {
			age := now.Sub(s.at)
			if age > window {
				continue
			}
			if age < leastFor || n <= s.n {
				break
			}
			rate := float64(n-s.n) / age.Seconds()
			if pause := now.Sub(p.changed); pause > recent && pause.Seconds()*rate > overdue && n == p.seen[len(p.seen)-1].n {
				break
			}
			return rate
		}
	}
	return 0
}
