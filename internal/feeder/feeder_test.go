package feeder

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/ledger"
)

// source gives each call of Feed the same answer, and counts the calls.
type source struct {
	leads bool
	err   error
	calls int
}

func (s *source) Feed(context.Context, ledger.FeedTarget) (ledger.FeedResult, error) {
	s.calls++
	return ledger.FeedResult{Leads: s.leads}, s.err
}

func TestFeeder_FeedsMoreOftenWhenItLeads(t *testing.T) {
	for name, tt := range map[string]struct {
		source
		calls int
	}{
		"leader":    {source{leads: true}, 600},
		"follower":  {source{}, 60},
		"in errors": {source{leads: true, err: errors.New("Redis is away")}, 60},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Millisecond)
			defer cancel()
			New(Config{Source: &tt.source, RateRead: func(float64) {}, Log: zap.NewNop(), Limited: zap.NewNop()}).Run(ctx)
			if tt.source.calls != tt.calls {
				t.Errorf("%s: fed %d times within a minute; want %d", name, tt.source.calls, tt.calls)
			}
		})
	}
}
