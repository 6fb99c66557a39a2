package asynqx

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	// maxWait is how long a server waits for a task in Redis before it looks for one, and how
	// much longer it takes to stop. A task that Redis gives to a process whose host has just
	// died is lost until recovery finds it, so that it is short.
	maxWait = 250 * time.Millisecond
	// poll is how often a server looks for a task while Redis does not let it wait.
	poll = 50 * time.Millisecond
	// afterWait is asynq's pause after a wait in which no task came.
	afterWait = time.Millisecond
)

// fetcher is the client that an asynq server uses for Redis. By itself, asynq looks for a
// task at intervals: long ones delay tasks, short ones cost processor time. A fetcher lets
// the query wait in Redis until there is a task.
//
// It moves the oldest pending task to the list "woken", for which Redis waits and wakes only
// the process that has waited longest, and runs asynq's own query with that list in place
// of "pending". Both commands are sent together, so that a process that dies does not leave
// a task between the lists. One that stays there nevertheless, because Redis or the
// connection died between the commands, is taken by the next query of any process. A query
// that has waited in vain, or could not wait, looks for a pending task as asynq does.
type fetcher struct {
	redis.UniversalClient
	blocking redis.UniversalClient
	queue    string
	wait     time.Duration
	stopping atomic.Bool
}

func newFetcher(rdb, blocking redis.UniversalClient, queue string) *fetcher {
	wait := maxWait
	if timeout := readTimeout(blocking); timeout > 0 {
		wait = min(wait, timeout/2)
	}
	return &fetcher{UniversalClient: rdb, blocking: blocking, queue: queue, wait: wait}
}

// readTimeout returns how long a client waits for an answer; 0: for ever, or not known.
func readTimeout(rdb redis.UniversalClient) time.Duration {
	switch rdb := rdb.(type) {
	case *redis.Client:
		return rdb.Options().ReadTimeout
	case *redis.ClusterClient:
		return rdb.Options().ReadTimeout
	}
	return 0
}

// EvalSha runs a script. If it is asynq's query for a task, it waits for one.
func (f *fetcher) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	if len(keys) != 4 || keys[0] != key(f.queue, "pending") {
		return f.UniversalClient.EvalSha(ctx, sha, keys, args...)
	}
	if f.stopping.Load() {
		return noTask(ctx)
	}
	task := f.awaitTask(ctx, sha, keys, args)
	switch {
	case task == nil:
		return f.UniversalClient.EvalSha(ctx, sha, keys, args...)
	case f.stopping.Load() && f.putBack(ctx, task):
		return noTask(ctx)
	}
	return task
}

// noTask is the result of a query when the queue is empty.
func noTask(ctx context.Context) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.Nil)
	return cmd
}

// awaitTask waits for a task, and takes it. It returns nil if it has none.
func (f *fetcher) awaitTask(ctx context.Context, sha string, keys []string, args []any) *redis.Cmd {
	pending, woken := keys[0], key(f.queue, "woken")
	var task *redis.Cmd
	moved := redis.NewStringCmd(ctx, "blmove", pending, woken, "right", "left", strconv.FormatFloat(f.wait.Seconds(), 'f', 3, 64))
	_, _ = f.blocking.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		_ = pipe.Process(ctx, moved)
		task = pipe.EvalSha(ctx, sha, append([]string{woken}, keys[1:]...), args...)
		return nil
	})
	if task.Err() == nil {
		return task
	}
	if errors.Is(moved.Err(), redis.Nil) { // none came
		return nil
	}
	// Either a task was moved but not taken, or nobody knows: there is no connection, or the
	// user may not wait.
	back := f.LMove(ctx, woken, pending, "left", "right").Err()
	switch {
	case moved.Err() != nil:
		pause(ctx, poll)
	case back == nil && errors.Is(task.Err(), redis.Nil): // the queue is paused
		pause(ctx, maxWait)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// putBack returns a task that came while the server stops to the queue, where Redis gives
// it to the next process.
func (f *fetcher) putBack(ctx context.Context, task *redis.Cmd) bool {
	raw, err := task.Text()
	if err != nil {
		return false
	}
	ok, err := Queue{rdb: f.UniversalClient, name: f.queue}.Requeue(ctx, Message{Raw: raw}.id())
	return ok && err == nil
}

// Server is an asynq server of one queue, whose handlers return nil or [*Later].
type Server struct {
	*asynq.Server

	fetcher *fetcher
}

// Shutdown takes no more tasks, and waits for the handlers as long as the server's Drain.
func (s *Server) Shutdown() {
	s.fetcher.stopping.Store(true)
	s.Server.Shutdown()
}
