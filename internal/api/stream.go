package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

const (
	streamBlock = time.Second // a stop may take as long
	streamPage  = 1000
	streamPause = 250 * time.Millisecond // after a failure
	// streamWarning is the shortest time between two warnings of failures.
	streamWarning = 10 * time.Second
)

// stream reads the results stream once for all waiting requests of this process. It only
// wakes them; they read the result from the ledger.
type stream struct {
	rdb redis.UniversalClient
	key string
	log *zap.Logger

	mu      sync.Mutex
	waiting map[string]map[*waiter]bool // by application ID
}

// waiter is a request that waits for events of an application ID.
type waiter struct {
	stream *stream
	id     string
	woken  chan struct{}
}

func newStream(rdb redis.UniversalClient, key string, log *zap.Logger) *stream {
	return &stream{rdb: rdb, key: key, log: log, waiting: map[string]map[*waiter]bool{}}
}

// subscribe returns a waiter that every later event of an application ID wakes. It may
// also wake without an event. Read the ledger after subscribing to miss nothing. Call
// [waiter.done] at the end.
func (s *stream) subscribe(applicationID string) *waiter {
	w := &waiter{s, applicationID, make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[applicationID] == nil {
		s.waiting[applicationID] = map[*waiter]bool{}
	}
	s.waiting[applicationID][w] = true
	return w
}

// done ends the subscription. w may be nil.
func (w *waiter) done() {
	if w == nil {
		return
	}
	w.stream.mu.Lock()
	defer w.stream.mu.Unlock()
	delete(w.stream.waiting[w.id], w)
	if len(w.stream.waiting[w.id]) == 0 {
		delete(w.stream.waiting, w.id)
	}
}

// wake does not block. Several calls may wake the waiter only once.
func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (s *stream) wake(applicationID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waiting[applicationID] {
		w.wake()
	}
}

func (s *stream) wakeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ws := range s.waiting {
		for w := range ws {
			w.wake()
		}
	}
}

// run reads the stream until ctx ends. After a failure, it continues at the end of the
// stream and wakes all waiters.
func (s *stream) run(ctx context.Context) {
	warnings := rate.Sometimes{Interval: streamWarning}
	for ctx.Err() == nil {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			warnings.Do(func() { s.log.Warn(streamFailed(err), zap.Error(err)) })
			select {
			case <-ctx.Done():
			case <-time.After(streamPause):
			}
		}
	}
}

// streamFailed says what a failure means, and what to do.
func streamFailed(err error) string {
	const failed = "read of the results stream failed; waiting requests are delayed"
	if redis.HasErrorPrefix(err, "NOPERM") {
		return failed + "; check KYCLINK_ACCOUNT, and give Redis' user all rules of serve in docs/operations.md (Redis permissions)"
	}
	return failed + "; check Redis, and the network to it"
}

func (s *stream) follow(ctx context.Context) error {
	last, err := s.end(ctx)
	if err != nil {
		return err
	}
	s.wakeAll()
	for {
		streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key, last}, Count: streamPage, Block: streamBlock}).Result()
		if err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: no entry arrived
			return fmt.Errorf("read the results stream: %w", err)
		}
		for _, stream := range streams {
			for _, entry := range stream.Messages {
				last = entry.ID
				if id, ok := entry.Values["application_id"].(string); ok {
					s.wake(id)
				}
			}
		}
	}
}

// end returns the ID of the last entry.
func (s *stream) end(ctx context.Context) (string, error) {
	entries, err := s.rdb.XRevRangeN(ctx, s.key, "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the results stream: %w", err)
	}
	if len(entries) == 0 {
		return "0", nil
	}
	return entries[0].ID, nil
}
