package worker

import (
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/record"
)

func TestTheStreamIsSaidToBeFullInGoodTime(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	now := time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC)
	s := stream{log: zap.New(core), now: func() time.Time { return now }}
	for i, step := range []struct {
		after time.Duration
		trim  record.Trim
		want  zapcore.Level
		says  int // lines
	}{
		{0, record.Trim{Length: 7999}, 0, 0},
		{3 * time.Second, record.Trim{Length: 8000, Slowest: "crm"}, zap.WarnLevel, 1},
		{3 * time.Second, record.Trim{Length: 9000}, 0, 0},
		{3 * time.Second, record.Trim{Length: 10_000, Dropped: 5, Lost: []string{"crm"}}, zap.ErrorLevel, 1},
		{3 * time.Second, record.Trim{Length: 10_000, Dropped: 7, Lost: []string{"crm"}}, 0, 0},
		{3 * time.Second, record.Trim{Length: 9999}, 0, 0},
		{time.Hour, record.Trim{Length: 10_000, Dropped: 2}, zap.WarnLevel, 1},
		{time.Hour, record.Trim{Length: 8000}, zap.WarnLevel, 1},
		{3 * time.Second, record.Trim{Length: 7000}, 0, 0},
		{3 * time.Second, record.Trim{Length: 8000}, zap.WarnLevel, 1},
	} {
		now = now.Add(step.after)
		step.trim.Cap = 10_000
		s.tell(step.trim)
		said := logs.TakeAll()
		if len(said) != step.says || step.says > 0 && said[0].Level != step.want {
			t.Errorf("step %d: it says %+v", i, said)
		}
		if i == 6 && said[0].ContextMap()["dropped"] != int64(9) {
			t.Errorf("of what was dropped since, it says %v", said[0].ContextMap())
		}
	}
}
