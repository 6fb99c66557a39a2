package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

func eventID(i int) string { return fmt.Sprintf("00000000-0000-5000-8000-%012d", i) }

// published is event i, as ledger scripts write it.
func published(account string, i int) *redis.XAddArgs {
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
		pipe.XAdd(t.Context(), published(account, i+1))
		if i%1000 == 999 || i == n-1 {
			if _, err := pipe.Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// seen counts how often each event was handled.
type seen struct {
	mu  sync.Mutex
	ids map[string]int
}

func (s *seen) add(events ...tasks.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ids == nil {
		s.ids = map[string]int{}
	}
	for _, e := range events {
		s.ids[e.ID]++
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ids)
}

func (s *seen) times(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ids[id]
}

// reading runs a reader until the test's end, or until stop is called, which
// returns when it has ended.
func reading(t testing.TB, run func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-over
	}
	t.Cleanup(stop)
	return stop
}

// pending is how many events a group was given and has not acknowledged.
func pending(t testing.TB, rdb redis.UniversalClient, account, group string) int64 {
	t.Helper()
	p, err := rdb.XPending(t.Context(), keyspace.Keys{Account: account}.Results(), group).Result()
	if err != nil {
		t.Fatal(err)
	}
	return p.Count
}

func TestResultsHandsOutEachEventOnce(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 3000)
	var got seen
	for _, consumer := range []string{"one", "two"} {
		r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: consumer, OnError: func(err error) { t.Error(err) }})
		reading(t, func(ctx context.Context) error {
			return r.RunBatches(ctx, 50, func(_ context.Context, events []tasks.Event) error {
				got.add(events...)
				return nil
			})
		})
	}
	fixture.Eventually(t, "all are handled and acknowledged", func() bool { return got.count() == 3000 && pending(t, rdb, account, "crm") == 0 })
	publish(t, rdb, account, 3001)
	fixture.Eventually(t, "the next is handled", func() bool { return got.count() == 3001 })
}

func TestResultsComeAgainWhereTheHandlerFails(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 100)
	var got, failed, told seen
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Concurrency: 2, OnError: func(error) { told.add(tasks.Event{}) }})
	reading(t, func(ctx context.Context) error {
		return r.RunBatches(ctx, 10, func(_ context.Context, events []tasks.Event) error {
			for _, e := range events {
				if failed.add(e); e.Data.ApplicationID == "A-7" && failed.times(e.ID) < 3 {
					return errors.New("an invented failure")
				}
			}
			got.add(events...)
			return nil
		})
	})
	fixture.Eventually(t, "all are handled", func() bool { return got.count() == 100 && pending(t, rdb, account, "crm") == 0 })
	if told.count() == 0 {
		t.Error("the failures were not reported")
	}
}

func TestResultsStopsSoftly(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 20)
	begun, finish := make(chan struct{}, 20), make(chan struct{})
	var got seen
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", Concurrency: 2})
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan error)
	go func() {
		over <- r.Run(ctx, func(ctx context.Context, e tasks.Event) error {
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
	if err := <-over; err != nil {
		t.Error(err)
	}
	if got.count() != 2 || pending(t, rdb, account, "crm") != 18 {
		t.Errorf("%d were handled, %d are pending", got.count(), pending(t, rdb, account, "crm"))
	}
	// What it had is another's at once, although that one waits a minute for the dead.
	other := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "two", ClaimAfter: time.Minute})
	err := other.Drain(t.Context(), 5, func(_ context.Context, events []tasks.Event) error {
		got.add(events...)
		return nil
	})
	if err != nil || got.count() != 20 || pending(t, rdb, account, "crm") != 0 {
		t.Errorf("%d were handled, %d are pending, %v", got.count(), pending(t, rdb, account, "crm"), err)
	}
}

// A consumer is heard of also where nothing comes: whether its group lives is told by
// that, and with a Redis before 7.2 a read that waits in vain does not count.
func TestResultsAreHeardOfWhereNothingComes(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", ClaimAfter: time.Second})
	reading(t, func(ctx context.Context) error {
		return r.Run(ctx, func(context.Context, tasks.Event) error { return nil })
	})
	last, heard := time.Duration(0), 0
	fixture.Eventually(t, "it is heard of again and again", func() bool {
		consumers := rdb.XInfoConsumers(t.Context(), keyspace.Keys{Account: account}.Results(), "crm").Val()
		if len(consumers) > 0 {
			if consumers[0].Idle < last {
				heard++
			}
			last = consumers[0].Idle
		}
		return heard >= 3
	})
}
