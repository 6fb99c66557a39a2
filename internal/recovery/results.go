package recovery

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

// Results keeps the results stream within its age and its cap.
type Results interface {
	Trim(ctx context.Context) (results.Trimmed, error)
}

type stream struct {
	results  Results
	warnings warnings
}

// trim trims the results stream, and warns before it reaches its cap.
func (s *stream) trim(ctx context.Context, _ Counts) error {
	t, err := s.results.Trim(ctx)
	if err == nil && t.Cap > 0 {
		s.warnings.log(t)
	}
	return err
}

// warnings warns that the results stream is nearly full, or has lost events: once, and
// again every hour while it is so.
type warnings struct {
	warned, alarmed time.Time
	unreported      results.Trimmed // what was removed since the last line: how many, since when, which groups lost it
	logger          *zap.Logger
	now             func() time.Time
}

func (s *warnings) log(t results.Trimmed) {
	share := float64(t.Length) / float64(t.Cap)
	if share < roomAgain && t.Dropped == 0 {
		s.warned, s.alarmed = time.Time{}, time.Time{}
	}
	fields := []zap.Field{zap.Int("events", t.Length), zap.Int("cap", t.Cap), zap.String("slowest_group", t.SlowestGroup)}
	s.add(t)
	if removed := s.unreported; removed.Dropped > 0 && s.due(&s.alarmed) {
		fields = append(fields, zap.Int("dropped", removed.Dropped), zap.Time("since", removed.DroppedFrom), zap.Strings("lost_by", removed.LosingGroups))
		s.unreported, s.warned = results.Trimmed{}, s.now()
		if len(removed.LosingGroups) > 0 {
			s.logger.Error("results stream reached its cap and lost events that a group had not acknowledged; "+
				"let the group catch up, then run kyclink results replay --since", fields...)
			return
		}
		s.logger.Warn("results stream reached its cap; acknowledged events were removed before their time", fields...)
		return
	}
	if share >= nearlyFull && s.due(&s.warned) {
		s.logger.Warn("results stream nearly full; at its cap the oldest events are removed, even if not acknowledged: "+
			"let its groups catch up, or raise KYCLINK_RESULTS_CAP", fields...)
	}
}

// add accumulates what was removed until it is logged, because all of it has to be published
// again.
func (s *warnings) add(t results.Trimmed) {
	if t.Dropped == 0 {
		return
	}
	if s.unreported.Dropped == 0 {
		s.unreported.DroppedFrom = t.DroppedFrom
	}
	s.unreported.Dropped += t.Dropped
	for _, group := range t.LosingGroups {
		if !slices.Contains(s.unreported.LosingGroups, group) {
			s.unreported.LosingGroups = append(s.unreported.LosingGroups, group)
		}
	}
}

// due says whether a log line is due, and counts it as logged.
func (s *warnings) due(logged *time.Time) bool {
	if !logged.IsZero() && s.now().Sub(*logged) < remindAfter {
		return false
	}
	*logged = s.now()
	return true
}
