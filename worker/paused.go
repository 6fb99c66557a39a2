package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// pausedPause is between two looks at whether somebody paused a queue.
const pausedPause = 5 * time.Second

// watchQueues notices a queue that somebody paused with asynq's own tools: asynq
// takes nothing from it, and says nothing.
func (w *Worker) watchQueues(ctx context.Context) {
	for {
		once, cancel := context.WithTimeout(ctx, beatTimeout)
		paused, err := w.pausedQueue(once)
		cancel()
		before := w.paused.Load()
		switch {
		case err != nil: // the heartbeats report it
		case paused != nil:
			w.paused.Store(paused)
			w.cfg.Telemetry.Limited.Warn("a queue is paused in asynq, not by kyclink: nothing is taken from it; delete the key to go on",
				zap.String("queue", *paused), zap.String("key", pausedKey(*paused)))
		case before != nil:
			w.paused.Store(nil)
			w.log.Info("the queue is not paused any more", zap.String("queue", *before))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pausedPause):
		}
	}
}

// pausedKey is asynq's, of v0.26.
func pausedKey(queue string) string { return "asynq:{" + queue + "}:paused" }

// pausedQueue names a queue of this worker's that is paused; nil where none is.
func (w *Worker) pausedQueue(ctx context.Context) (*string, error) {
	looks := make([]*redis.IntCmd, len(w.queues))
	_, err := w.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, queue := range w.queues {
			looks[i] = pipe.Exists(ctx, pausedKey(queue))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look whether a queue is paused: %w", err)
	}
	for i, look := range looks {
		if look.Val() > 0 {
			return &w.queues[i], nil
		}
	}
	return nil, nil //nolint:nilnil // none is
}
