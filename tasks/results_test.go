package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

func eventID(i int) string { return fmt.Sprintf("00000000-0000-5000-8000-%012d", i) }

// eventEntry returns event i as the ledger's scripts write it.
func eventEntry(account string, i int) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: keyspace.Keys{Account: account}.Results(), Values: []string{
		"id", eventID(i), "type", tasks.EventCreated,
		"timestamp", "2026-11-23T10:00:00.000Z", "application_id", fmt.Sprintf("A-%d", i),
		"data", fmt.Sprintf(`{"application_id":"A-%d","generation":1,"run":1,"attempts":1,"possible_duplicates":0}`, i),
	}}
}

// publish writes events 1 to n into an account's stream.
func publish(t testing.TB, rdb redis.UniversalClient, account string, n int) {
	t.Helper()
	pipe := rdb.Pipeline()
	for i := range n {
		pipe.XAdd(t.Context(), eventEntry(account, i+1))
		if i%1000 == 999 || i == n-1 {
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// handled counts how often each event was handled.
type handled struct {
	mu  sync.Mutex
	ids map[string]int
}

func (s *handled) add(events ...tasks.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[string]int{}
	}
	for _, e := range events {
		s.ids[e.ID]++
	}
}

func (s *handled) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

func (s *handled) times(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// runReader runs a reader until the end of the test, or until stop is called. Stop
// waits for it.
func runReader(t testing.TB, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// pending returns the number of events that a group has read and not acknowledged.
func pending(t testing.TB, rdb redis.UniversalClient, account, group string) int64 {
	t.Helper()
	p, err := rdb.XPending(t.Context(), keyspace.Keys{Account: account}.Results(), group).Result()
	if err != nil {
		t.Fatal(err)
	}
	return p.Count
}

func TestResults_HandOutEachEventToOneConsumer(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 3000)
	var got handled
	for _, consumer := range []string{"one", "two"} {
		r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: consumer, OnError: func(err error) { t.Error(err) }})
		runReader(t, func(ctx context.Context) error {
			return r.RunBatches(ctx, 50, func(_ context.Context, events []tasks.Event) error {
				got.add(events...)
				return nil
			})
		})
	}
	fixture.Eventually(t, "all are handled and acknowledged", func() bool { return got.count() == 3000 && pending(t, rdb, account, "crm") == 0 })
	for i := range 3000 {
		if n := got.times(eventID(i + 1)); n != 1 {
			t.Errorf("event %d was handled %d times, want once", i+1, n)
		}
	}
	publish(t, rdb, account, 3001)
	fixture.Eventually(t, "the next is handled", func() bool { return got.count() == 3001 })
}

func TestResults_RetryABatchWhoseHandlerFails(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 100)
	var got, tried handled
	var errs atomic.Int64
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Concurrency: 2, OnError: func(error) { errs.Add(1) }})
	runReader(t, func(ctx context.Context) error {
		return r.RunBatches(ctx, 10, func(_ context.Context, events []tasks.Event) error {
			for _, e := range events {
				if tried.add(e); e.Data.ApplicationID == "A-7" && tried.times(e.ID) < 3 {
					return errors.New("an invented failure")
				}
			}
			got.add(events...)
			return nil
		})
	})
	fixture.Eventually(t, "all are handled", func() bool { return got.count() == 100 && pending(t, rdb, account, "crm") == 0 })
	if errs.Load() == 0 {
		t.Error("OnError was not called for the failures")
	}
}

func TestResults_ReleaseUnhandledEventsWhenTheyEnd(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 20)
	begun, finish := make(chan struct{}, 20), make(chan struct{})
	var got handled
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", Concurrency: 2})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- r.Run(ctx, func(ctx context.Context, e tasks.Event) error {
			begun <- struct{}{}
			<-finish
			got.add(e)
			return ctx.Err()
		})
	}()
	<-begun
	<-begun
	cancel()
	close(finish)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got.count() != 2 || pending(t, rdb, account, "crm") != 18 {
		t.Errorf("%d events were handled, and %d are pending; want 2 and 18", got.count(), pending(t, rdb, account, "crm"))
	}
	// Another consumer gets the released events at once, although it claims those of dead consumers after a minute.
	other := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "two", ClaimAfter: time.Minute})
	err := other.Drain(t.Context(), 5, func(_ context.Context, events []tasks.Event) error {
		got.add(events...)
		return nil
	})
	if err != nil || got.count() != 20 || pending(t, rdb, account, "crm") != 0 {
		t.Errorf("%d events were handled, and %d are pending, %v; want 20 and none", got.count(), pending(t, rdb, account, "crm"), err)
	}
}

// The idle time of its consumers shows whether a group is alive. Before Redis 7.2, a
// read without a result does not reset it.
func TestResults_ResetTheirIdleTimeWithoutEvents(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", ClaimAfter: time.Second})
	runReader(t, func(ctx context.Context) error {
		return r.Run(ctx, func(context.Context, tasks.Event) error { return nil })
	})
	last, resets := time.Duration(0), 0
	fixture.Eventually(t, "the idle time was reset three times", func() bool {
		consumers := rdb.XInfoConsumers(t.Context(), keyspace.Keys{Account: account}.Results(), "crm").Val()
		if len(consumers) > 0 {
			if consumers[0].Idle < last {
				resets++
			}
			last = consumers[0].Idle
		}
		return resets >= 3
	})
}
