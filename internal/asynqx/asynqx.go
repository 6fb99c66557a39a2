// Package asynqx contains everything that depends on how asynq v0.26 stores its tasks in
// Redis, and the adapters between asynq and the worker: its client, servers, log and
// retries. Contract tests run asynq itself and fail if another version differs.
package asynqx

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

// delayedPoll is how often a server looks for delayed tasks that are due.
const delayedPoll = time.Second

// Later is the error that a handler returns when its task must run again. It is not a
// failure: asynq's own retry counter and archive are not used.
type Later struct{ Delay time.Duration }

func (*Later) Error() string { return "run the task again later" }

// wholeSeconds returns the delay for asynq, which truncates the time at which a task is
// due to a second: the task must not run before its time.
func (l *Later) wholeSeconds() time.Duration {
	if l.Delay <= 0 {
		return 0
	}
	return l.Delay + time.Second - 1
}

// NewClient returns a client that sends the commands of several goroutines together, as
// otherwise each of the hundreds of tasks that the feeder enqueues would cost a round trip.
// It uses rdb, and need not be closed.
func NewClient(rdb redis.UniversalClient) *asynq.Client {
	if auto, ok := rdb.(interface {
		AutoPipeline() (*redis.AutoPipeliner, error)
	}); ok {
		if pipeline, err := auto.AutoPipeline(); err == nil {
			return asynq.NewClientFromRedisClient(pipeline)
		}
	}
	return asynq.NewClientFromRedisClient(rdb)
}

// ServerConfig configures a [NewServer].
type ServerConfig struct {
	Queue       string
	Concurrency int
	// Blocking is the client that waits for tasks. A server occupies one of its connections.
	Blocking redis.UniversalClient
	// Drain is how long a stopping server waits for its handlers.
	Drain time.Duration
	// Pause returns the delay before a task runs again whose handler returned an error
	// other than [*Later].
	Pause func() time.Duration
	Log   *zap.Logger
}

// NewServer returns a server. It uses, and does not close, rdb.
func NewServer(rdb redis.UniversalClient, cfg ServerConfig) *Server {
	fetcher := newFetcher(rdb, cfg.Blocking, cfg.Queue)
	return &Server{fetcher: fetcher, Server: asynq.NewServerFromRedisClient(fetcher, asynq.Config{
		Concurrency:              cfg.Concurrency,
		Queues:                   map[string]int{cfg.Queue: 1},
		TaskCheckInterval:        afterWait,
		DelayedTaskCheckInterval: delayedPoll,
		ShutdownTimeout:          cfg.Drain,
		IsFailure:                func(error) bool { return false },
		RetryDelayFunc: func(_ int, err error, _ *asynq.Task) time.Duration {
			if l, ok := errors.AsType[*Later](err); ok {
				return l.wholeSeconds()
			}
			return cfg.Pause()
		},
		Logger:   logger{cfg.Log},
		LogLevel: asynq.WarnLevel,
	})}
}

// key returns the name of an asynq key of a queue.
func key(queue, what string) string { return "asynq:{" + queue + "}:" + what }

// PauseKey returns the key that exists while a queue is paused with asynq's own tools.
func PauseKey(queue string) string { return key(queue, "paused") }

// PausedQueue returns the first of the queues that is paused; "" if none is.
func PausedQueue(ctx context.Context, rdb redis.UniversalClient, queues []string) (string, error) {
	commands := make([]*redis.IntCmd, len(queues))
	_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, queue := range queues {
			commands[i] = pipe.Exists(ctx, PauseKey(queue))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read which asynq queues are paused: %w", err)
	}
	for i, command := range commands {
		if command.Val() > 0 {
			return queues[i], nil
		}
	}
	return "", nil
}
