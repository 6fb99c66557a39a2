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

	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/lifecycle"
)

// Worker is one process of the fleet.
type Worker struct {
	cfg     Config
	rdb     redis.UniversalClient
	life    *lifecycle.Lifecycle // ends with Run; that of a session may end sooner
	member  *member
	open    func() *session
	upkeep  func(ctx context.Context) // runs while the worker rests
	session atomic.Pointer[session]   // the present one; nil while the worker rests
	started atomic.Bool
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
	defer w.life.Drain()
	if !w.member.joined.Load() {
		if err := w.Join(ctx); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	defer context.AfterFunc(ctx, w.life.Drain)()
	compareClocks(ctx, w.rdb, w.cfg.Account.Name, time.Now, log)
	failpoint.Hit("joined")
	living, stopLiving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLiving()
	var heartbeats sync.WaitGroup
	heartbeats.Go(func() { w.member.heartbeat(living) })
	ended, err := w.work(ctx)
	stopLiving()
	heartbeats.Wait()
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

// work takes requests, and rests while there are none, until ctx is done or the worker fails.
// ended reports whether all handlers have ended.
func (w *Worker) work(ctx context.Context) (ended bool, err error) {
	for {
		if err := w.rest(ctx); err != nil || ctx.Err() != nil && w.cfg.Rest != nil {
			return true, err
		}
		s := w.session.Load()
		if s == nil {
			s = w.open()
			w.session.Store(s)
		}
		ended, err := w.takeRequests(ctx, s)
		if err != nil || ctx.Err() != nil {
			return ended, err
		}
		if !ended {
			return false, errors.New("handlers did not end in time when the account had no work")
		}
		w.session.Store(nil)
	}
}

// Ready returns why the worker takes no requests; nil while it does, or rests. It is safe for
// concurrent use.
func (w *Worker) Ready() error {
	switch {
	case w.life.Stopped(context.Background()):
		return errors.New("the worker is stopping")
	case !w.started.Load():
		return errors.New("the worker has not joined the fleet yet")
	}
	if s := w.session.Load(); s != nil {
		if queue := s.servers.paused.Load(); queue != nil {
			return fmt.Errorf("asynq's queue %s is paused", *queue)
		}
	}
	return nil
}

// handled returns the tasks that have a handler.
func (w *Worker) handled() []string {
	if s := w.session.Load(); s != nil {
		return s.handled()
	}
	return nil
}
