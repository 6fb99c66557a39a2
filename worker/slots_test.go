package worker

import (
	"context"
	"maps"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func TestTheLimitFollowsTheRateAndTheUsualLatency(t *testing.T) {
	s := newSlots(true)
	limit := func(want int) {
		t.Helper()
		if got := s.limit(); got != want {
			t.Fatalf("%d calls may be out at %g/s and %s, want %d", got, s.rate, s.usual, want)
		}
	}
	answer := func(took time.Duration, f *fault.Fault) {
		for range 200 {
			if !s.take(t.Context(), nil) {
				t.Fatal("no slot")
			}
			s.end(took, f)
		}
	}
	limit(math.MaxInt) // no rate is known yet
	s.inForce(10)
	limit(20)
	answer(100*time.Millisecond, nil)
	limit(leastSlots)
	s.inForce(100)
	limit(21) // 200 answers leave a trace of the first second
	answer(2*time.Second, &fault.Fault{Kind: fault.BadRequest})
	limit(400)

	// What FaceKi did not answer, or not well, tells nothing of how it is usually.
	for kind := fault.BadRequest; kind <= fault.Interrupted; kind++ {
		if f := (&fault.Fault{Kind: kind}); f.Scope() != fault.ThisRequest {
			answer(time.Minute, f)
			limit(400)
		}
	}
	if s.out != 0 {
		t.Errorf("%d calls are out", s.out)
	}
	fixed := newSlots(false)
	fixed.inForce(1)
	if got := fixed.limit(); got != math.MaxInt {
		t.Errorf("a fixed number of handlers is bounded to %d", got)
	}
}

func TestWhoWaitsForASlotIsWoken(t *testing.T) {
	for name, tt := range map[string]struct {
		event func(s *slots, stop, cancel func())
		taken bool
	}{
		"calls end":          {func(s *slots, _, _ func()) { s.end(time.Second, nil); s.end(time.Second, nil) }, true},
		"slots are put back": {func(s *slots, _, _ func()) { s.putBack(); s.putBack() }, true},
		"the rate is raised": {func(s *slots, _, _ func()) { s.inForce(100) }, true},
		"the worker stops":   {func(_ *slots, stop, _ func()) { stop() }, false},
		"the lease is lost":  {func(_ *slots, _, cancel func()) { cancel() }, false},
		"calls are abandoned": {func(s *slots, _, _ func()) {
			for range 2 {
				s.end(time.Hour, &fault.Fault{Kind: fault.TimedOut})
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSlots(true)
				s.inForce(1)
				for range leastSlots {
					s.take(t.Context(), nil)
				}
				ctx, cancel := context.WithCancel(t.Context())
				stopping := make(chan struct{})
				got := make(chan bool, 2)
				for range 2 { // all who wait are woken
					go func() { got <- s.take(ctx, stopping) }()
				}
				s.inForce(1) // nothing changes
				synctest.Wait()
				if len(got) != 0 {
					t.Fatal("taken with all slots out")
				}
				tt.event(s, func() { close(stopping) }, cancel)
				synctest.Wait()
				if len(got) != 2 || <-got != tt.taken || <-got != tt.taken {
					t.Errorf("not woken, or not with %v", tt.taken)
				}
				cancel()
			})
		})
	}
}

func TestSlotsThatAreTheLimit(t *testing.T) {
	answered := func(s *slots) {
		s.take(t.Context(), nil)
		s.end(time.Second, nil)
	}
	hung := func(s *slots) {
		s.take(t.Context(), nil)
		s.end(15*time.Second, &fault.Fault{Kind: fault.TimedOut})
	}
	always := func(int) bool { return true }
	for name, tt := range map[string]struct {
		out, handlers int
		flows         func(look int) bool
		call          func(*slots)
		want          []int // looks, ten a minute
	}{
		"all handlers call":             {10, 10, always, answered, []int{10, 21}},
		"nearly all":                    {8, 10, always, answered, []int{10, 21}},
		"some wait for work":            {7, 10, always, answered, nil},
		"FaceKi hangs":                  {10, 10, always, hung, nil},
		"grants never come at once":     {10, 10, func(int) bool { return false }, answered, nil},
		"a grant was waited for":        {10, 10, func(look int) bool { return look%10 != 5 }, answered, nil},
		"a grant was waited for before": {10, 10, func(look int) bool { return look > 5 }, answered, []int{15}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSlots(false)
			for range tt.out {
				s.take(t.Context(), nil)
			}
			var got []int
			for look := range 25 {
				tt.call(s)
				if s.crowded(time.Unix(0, 0).Add(time.Duration(look)*crowdedAfter/10), tt.handlers, tt.flows(look)) {
					got = append(got, look)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("said after looks %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSlotsThatAreTheLimitAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // a name would be looked up, in a bubble
		defer rdb.Close()
		core, lines := observer.New(zap.WarnLevel)
		w := New(rdb, stub{}, Config{Calls: Calls{Concurrency: 3}, Telemetry: Telemetry{Limited: zap.New(core)}})
		bulk := w.lanes[request.Bulk]
		bulk.flows.Store(true)
		for range 3 {
			bulk.slots.take(t.Context(), nil)
		}
		for range 12 {
			bulk.slots.take(t.Context(), nil)
			bulk.slots.end(time.Second, nil)
			w.inForce(7)
			<-time.After(crowdedAfter / 10)
		}
		want := map[string]any{"lane": "bulk", "slots": int64(3), "rate_per_second": 7.0}
		if lines.Len() != 1 || !maps.Equal(lines.All()[0].ContextMap(), want) {
			t.Errorf("said %v, want once %v", lines.All(), want)
		}
	})
}
