package admission

// The pauses before a refused credential is tried again, in ms.
const (
	refusedFirst = 60_000
	refusedMax   = 600_000
)

// refusal is the state of a credential that FaceKi refuses, with its own probe.
type refusal struct {
	since, pause, next float64
	prober, id         string
	by                 float64 // when the probe is given up
}

// refusal returns the state of a refused credential; nil if it is not refused. A time
// further ahead than possible was stored before the clock went back.
func (s *State) refusal(credential string) *refusal {
	kept := s.refused[credential]
	if kept == nil {
		return nil
	}
	r := *kept
	r.since = min(r.since, s.now)
	if r.next > s.now+r.pause {
		r.next = s.now
	}
	if r.by > s.now+answerWithin {
		r.by = 0
	}
	return &r
}

// updateRefusal changes a credential's state after a call with it. Only a success that
// was sent after the refusal ends it.
func (s *State) updateRefusal(r Report, began float64) {
	held := s.refusal(r.Credential)
	if held == nil {
		cleared := s.cleared[r.Credential]
		if r.Kind == Refused && (cleared <= began || cleared > s.now) {
			s.refused[r.Credential] = &refusal{since: s.now, pause: refusedFirst, next: s.now + refusedFirst}
			s.recordChange(Change{s.now, closed, refused})
		}
		return
	}
	if good := r.Kind == Success || r.Kind == Alive; good && began >= held.since {
		delete(s.refused, r.Credential)
		s.cleared[r.Credential] = s.now
		s.recordChange(Change{s.now, open, refused})
		return
	}
	if held.prober != r.Process || held.id != r.ID {
		return
	}
	if r.Kind == Refused {
		held.pause = min(refusedMax, held.pause*2)
	}
	held.next = s.now + held.pause
	if r.Kind == Back {
		held.next = s.now
	}
	held.prober, held.id, held.by = "", "", 0
	s.refused[r.Credential] = held
}
