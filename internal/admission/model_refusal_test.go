package admission

// The pauses before a refused credential is tried again, in ms.
const (
	firstRefusedPause = 60_000
	maxRefusedPause   = 600_000
)

// refusal is the state of a credential that FaceKi refuses. Each has its own probe.
type refusal struct {
	since, pause, next float64
	prober, id         string  // the process that probes, and the id of its request
	by                 float64 // when the probe is given up
}

// refusal returns the state of a refused credential, or nil if it is not refused. It corrects
// times that are further ahead than possible: they were stored before the clock went back.
func (m *Model) refusal(credential string) *refusal {
	stored := m.refused[credential]
	if stored == nil {
		return nil
	}
	r := *stored
	r.since = min(r.since, m.now)
	if r.next > m.now+r.pause {
		r.next = m.now
	}
	if r.by > m.now+answerWithin {
		r.by = 0
	}
	return &r
}

// updateRefusal updates the state of a credential after a call with it. Only the success of
// a call that was sent after the refusal ends the refusal.
func (m *Model) updateRefusal(r Report, began float64) {
	known := m.refusal(r.Credential)
	if known == nil {
		cleared := m.cleared[r.Credential]
		if r.Signal == Refused && (cleared <= began || cleared > m.now) {
			m.refused[r.Credential] = &refusal{since: m.now, pause: firstRefusedPause, next: m.now + firstRefusedPause}
			m.recordChange(Change{m.now, closed, refused})
		}
		return
	}
	if good := r.Signal == Success || r.Signal == Alive; good && began >= known.since {
		delete(m.refused, r.Credential)
		m.cleared[r.Credential] = m.now
		m.recordChange(Change{m.now, open, refused})
		return
	}
	if known.prober != r.Process || known.id != r.ID {
		return
	}
	if r.Signal == Refused {
		known.pause = min(maxRefusedPause, known.pause*2)
	}
	known.next = m.now + known.pause
	if r.Signal == Unused {
		known.next = m.now
	}
	known.prober, known.id, known.by = "", "", 0
	m.refused[r.Credential] = known
}
