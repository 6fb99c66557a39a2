package worker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	drainMargin      = 5 * time.Second // to record an answer after the longest call
	pausedQueuePause = 5 * time.Second // between two checks for paused queues
)

// servers are the asynq servers that hand tasks to the lanes. Each lane has its own, so
// that bulk requests never take a slot of the interactive lane.
type servers struct {
	rdb     redis.UniversalClient
	account string
	config  asynqx.ServerConfig // of each, without its queue and concurrency
	all     []laneServer
	queues  []string
	paused  atomic.Pointer[string] // one of them that is paused in asynq; nil: none
	log     logs
}

// logs are the loggers of a component. limited receives messages that may repeat.
type logs struct{ log, limited *zap.Logger }

// laneServer is an asynq server and the lane that it hands tasks to.
type laneServer struct {
	*asynqx.Server
	handler asynq.Handler
}

// add adds a server of a lane's queue.
func (s *servers) add(lane request.Lane, handler asynq.Handler, handlers int) {
	cfg := s.config
	cfg.Queue, cfg.Concurrency = keyspace.Keys{Account: s.account}.Queue(lane), handlers
	s.queues = append(s.queues, cfg.Queue)
	s.all = append(s.all, laneServer{asynqx.NewServer(s.rdb, cfg), handler})
}

// start starts the servers, and returns those that have started.
func (s *servers) start() (started []laneServer, err error) {
	for _, server := range s.all {
		if err := server.Start(server.handler); err != nil {
			return started, fmt.Errorf("start a lane: %w", err)
		}
		started = append(started, server)
	}
	return started, nil
}

// stop waits until all handlers have ended, and returns whether they have. asynq's own
// shutdown returns after its timeout although a handler may still run, so stop also waits
// for the handlers: first as long as a call and its recording may take; then, when
// unrecorded answers are given up, as long as one attempt to record them may take.
func (s *servers) stop(started []laneServer, life *lifecycle.Lifecycle, handlers func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var stopping sync.WaitGroup
		for _, server := range started {
			stopping.Go(server.Shutdown)
		}
		stopping.Wait()
		handlers()
	}()
	select {
	case <-ended:
		return true
	case <-time.After(s.config.Drain):
	}
	life.End()
	select {
	case <-ended:
		return true
	case <-time.After(lifecycle.PersistTimeout + leaveTimeout):
		s.log.log.Error("drain timed out; some handlers still run")
		return false
	}
}

// watch warns about queues that were paused with asynq's own tools: asynq takes nothing from
// them, and does not report it.
func (s *servers) watch(ctx context.Context) {
	for {
		once, cancel := context.WithTimeout(ctx, heartbeatTimeout)
		paused, err := asynqx.PausedQueue(once, s.rdb, s.queues)
		cancel()
		before := s.paused.Load()
		switch {
		case err != nil: // the heartbeat reports it
		case paused != "":
			s.paused.Store(&paused)
			s.log.limited.Warn("queue is paused in asynq, not by kyclink: no task is taken from it; delete the key to resume",
				zap.String("queue", paused), zap.String("key", asynqx.PauseKey(paused)))
		case before != nil:
			s.paused.Store(nil)
			s.log.log.Info("queue is no longer paused in asynq", zap.String("queue", *before))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pausedQueuePause):
		}
	}
}
