package admission

// maxDrift is how far Redis' clock may be from what a process expects, in ms. If it is
// further, it has stepped.
const maxDrift = 500

// shiftTimes is for a clock that went back by about `by` ms: all stored times are moved
// by it, so that pauses, ages and the silence last as long as they would have. The
// bucket starts empty, and each process that waits for the rate is listed again when it
// asks.
func (s *State) shiftTimes(by float64) {
	g := &s.gate
	move := func(at *float64, ahead float64) {
		if *at > 0 {
			*at = min(*at-by, s.now+ahead)
		}
	}
	for _, past := range []*float64{&g.since, &g.closed, &g.opened, &g.answered, &g.looked, &g.asked} {
		move(past, 0)
	}
	move(&g.next, retryMost)
	move(&g.by, answerWithin)
	s.waiters = waitersByLane{}
	for c, began := range g.calls {
		if began > s.now {
			g.calls[c] = min(began-by, s.now)
		}
	}
	for _, r := range s.refused {
		for _, at := range []*float64{&r.since, &r.next, &r.by} {
			if *at > 0 {
				*at -= by
			}
		}
	}
}
