package worker

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/results"
)

const (
	nearlyFull  = 0.8 // of the cap
	roomAgain   = 0.75
	remindAfter = time.Hour
)

// trim keeps the results stream within its age and its cap, and says in good time
// that the cap is near.
func (s *sweep) trim(ctx context.Context) error {
	t, err := s.left.TrimResults(ctx)
	if err == nil && t.Cap > 0 {
		s.stream.tell(t)
	}
	return err
}

// stream is what was said of how full it is: once, and again every hour while it
// is so.
type stream struct {
	warned, alarmed time.Time
	unsaid          results.Trim // what was dropped since it was said: how many, from when on, by whom lost
	log             *zap.Logger
	now             func() time.Time
}

func (s *stream) tell(t results.Trim) {
	share := float64(t.Length) / float64(t.Cap)
	if share < roomAgain && t.Dropped == 0 {
		s.warned, s.alarmed = time.Time{}, time.Time{}
	}
	said := []zap.Field{zap.Int("events", t.Length), zap.Int("cap", t.Cap), zap.String("slowest_group", t.Slowest)}
	s.add(t)
	if gone := s.unsaid; gone.Dropped > 0 && s.due(&s.alarmed) {
		said = append(said, zap.Int("dropped", gone.Dropped), zap.Time("since", gone.From), zap.Strings("lost_by", gone.Lost))
		s.unsaid, s.warned = results.Trim{}, s.now()
		if len(gone.Lost) > 0 {
			s.log.Error("the results stream reached its cap: events went that a group had not acknowledged; "+
				"let it catch up, then publish them again with kyclink results replay --since", said...)
			return
		}
		s.log.Warn("the results stream reached its cap: the oldest events went before their time; no group had them unacknowledged", said...)
		return
	}
	if share >= nearlyFull && s.due(&s.warned) {
		s.log.Warn("the results stream is nearly full; at its cap the oldest events go, whether they were read or not: "+
			"let its groups catch up, or raise KYCLINK_RESULTS_CAP", said...)
	}
}

// add keeps what was dropped until it is said: whoever reads that is to publish all
// of it again.
func (s *stream) add(t results.Trim) {
	if t.Dropped == 0 {
		return
	}
	if s.unsaid.Dropped == 0 {
		s.unsaid.From = t.From
	}
	s.unsaid.Dropped += t.Dropped
	for _, group := range t.Lost {
		if !slices.Contains(s.unsaid.Lost, group) {
			s.unsaid.Lost = append(s.unsaid.Lost, group)
		}
	}
}

// due says whether it is time to say something, and takes it as said.
func (s *stream) due(said *time.Time) bool {
	if !said.IsZero() && s.now().Sub(*said) < remindAfter {
		return false
	}
	*said = s.now()
	return true
}
