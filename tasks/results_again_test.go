package tasks_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

// complaints are the errors that a reader reported.
type complaints struct {
	mu   sync.Mutex
	told []string
}

func (c *complaints) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, err.Error())
}

func (c *complaints) of(what string) (told []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.told {
		if strings.Contains(text, what) {
			told = append(told, text)
		}
	}
	return told
}

// What cannot be handled waits longer each time and holds nobody up; what is no
// event is passed over.
func TestResultsThatCannotBeHandledHoldNobodyUp(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: keyspace.Keys{Account: account}.Results(), Values: []string{"no", "event"}}).Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, rdb, account, 20)
	var got seen
	var told complaints
	var failed []time.Time
	var others []int // were handled, each time
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Concurrency: 1, OnError: told.add})
	reading(t, func(ctx context.Context) error {
		return r.Run(ctx, func(_ context.Context, e tasks.Event) error {
			if e.Data.ApplicationID == "A-1" {
				if failed = append(failed, time.Now()); len(failed) < 3 {
					others = append(others, got.count())
					return errors.New("an invented failure")
				}
			}
			got.add(e)
			return nil
		})
	})
	fixture.Eventually(t, "all are handled and acknowledged", func() bool { return got.count() == 20 && pending(t, rdb, account, "crm") == 0 })
	if !slices.Equal(others, []int{0, 19}) {
		t.Errorf("others that were handled when one failed: %v", others)
	}
	if first, second := failed[1].Sub(failed[0]), failed[2].Sub(failed[1]); first < time.Second || second < 2*time.Second {
		t.Errorf("it came again after %v and %v", first, second)
	}
	again := told.of("retrying in")
	if len(again) != 2 || !strings.Contains(again[0], "retrying in 1s: an invented failure") || !strings.Contains(again[1], "retrying in 2s: ") {
		t.Errorf("it is told: %q", again)
	}
	if len(told.of("skipped entry")) != 1 {
		t.Errorf("of what is no event it is told: %q", told.told)
	}
}

// A consumer that is started again has what it had, but for what is not kept any more.
func TestResultsThatAreNotKeptAnyMoreArePassedOver(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	key := keyspace.Keys{Account: account}.Results()
	publish(t, rdb, account, 600)
	if err := rdb.XGroupCreate(t.Context(), key, "crm", "0").Err(); err != nil {
		t.Fatal(err)
	}
	read, err := rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "crm", Consumer: "one", Streams: []string{key, ">"}, Count: 550}).Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.XDel(t.Context(), key, read[0].Messages[3].ID).Err(); err != nil {
		t.Fatal(err)
	}
	var got seen
	var told complaints
	// Who is silent for a nanosecond is not dead.
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", ClaimAfter: 1, OnError: told.add})
	if err := r.Drain(t.Context(), 1000, func(_ context.Context, events []tasks.Event) error {
		got.add(events...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got.count() != 599 || pending(t, rdb, account, "crm") != 0 || len(told.told) > 0 {
		t.Errorf("%d were handled, %d are pending; it is told: %q", got.count(), pending(t, rdb, account, "crm"), told.told)
	}
}

// If Redis lost the group, the reader starts over or continues where it was, and an
// event in hand is not handled twice at a time.
func TestResults_StartOverWhenTheGroupIsLost(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"0", "$"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			rdb, account := fixture.Redis().Client(t), redistest.Account()
			key := keyspace.Keys{Account: account}.Results()
			publish(t, rdb, account, 10)
			if err := rdb.XGroupCreate(t.Context(), key, "crm", "0").Err(); err != nil {
				t.Fatal(err)
			}
			finish := make(chan struct{})
			var begun seen
			r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", From: from, Concurrency: 30, ClaimAfter: time.Second})
			reading(t, func(ctx context.Context) error {
				return r.Run(ctx, func(ctx context.Context, e tasks.Event) error {
					begun.add(e)
					select {
					case <-finish:
					case <-ctx.Done():
					}
					return ctx.Err()
				})
			})
			fixture.Eventually(t, "it has ten in hand", func() bool { return begun.count() == 10 })
			if _, err := rdb.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.XGroupDestroy(t.Context(), key, "crm")
				for i := range 12 { // of which ten are once more what it has
					pipe.XAdd(t.Context(), published(account, i+1))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			fixture.Eventually(t, "the others are begun", func() bool { return begun.count() == 12 })
			close(finish)
			fixture.Eventually(t, "all are acknowledged", func() bool { return pending(t, rdb, account, "crm") == 0 })
			for i := range 12 {
				want := 2
				if i >= 10 {
					want = 1
				}
				if n := begun.times(eventID(i + 1)); n != want {
					t.Errorf("event %d was handed out %d times, want %d", i+1, n, want)
				}
			}
		})
	}
}

// A handler has ten seconds to end, and none is left behind.
func TestResultsWaitForTheirHandlers(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 1)
	begun, over := make(chan struct{}), false
	var lasted time.Duration
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one"})
	if err := r.Run(ctx, func(ctx context.Context, _ tasks.Event) error {
		close(begun)
		since := time.Now()
		<-ctx.Done()
		lasted = time.Since(since)
		<-time.After(100 * time.Millisecond) // it tidies up
		over = true
		return ctx.Err()
	}); err != nil {
		t.Error(err)
	}
	if !over || lasted < 10*time.Second-10*time.Millisecond {
		t.Errorf("over: %t, after %v", over, lasted)
	}
	if n := pending(t, rdb, account, "crm"); n != 1 {
		t.Errorf("%d are pending", n)
	}
}
