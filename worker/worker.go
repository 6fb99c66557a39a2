// Package worker processes requests: it takes them from their lanes, calls an upstream that
// makes links, and records the results. The life of one request is in pipeline.go.
//
// [New] needs a Redis client, an [Upstream] and a [Config]; [Worker.Run] works until its
// context is done. Producers use package tasks.
package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

// Worker is one process of the fleet.
type Worker struct {
	cfg        Config
	life       *lifecycle.Lifecycle
	member     *member
	servers    *servers
	lanes      map[request.Lane]*pipeline
	handlers   []taskHandlers              // beside those of single turns
	background []func(ctx context.Context) // what runs beside the lanes until the worker drains
	started    atomic.Bool
}

// taskHandlers are the handlers of one kind of tasks.
type taskHandlers interface {
	// Handled returns the tasks that have a handler.
	Handled() []string
	// Wait waits until none has.
	Wait()
}

// New makes a worker that uses, and does not close, rdb. Do not close rdb before the
// program ends: asynq's servers panic if it is closed before they have stopped, and after
// a stop that took too long they may not have.
func New(rdb redis.UniversalClient, upstream Upstream, cfg Config) *Worker {
	cfg = cfg.withDefaults()
	return newWorker(rdb, newStores(rdb, cfg), upstream, cfg)
}

// Run works until ctx is done. Then it drains: no request is taken, and calls in flight are
// finished and recorded, which takes Calls.Timeout and a few seconds at most. It joins the
// account if [Worker.Join] was not called. It returns an error if it cannot start, or if
// the account is of the other kind. It is called once.
func (w *Worker) Run(ctx context.Context) error {
	log := w.cfg.Telemetry.Log
	defer w.life.End()
	defer w.life.Drain()
	if !w.member.joined.Load() {
		if err := w.Join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	compareClocks(ctx, w.servers.rdb, w.cfg.Account.Name, time.Now, log)
	failpoint.Hit("joined")
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	living, stopLiving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLiving()
	var background sync.WaitGroup
	background.Go(func() { w.member.heartbeat(living) })
	for _, run := range w.background {
		background.Go(func() { run(working) })
	}

	started, err := w.servers.start()
	if err == nil {
		w.started.Store(true)
		log.Info("worker started", zap.String("account", w.cfg.Account.Name), zap.Int("slots", w.cfg.Calls.Concurrency))
		select {
		case <-ctx.Done():
		case err = <-w.life.Failure():
		}
		log.Info("draining in-flight calls", zap.Duration("timeout", w.servers.config.Drain))
	}
	failpoint.Hit("stopping")
	w.life.Drain()
	stopWorking()
	ended := w.drain(started)
	stopLiving()
	background.Wait()
	if ended { // otherwise its attempts may still be alive, and must not be judged dead yet
		w.member.leave(ctx)
	}
	log.Info("worker stopped")
	if err == nil {
		select {
		case err = <-w.life.Failure(): // it failed while it drained
		default:
		}
	}
	return err
}

// drain stops the servers and waits for all handlers. It returns whether all have ended.
func (w *Worker) drain(started []laneServer) bool {
	return w.servers.stop(started, w.life, func() {
		for _, lane := range w.lanes {
			lane.turns.running.Wait()
		}
		for _, handlers := range w.handlers {
			handlers.Wait()
		}
	})
}

// Ready returns why the worker takes no requests; nil while it does. It is safe for
// concurrent use.
func (w *Worker) Ready() error {
	switch {
	case w.life.Stopped(context.Background()):
		return errors.New("the worker is stopping")
	case !w.started.Load():
		return errors.New("the worker has not joined the fleet yet")
	}
	if queue := w.servers.paused.Load(); queue != nil {
		return fmt.Errorf("asynq's queue %s is paused", *queue)
	}
	return nil
}

// handled returns the tasks that have a handler.
func (w *Worker) handled() []string {
	var all []string
	for _, turn := range w.lanes[request.Bulk].turns.handled() { // the lanes share them
		all = append(all, turn.String())
	}
	for _, handlers := range w.handlers {
		all = append(all, handlers.Handled()...)
	}
	return all
}

// setRate gives the lanes the account's rate, and warns if not the rate limits them.
func (w *Worker) setRate(perSecond float64) {
	slots := w.cfg.Calls.Concurrency
	for name, lane := range w.lanes {
		limit := lane.call.limit
		limit.setRate(perSecond)
		if limit.saturated(time.Now(), lane.admit.line.flowing.Load()) {
			w.cfg.Telemetry.Limited.Warn("concurrency limits this lane, not the rate; start more workers, or raise KYCLINK_CONCURRENCY",
				zap.String("lane", string(name)), zap.Int("slots", slots), zap.Float64("rate_per_second", perSecond))
		}
	}
}
