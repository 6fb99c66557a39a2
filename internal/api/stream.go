package api

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
)

const (
	streamBlock = time.Second // a stop is noticed after that at the latest
	streamPage  = 1000
	streamPause = 250 * time.Millisecond // after a failure
)

// stream reads the results stream once for all who wait in this process. It
// only wakes them: what happened is in the ledger.
type stream struct {
	rdb redis.UniversalClient
	key string
	log *zap.Logger

	mu      sync.Mutex
	waiting map[string]map[*waiter]bool // by application id
}

// waiter is one who waits.
type waiter struct {
	stream *stream
	id     string
	woken  chan struct{}
}

func newStream(rdb redis.UniversalClient, key string, log *zap.Logger) *stream {
	return &stream{rdb: rdb, key: key, log: log, waiting: map[string]map[*waiter]bool{}}
}

// wait registers somebody who is woken by every event of an application id that
// is published from now on, and may be woken without one. Whoever looks at the
// ledger after this misses nothing. It ends with [waiter.done].
func (s *stream) wait(applicationID string) *waiter {
	w := &waiter{s, applicationID, make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[applicationID] == nil {
		s.waiting[applicationID] = map[*waiter]bool{}
	}
	s.waiting[applicationID][w] = true
	return w
}

// done ends the wait; of nobody, it does nothing.
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

// wake does not block, and twice is as good as once.
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

// run reads until ctx ends. After a failure it begins at the end of the stream,
// and everybody looks for themselves.
func (s *stream) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.follow(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("the results stream cannot be read; who waits for a link gets it later", zap.Error(err))
			select {
			case <-ctx.Done():
			case <-time.After(streamPause):
			}
		}
	}
}

func (s *stream) follow(ctx context.Context) error {
	last, err := s.end(ctx)
	if err != nil {
		return err
	}
	s.wakeAll()
	for {
		streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{Streams: []string{s.key, last}, Count: streamPage, Block: streamBlock}).Result()
		if err != nil && !errors.Is(err, redis.Nil) { // which says that nothing came
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

// end is the id of the last entry.
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
