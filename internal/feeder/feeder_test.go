package feeder

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
)

// source gives each call of Feed the same answer, and counts the calls.
type source struct {
	leads     bool
	err       error
	refs      []request.Ref
	perSecond float64
	bundles   bool
	calls     int
}

func (s *source) Feed(context.Context, ledger.FeedTarget) (ledger.FeedResult, error) {
	s.calls++
	return ledger.FeedResult{Leads: s.leads, Refs: s.refs, PerSecond: s.perSecond, Bundles: s.bundles}, s.err
}

func TestFeeder_FeedsMoreOftenWhenItLeads(t *testing.T) {
	for name, tt := range map[string]struct {
		source
		calls int
	}{
		"leader":    {source: source{leads: true}, calls: 600},
		"follower":  {calls: 60},
		"in errors": {source: source{leads: true, err: errors.New("Redis is away")}, calls: 60},
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

// Bundles are small against the rate, so that each process of the fleet has work.
func TestFeeder_BundlesByTheRate(t *testing.T) {
	for _, tt := range []struct {
		perSecond float64
		takes     bool // every worker takes bundles
		fed       int
		singles   int
		bundles   []int // by size
	}{
		{5, true, 40, 40, nil},
		{39, true, 40, 40, nil},
		{40, true, 40, 0, []int{8, 8, 8, 8, 8}},
		{200, true, 40, 0, []int{12, 12, 12, 4}},
		{500, true, 40, 0, []int{31, 9}},
		{100_000, true, 65, 1, []int{32, 32}},
		{500, false, 40, 40, nil},
	} {
		var mu sync.Mutex
		singles, sizes := 0, []int(nil)
		f := New(Config{
			Source: &source{leads: true, refs: make([]request.Ref, tt.fed), perSecond: tt.perSecond, bundles: tt.takes}, RateRead: func(float64) {},
			Enqueue: func(context.Context, request.Lane, request.Ref) error {
				mu.Lock()
				defer mu.Unlock()
				singles++
				return nil
			},
			EnqueueBundle: func(_ context.Context, turns []request.Ref) error {
				mu.Lock()
				defer mu.Unlock()
				sizes = append(sizes, len(turns))
				return nil
			},
		})
		if fed, _, err := f.Feed(t.Context()); err != nil || fed != tt.fed {
			t.Errorf("fed %d, %v", fed, err)
		}
		slices.SortFunc(sizes, func(a, b int) int { return b - a })
		if singles != tt.singles || !slices.Equal(sizes, tt.bundles) {
			t.Errorf("at %g/s: %d tasks of one request, and bundles of %v; want %d and %v", tt.perSecond, singles, sizes, tt.singles, tt.bundles)
		}
	}
}
