package admission

// step is by how much Redis' clock may be off what a process takes it for, in ms, until
// it has stepped.
const step = 500

// rebase is for a clock that went back, by about as much: all that is stored of it
// moves along, so that pauses, ages and the silence last as long as they would have.
// The bucket starts empty, and whoever waits for the rate enters its line again.
func (s *State) rebase(by float64) {
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
	s.lines = lines{}
	for c, marked := range g.calls {
		if marked > s.now {
			g.calls[c] = min(marked-by, s.now)
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
