package worker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kyclink/kyclink/internal/activity"
	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

// These tests control the clock, so nothing real is around the worker.

// away is a ledger in a Redis that cannot be reached until back.
type away struct {
	back   time.Time
	marks  int
	writes int
}

func (l *away) reached() error {
	if time.Now().Before(l.back) {
		return errAway
	}
	return nil
}

func (l *away) Admit(context.Context, attempt.Query) (attempt.Decision, error) {
	l.marks++
	return attempt.Decision{Verdict: attempt.Call}, nil
}

func (*away) Release(context.Context, request.Ref) (request.Lane, request.Ref, bool, error) {
	return "", request.Ref{}, false, nil
}

func (*away) ReportSignal(context.Context, request.Ref, *fault.Fault, bool) (bool, error) {
	return false, nil
}

func (l *away) Created(context.Context, attempt.Attempt, request.Link) (request.State, error) {
	l.writes++
	return request.Created, l.reached()
}

func (l *away) Fault(context.Context, attempt.Attempt, *fault.Fault, attempt.Next) (request.State, error) {
	l.writes++
	return request.Queued, l.reached()
}

func (*away) Hold(context.Context, request.Record) (request.State, error)   { return "", errAway }
func (*away) Expire(context.Context, request.Record) (request.State, error) { return "", errAway }
func (*away) Cancel(context.Context, request.Record) (request.State, error) { return "", errAway }
func (l *away) Heartbeat(context.Context, []string) error                   { l.writes++; return l.reached() }
func (*away) Join(context.Context) error                                    { return nil }
func (*away) Leave(context.Context) error                                   { return nil }

func (*away) CountPanic(context.Context, request.Ref) (int, error) { return 1, nil }
func (*away) Add(context.Context, quarantine.Entry) error          { return nil }
func (*away) Quarantine(context.Context, request.Ref, string, string) (request.State, error) {
	return request.Failed, nil
}

// played is a ledger that a test plays.
type played interface {
	admissions
	signals
	releases
	results
	ends
	undecodable
	asynqx.Store
	membership
}

// clock is a worker without servers.
type clock struct {
	*wiring
	member *member
}

func clocked(l played, links Upstream) *clock {
	cfg := Config{}.withDefaults()
	life := lifecycle.New(cfg.Telemetry.Limited)
	c := &clock{wiring: &wiring{
		stores: laneStores{l, l, l, l, l, l, l, new(activity.Counter)}, upstream: upstream{links}, cfg: cfg, life: life, turns: newTurns(),
		policy: policy{base: time.Second, cap: time.Second, random: most}, gate: &gate{signals: l, life: life, limited: cfg.Telemetry.Limited},
	}}
	c.member = &member{
		fleet: l, handled: func() []string { return nil }, flush: func(context.Context) error { return nil }, life: life, log: cfg.Telemetry.Log, limited: cfg.Telemetry.Limited,
	}
	return c
}

func (c *clock) stop() { c.life.Drain() }

// drain waits for the handlers, as a worker does when it stops.
func (c *clock) drain() bool {
	s := &servers{config: asynqx.ServerConfig{Drain: c.cfg.longestCall() + drainMargin}, log: logs{c.cfg.Telemetry.Log, c.cfg.Telemetry.Limited}}
	return s.stop(nil, c.life, c.turns.running.Wait)
}

func makes(context.Context, Attempt) (Link, *Fault) { return Link{}, nil }

func TestRecord_SucceedsWithinASecondOfRedisBeingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &away{back: time.Now().Add(100*time.Second + 300*time.Millisecond)}
		w := clocked(l, stub{create: makes})
		if err := w.pipeline().process(t.Context(), request.Ref{}); err != nil {
			t.Fatal(err)
		}
		if late := time.Since(l.back); late < 0 || late > time.Second {
			t.Errorf("recorded %s after Redis was back, by try %d", late, l.writes)
		}
		if l.marks != 1 {
			t.Errorf("marked %d times", l.marks)
		}
	})
}

func TestRecord_IsGivenUpWhenTheProcessEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &away{back: time.Now().Add(time.Hour)}
		w := clocked(l, stub{create: makes})
		over := make(chan error, 1)
		go func() { over <- w.pipeline().process(t.Context(), request.Ref{}) }()
		synctest.Wait()
		w.stop()
		begun := time.Now()
		if !w.drain() {
			t.Error("a handler is left behind")
		}
		if took := time.Since(begun); took != 20*time.Second {
			t.Errorf("given up after %s, want 20 s", took)
		}
		if _, again := isLater(<-over); !again {
			t.Error("it does not run again")
		}
	})
}

func TestWorker_EndsWithoutAHandlerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		w := clocked(&away{}, stub{create: func(context.Context, Attempt) (Link, *Fault) {
			<-goOn
			return Link{}, nil
		}})
		go func() { _ = w.pipeline().process(t.Context(), request.Ref{}) }()
		synctest.Wait()
		begun := time.Now()
		if w.drain() {
			t.Error("all are over, it is said")
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("left behind after %s", took)
		}
		close(goOn)
	})
}

func TestAdmit_StopsWaitingForATokenWhenTheWorkerDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &away{}
		w := clocked(l, stub{ready: func(ctx context.Context) *Fault {
			<-ctx.Done()
			return &Fault{Kind: Interrupted}
		}})
		over := make(chan error, 1)
		go func() { over <- w.pipeline().process(t.Context(), request.Ref{}) }()
		synctest.Wait()
		w.stop()
		synctest.Wait()
		if delay, again := isLater(<-over); !again || delay != 0 || l.marks != 0 {
			t.Errorf("runs again after %s, %d marks", delay, l.marks)
		}
	})
}

func TestMember_SendsAHeartbeatEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &away{back: time.Now().Add(time.Minute)} // a heartbeat that fails is followed by another
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Second+time.Millisecond)
		defer cancel()
		clocked(l, nil).member.heartbeat(ctx)
		if l.writes != 300 {
			t.Errorf("%d beats within 300 s, want 300", l.writes)
		}
	})
}
