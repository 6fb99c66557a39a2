package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/record"
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
	dropped         int // since it was said
	log             *zap.Logger
	now             func() time.Time
}

func (s *stream) tell(t record.Trim) {
	share := float64(t.Length) / float64(t.Cap)
	if share < roomAgain && t.Dropped == 0 {
		s.warned, s.alarmed = time.Time{}, time.Time{}
	}
	said := []zap.Field{zap.Int("events", t.Length), zap.Int("cap", t.Cap), zap.String("slowest_group", t.Slowest)}
	s.dropped += t.Dropped
	if s.dropped > 0 && s.due(&s.alarmed) {
		said = append(said, zap.Int("dropped", s.dropped), zap.Time("since", t.From), zap.Strings("lost_by", t.Lost))
		s.dropped, s.warned = 0, s.now()
		if len(t.Lost) > 0 {
			s.log.Error("the results stream is at its cap: events went that a group had not acknowledged; "+
				"let it catch up, then publish them again with kyclink results replay --since", said...)
			return
		}
		s.log.Warn("the results stream is at its cap: the oldest events went before their time; no group had them unacknowledged", said...)
		return
	}
	if share >= nearlyFull && s.due(&s.warned) {
		s.log.Warn("the results stream is nearly full; at its cap the oldest events go, whether they were read or not: "+
			"let its groups catch up, or raise KYCLINK_RESULTS_CAP", said...)
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
