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

// reportedErrors are the errors that a reader reported.
type reportedErrors struct {
	mu    sync.Mutex
	texts []string
}

func (c *reportedErrors) add(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.texts = append(c.texts, err.Error())
}

// containing returns the errors that contain a text.
func (c *reportedErrors) containing(part string) (found []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, text := range c.texts {
		if strings.Contains(text, part) {
			found = append(found, text)
		}
	}
	return found
}

// An event whose handler fails is retried after a growing delay while others are handled,
// and an entry that is not an event is skipped.
func TestResults_RetryAFailedEventWithoutDelayingOthers(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	if err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: keyspace.Keys{Account: account}.Results(), Values: []string{"no", "event"}}).Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, rdb, account, 20)
	var got handled
	var reported reportedErrors
	var failed []time.Time
	var others []int // number of handled events at each failure
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Concurrency: 1, OnError: reported.add})
	runReader(t, func(ctx context.Context) error {
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
		t.Errorf("events that were handled before each failure: got %v, want [0 19]", others)
	}
	if first, second := failed[1].Sub(failed[0]), failed[2].Sub(failed[1]); first < time.Second || second < 2*time.Second {
		t.Errorf("the event was retried after %v and %v, want at least 1s and 2s", first, second)
	}
	retries := reported.containing("retrying in")
	if len(retries) != 2 || !strings.Contains(retries[0], "retrying in 1s: an invented failure") || !strings.Contains(retries[1], "retrying in 2s: ") {
		t.Errorf("got reported retries %q", retries)
	}
	if len(reported.containing("skipped entry")) != 1 {
		t.Errorf("got reported errors %q, want one skipped entry", reported.texts)
	}
}

// A restarted consumer handles the events that it had read before, except deleted ones.
func TestResults_SkipPendingEventsThatWereDeleted(t *testing.T) {
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
	var got handled
	var reported reportedErrors
	// The consumer does not take itself for dead, although it was silent for longer than ClaimAfter.
	r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", ClaimAfter: 1, OnError: reported.add})
	if err := r.Drain(t.Context(), 1000, func(_ context.Context, events []tasks.Event) error {
		got.add(events...)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got.count() != 599 || pending(t, rdb, account, "crm") != 0 || len(reported.texts) > 0 {
		t.Errorf("%d events were handled, %d are pending, and the reported errors are %q; want 599 and none", got.count(), pending(t, rdb, account, "crm"), reported.texts)
	}
}

// If Redis lost the group, the reader creates it again, and does not begin an event that
// it is still handling.
func TestResults_CreateALostGroupAgain(t *testing.T) {
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
			var begun handled
			r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one", From: from, Concurrency: 30, ClaimAfter: time.Second})
			runReader(t, func(ctx context.Context) error {
				return r.Run(ctx, func(ctx context.Context, e tasks.Event) error {
					begun.add(e)
					select {
					case <-finish:
					case <-ctx.Done():
					}
					return ctx.Err()
				})
			})
			fixture.Eventually(t, "ten events are being handled", func() bool { return begun.count() == 10 })
			if _, err := rdb.TxPipelined(t.Context(), func(pipe redis.Pipeliner) error {
				pipe.XGroupDestroy(t.Context(), key, "crm")
				for i := range 12 { // ten of these are being handled
					pipe.XAdd(t.Context(), eventEntry(account, i+1))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			fixture.Eventually(t, "the two new events are being handled", func() bool { return begun.count() == 12 })
			close(finish)
			fixture.Eventually(t, "all events are acknowledged", func() bool { return pending(t, rdb, account, "crm") == 0 })
			for i := range 12 {
				want := 2
				if i >= 10 {
					want = 1
				}
				if n := begun.times(eventID(i + 1)); n != want {
					t.Errorf("event %d was handled %d times, want %d", i+1, n, want)
				}
			}
		})
	}
}

func TestResults_GiveHandlersTenSecondsToEnd(t *testing.T) {
	t.Parallel()
	rdb, account := fixture.Redis().Client(t), redistest.Account()
	publish(t, rdb, account, 1)
	begun, returned := make(chan struct{}), false
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
		<-time.After(100 * time.Millisecond) // the handler returns only some time after its context ends
		returned = true
		return ctx.Err()
	}); err != nil {
		t.Error(err)
	}
	if !returned || lasted < 10*time.Second-10*time.Millisecond {
		t.Errorf("the handler had returned: %t, its context ended after %v; want true and 10s", returned, lasted)
	}
	if n := pending(t, rdb, account, "crm"); n != 1 {
		t.Errorf("%d events are pending, want 1", n)
	}
}

// A missing permission ends the reading, also if only acknowledgements are refused.
func TestResults_EndWithoutPermission(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	admin := srv.Client(t)
	for _, lacks := range []string{"xgroup", "xreadgroup", "xack"} {
		t.Run(lacks, func(t *testing.T) {
			t.Parallel()
			account := redistest.Account()
			publish(t, admin, account, 3)
			fixture.Must(t, admin.Do(t.Context(), "ACL", "SETUSER", account, "on", ">pw", "~*", "+@all", "-"+lacks).Err())
			rdb := redis.NewClient(&redis.Options{Addr: srv.Addr, Username: account, Password: "pw", ContextTimeoutEnabled: true})
			t.Cleanup(func() { _ = rdb.Close() })
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", Consumer: "one"})
			err := r.Drain(ctx, 10, func(context.Context, []tasks.Event) error { return nil })
			if ctx.Err() != nil || !redis.IsPermissionError(err) || !strings.Contains(err.Error(), "group crm") {
				t.Errorf("got error %v, want the refusal", err)
			}
		})
	}
}
