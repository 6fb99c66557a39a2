package worker

import (
	"context"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

func TestLimit_FollowsTheRateAndTheUsualLatency(t *testing.T) {
	s := newLimit(500, true)
	most := func(want int) {
		t.Helper()
		if got := s.most(); got != want {
			t.Fatalf("%d calls may be in flight at %g/s and %s, want %d", got, s.rate, s.usual, want)
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
	most(500) // no rate is known yet
	s.setRate(10)
	most(20)
	answer(100*time.Millisecond, nil)
	most(leastSlots)
	s.setRate(100)
	most(21) // 200 answers leave a trace of the first second
	answer(2*time.Second, &fault.Fault{Kind: fault.BadRequest})
	most(400)
	s.setRate(1000)
	most(500)
	s.setRate(100)

	// A call that FaceKi did not answer, or not well, does not change the usual latency.
	for kind := fault.BadRequest; kind <= fault.Interrupted; kind++ {
		if f := (&fault.Fault{Kind: kind}); f.Scope() != fault.ThisRequest && kind != fault.Interrupted {
			answer(time.Minute, f)
			most(400)
		}
	}
	if s.inFlight != 0 {
		t.Errorf("%d calls are in flight", s.inFlight)
	}
	fixed := newLimit(32, false)
	fixed.setRate(1)
	if got := fixed.most(); got != 32 {
		t.Errorf("%d of 32 slots may be used", got)
	}
}

// On a machine that is too busy to send calls in time, fewer at a time are sent sooner.
func TestLimit_HalvesWhileCallsAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLimit(64, false)
		most := func(want int) {
			t.Helper()
			if got := s.most(); got != want {
				t.Fatalf("%d calls may be in flight, want %d", got, want)
			}
		}
		end := func(times int, f *fault.Fault) {
			for range times {
				s.take(t.Context(), nil)
				s.end(time.Second, f)
			}
		}
		late := &fault.Fault{Kind: fault.Interrupted}
		end(64, late) // at once
		most(32)
		for _, want := range []int{16, 8, leastSlots, leastSlots} {
			<-time.After(lateOnce)
			end(10, late)
			most(want)
		}
		end(4, nil)
		most(6)
		end(24, &fault.Fault{Kind: fault.TimedOut}) // it was sent
		most(12)
		end(1000, nil)
		most(64)

		// The limit that is in force is halved, and no slots are added.
		few := newLimit(3, false)
		few.end(time.Second, late)
		if got := few.most(); got != 3 {
			t.Errorf("%d of 3 slots may be used", got)
		}
		auto := newLimit(1000, true)
		auto.setRate(10)
		auto.end(time.Second, late)
		if got := auto.most(); got != 10 {
			t.Errorf("%d calls may be in flight at 10/s, want 10", got)
		}
	})
}

