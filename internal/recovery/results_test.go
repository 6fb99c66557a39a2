package recovery

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/results"
)

func TestResults_WarnsInGoodTimeThatTheStreamIsNearlyFull(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	s := warnings{logger: zap.New(core), now: func() time.Time { return now }}
	for i, step := range []struct {
		after time.Duration
		trim  results.Trimmed
		want  zapcore.Level
		lines int // lines
	}{
		{0, results.Trimmed{Length: 7999}, 0, 0},
		{3 * time.Second, results.Trimmed{Length: 8000, SlowestGroup: "crm"}, zap.WarnLevel, 1},
		{3 * time.Second, results.Trimmed{Length: 9000}, 0, 0},
		{3 * time.Second, results.Trimmed{Length: 10_000, Dropped: 5, LosingGroups: []string{"crm"}}, zap.ErrorLevel, 1},
		{3 * time.Second, results.Trimmed{Length: 10_000, Dropped: 7, LosingGroups: []string{"crm"}}, 0, 0},
		{3 * time.Second, results.Trimmed{Length: 9999}, 0, 0},
		{time.Hour, results.Trimmed{Length: 10_000, Dropped: 2}, zap.ErrorLevel, 1},
		{time.Hour, results.Trimmed{Length: 8000}, zap.WarnLevel, 1},
		{3 * time.Second, results.Trimmed{Length: 7000}, 0, 0},
		{3 * time.Second, results.Trimmed{Length: 8000}, zap.WarnLevel, 1},
	} {
		now = now.Add(step.after)
		step.trim.Cap = 10_000
		s.log(step.trim)
		lines := logs.TakeAll()
		if len(lines) != step.lines || step.lines > 0 && lines[0].Level != step.want {
			t.Errorf("step %d: it logs %+v", i, lines)
		}
		if i == 6 && lines[0].ContextMap()["dropped"] != int64(9) {
			t.Errorf("of the events removed since, it logs %v", lines[0].ContextMap())
		}
	}
}

// Replaying since the logged time publishes all removed events again.
func TestResults_LogsAllRemovedEvents(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	start := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	now := start
	s := warnings{logger: zap.New(core), now: func() time.Time { return now }}
	drop := func(after time.Duration, dropped int, lost ...string) {
		now = now.Add(after)
		s.log(results.Trimmed{Length: 10_000, Cap: 10_000, Dropped: dropped, LosingGroups: lost, DroppedFrom: now.Add(-time.Hour)})
	}
	drop(0, 5, "crm")
	logs.TakeAll()
	drop(3*time.Second, 7, "crm", "mail")
	drop(3*time.Second, 1)
	drop(3*time.Second, 2, "billing", "mail")
	now = now.Add(3 * time.Second)
	s.log(results.Trimmed{Length: 100, Cap: 10_000}) // the groups caught up: the rest is logged now, as no event is removed any more
	lines := logs.TakeAll()
	if len(lines) != 1 || lines[0].Level != zap.ErrorLevel {
		t.Fatalf("it logs %+v", lines)
	}
	fields := lines[0].ContextMap()
	if since, _ := fields["since"].(time.Time); fields["dropped"] != int64(10) || !since.Equal(start.Add(3*time.Second-time.Hour)) ||
		fmt.Sprint(fields["lost_by"]) != "[crm mail billing]" {
		t.Errorf("it logs %v", fields)
	}
}
