package admission

// maxDrift is the largest difference, in ms, between Redis' time and the time that a process
// expects. A larger difference means that the clock has stepped.
const maxDrift = 500

// shiftTimes corrects the stored times after the clock went back by about `by` ms, so that
// pauses, ages and FaceKi's silence keep their lengths. The bucket starts empty, and each
// waiting process gets a new place with its next query.
func (m *Model) shiftTimes(by float64) {
	g := &m.gate
	move := func(at *float64, ahead float64) {
		if *at > 0 {
			*at = min(*at-by, m.now+ahead)
		}
	}
	for _, past := range []*float64{&g.since, &g.closed, &g.opened, &g.answered, &g.looked, &g.asked} {
		move(past, 0)
	}
	move(&g.next, maxRetryAfter)
	move(&g.by, answerWithin)
	m.waiters = waitersByLane{}
	for c, began := range g.calls {
		if began > m.now {
			g.calls[c] = min(began-by, m.now)
		}
	}
	for _, r := range m.refused {
		for _, at := range []*float64{&r.since, &r.next, &r.by} {
			if *at > 0 {
				*at -= by
			}
		}
	}
}