func TestLimit_WakesWaitingTurns(t *testing.T) {
	for name, tt := range map[string]struct {
		event func(s *limit, stop, cancel func())
		taken bool
	}{
		"calls end":          {func(s *limit, _, _ func()) { s.end(time.Second, nil); s.end(time.Second, nil) }, true},
		"slots are put back": {func(s *limit, _, _ func()) { s.putBack(); s.putBack() }, true},
		"the rate is raised": {func(s *limit, _, _ func()) { s.setRate(100) }, true},
		"the worker stops":   {func(_ *limit, stop, _ func()) { stop() }, false},
		"the lease is lost":  {func(_ *limit, _, cancel func()) { cancel() }, false},
		"calls are abandoned": {func(s *limit, _, _ func()) {
			for range 2 {
				s.end(time.Hour, &fault.Fault{Kind: fault.TimedOut})
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newLimit(100, true)
				s.setRate(1)
				for range leastSlots {
					s.take(t.Context(), nil)
				}
				ctx, cancel := context.WithCancel(t.Context())
				stopping := make(chan struct{})
				got := make(chan bool, 2)
				for range 2 { // all waiting turns are woken
					go func() { got <- s.take(ctx, stopping) }()
				}
				s.setRate(1) // nothing changes
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

func TestLimit_IsSaturatedWhenSlotsAreTheBottleneck(t *testing.T) {
	answered := func(s *limit) {
		s.end(time.Second, nil)
		s.take(t.Context(), nil)
	}
	hung := func(s *limit) {
		s.end(15*time.Second, &fault.Fault{Kind: fault.TimedOut})
		s.take(t.Context(), nil)
	}
	always := func(int) bool { return true }
	for name, tt := range map[string]struct {
		out, slots int
		flows      func(look int) bool
		call       func(*limit)
		want       []int // observations, ten a minute
	}{
		"all slots call":                {10, 10, always, answered, []int{10, 21}},
		"nearly all":                    {8, 10, always, answered, []int{10, 21}},
		"some wait for work":            {7, 10, always, answered, nil},
		"FaceKi hangs":                  {10, 10, always, hung, nil},
		"grants never come at once":     {10, 10, func(int) bool { return false }, answered, nil},
		"a grant was waited for":        {10, 10, func(look int) bool { return look%10 != 5 }, answered, nil},
		"a grant was waited for before": {10, 10, func(look int) bool { return look > 5 }, answered, []int{15}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLimit(tt.slots, false)
			for range tt.out {
				s.take(t.Context(), nil)
			}
			var got []int
			for look := range 25 {
				tt.call(s)
				if s.saturated(time.Unix(0, 0).Add(time.Duration(look)*saturatedAfter/10), tt.flows(look)) {
					got = append(got, look)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("saturated after observations %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWorker_WarnsOnceThatConcurrencyLimitsALane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"}) // a name would be looked up, in a bubble
		defer rdb.Close()
		core, lines := observer.New(zap.WarnLevel)
		w := New(rdb, stub{}, Config{Calls: Calls{Concurrency: 3}, Telemetry: Telemetry{Limited: zap.New(core)}})
		bulk := w.session.Load().lanes[request.Bulk]
		bulk.admit.line.flowing.Store(true)
		for range 3 {
			bulk.call.limit.take(t.Context(), nil)
		}
		for range 12 {
			bulk.call.limit.end(time.Second, nil)
			bulk.call.limit.take(t.Context(), nil)
			w.session.Load().setRate(7)
			<-time.After(saturatedAfter / 10)
		}
		want := map[string]any{"lane": "bulk", "slots": int64(3), "rate_per_second": 7.0}
		if lines.Len() != 1 || !maps.Equal(lines.All()[0].ContextMap(), want) {
			t.Errorf("logged %v, want once %v", lines.All(), want)
		}
	})
}

// Once FaceKi has created a link, another call may be sent while the link is recorded. A fault
// is recorded first, since it may close the gate.
func TestLimit_CountsACallUntilItsFaultIsRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		fault     *Fault
		recording int // calls in flight meanwhile
	}{
		"link":  {nil, 0},
		"fault": {&Fault{Kind: Unavailable}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &away{back: time.Now().Add(time.Minute)}
				p := clocked(l, stub{create: func(context.Context, Attempt) (Link, *Fault) { return Link{}, tt.fault }}).pipeline()
				over := make(chan error, 1)
				go func() { over <- p.process(t.Context(), request.Ref{}) }()
				inFlight := func() int {
					p.call.limit.mu.Lock()
					defer p.call.limit.mu.Unlock()
					return p.call.limit.inFlight
				}
				synctest.Wait()
				if got := inFlight(); l.marks != 1 || got != tt.recording {
					t.Errorf("%d calls are in flight of %d that were admitted, want %d", got, l.marks, tt.recording)
				}
				<-over
				if got := inFlight(); got != 0 {
					t.Errorf("%d calls are in flight at the end", got)
				}
			})
		})
	}
}

// panics is a ledger that panics when it is asked for an admission.
type panics struct{ *away }

func (panics) Admit(context.Context, attempt.Query) (attempt.Decision, error) { panic("asked") }

func TestLimit_CountsNoCallAfterAPanic(t *testing.T) {
	for name, tt := range map[string]struct {
		ledger played
		called func()
	}{
		"while it asks":   {panics{&away{}}, func() {}},
		"before the call": {&away{}, func() { panic("called") }},
	} {
		t.Run(name, func(t *testing.T) {
			p := clocked(tt.ledger, stub{create: makes}).pipeline()
			_ = p.processUntil(t.Context(), request.Ref{}, tt.called) // the turn is quarantined
			if p.call.limit.inFlight != 0 {
				t.Errorf("%d calls are in flight", p.call.limit.inFlight)
			}
		})
	}
}
