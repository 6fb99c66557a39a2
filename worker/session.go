package worker

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	// restAfter is how long an account has no work before its worker rests. Opening a session
	// costs more than keeping one for a few seconds.
	restAfter = 10 * time.Second
	idlePause = time.Second // between two checks whether the account has work
	// upkeepPause is about how often the account of a worker that rests is examined like that
	// of a leading worker: mainly for requests past their retention, which are to be erased
	// within an hour.
	upkeepPause = time.Minute
)

// session is a time during which a worker takes requests. A worker that never rests has a
// single one.
type session struct {
	cfg        Config
	life       *lifecycle.Lifecycle
	servers    *servers
	lanes      map[request.Lane]*pipeline
	handlers   []taskHandlers              // beside those of single turns
	background []func(ctx context.Context) // what runs beside the lanes until the session ends
}

// takeRequests runs a session until ctx is done, the worker fails, or it may rest. ended
// reports whether all handlers have ended.
func (w *Worker) takeRequests(ctx context.Context, s *session) (ended bool, err error) {
	log := w.cfg.Telemetry.Log
	defer s.life.End()
	defer s.life.Drain()
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	var background sync.WaitGroup
	for _, run := range s.background {
		background.Go(func() { run(working) })
	}
	idle := make(chan struct{})
	if w.cfg.Rest != nil {
		background.Go(func() { w.untilIdle(working, idle) })
	}

	started, err := s.servers.start()
	resting := false
	if err == nil {
		w.setStarted()
		select {
		case <-ctx.Done():
		case err = <-s.life.Failure():
		case err = <-w.life.Failure():
		case <-idle:
			resting = true
		}
	}
	if !resting {
		w.life.Drain()
		log.Info("draining in-flight calls", zap.Duration("timeout", s.servers.config.Drain))
		failpoint.Hit("stopping")
	}
	s.life.Drain()
	stopWorking()
	ended = s.drain(started)
	background.Wait()
	if err == nil {
		select {
		case err = <-s.life.Failure(): // it failed while it drained
		default:
		}
	}
	return ended, err
}

// setStarted records that the worker takes requests, or that there are none.
func (w *Worker) setStarted() {
	if !w.started.Swap(true) {
		w.cfg.Telemetry.Log.Info("worker started", zap.Int("slots", w.cfg.Calls.Concurrency))
	}
}

// untilIdle closes idle when the account has had no work for a while.
func (w *Worker) untilIdle(ctx context.Context, idle chan<- struct{}) {
	for since := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(idlePause):
		}
		if without, err := w.cfg.Rest.Idle(ctx); err != nil || !without { // the heartbeat reports errors of Redis
			since = time.Now()
		}
		if time.Since(since) >= restAfter {
			close(idle)
			return
		}
	}
}

// rest returns when the account has work. It returns an error if the worker fails meanwhile.
func (w *Worker) rest(ctx context.Context) (err error) {
	if w.cfg.Rest == nil {
		return nil
	}
	if idle, err := w.cfg.Rest.Idle(ctx); err != nil || !idle {
		return nil // in doubt it works
	}
	w.setStarted()
	w.cfg.Telemetry.Log.Debug("account has no work; the worker rests")
	resting, stop := context.WithCancel(ctx)
	defer stop()
	var running sync.WaitGroup
	running.Go(func() { w.upkeep(resting) })
	work := make(chan struct{})
	running.Go(func() {
		defer close(work)
		w.cfg.Rest.Await(resting)
	})
	select {
	case <-work:
	case err = <-w.life.Failure():
	}
	stop()
	running.Wait()
	return err
}

// drain stops the servers and waits for all handlers. It returns whether all have ended.
func (s *session) drain(started []laneServer) bool {
	return s.servers.stop(started, s.life, func() {
		for _, lane := range s.lanes {
			lane.turns.running.Wait()
		}
		for _, handlers := range s.handlers {
			handlers.Wait()
		}
	})
}

// handled returns the tasks that have a handler.
func (s *session) handled() []string {
	var all []string
	for _, turn := range s.lanes[request.Bulk].turns.handled() { // the lanes share them
		all = append(all, turn.String())
	}
	for _, handlers := range s.handlers {
		all = append(all, handlers.Handled()...)
	}
	return all
}

// setRate gives the lanes the account's rate, and warns if not the rate limits them.
func (s *session) setRate(perSecond float64) {
	slots := s.cfg.Calls.Concurrency
	for name, lane := range s.lanes {
		limit := lane.call.limit
		limit.setRate(perSecond)
		if limit.saturated(time.Now(), lane.admit.line.flowing.Load()) {
			s.cfg.Telemetry.Limited.Warn("concurrency limits this lane, not the rate; start more workers, or raise KYCLINK_CONCURRENCY",
				zap.String("lane", string(name)), zap.Int("slots", slots), zap.Float64("rate_per_second", perSecond))
		}
	}
}
