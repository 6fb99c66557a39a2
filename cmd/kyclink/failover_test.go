package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/tasks"
)

// crowd is a set of producers that repeat failed calls and remember the acknowledged
// requests.
type crowd struct {
	t      *testing.T
	client *tasks.Client

	mu       sync.Mutex
	accepted map[string]bool
	errors   int
}

func (c *crowd) acknowledge(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.accepted[id] = true
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.accepted)
}

// insist repeats a call until it succeeds.
func (c *crowd) insist(do func(ctx context.Context) error) {
	for c.t.Context().Err() == nil {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		err := do(ctx)
		cancel()
		if err == nil {
			return
		}
		c.mu.Lock()
		c.errors++
		c.mu.Unlock()
		<-time.After(20 * time.Millisecond) // a producer's pause
	}
}

// signups enqueues one request after the other until over is closed.
func (c *crowd) signups(name string, over <-chan struct{}) {
	for n := 1; ; n++ {
		select {
		case <-over:
			return
		case <-time.After(20 * time.Millisecond):
		}
		id := fmt.Sprintf("S-%s-%d", name, n)
		c.insist(func(ctx context.Context) error {
			_, err := c.client.Enqueue(ctx, tasks.Request{ApplicationID: id})
			return err
		})
		c.acknowledge(id)
	}
}

// batch imports n requests and repeats the import after an error. Acknowledged rows stay
// acknowledged.
func (c *crowd) batch(n int) {
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("B-%05d", i+1)
	}
	c.insist(func(ctx context.Context) error {
		return c.client.EnqueueAll(ctx, tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) {
			if r.Err != nil {
				c.t.Errorf("%s: %v", r.Row.Request.ApplicationID, r.Err)
				return
			}
			c.acknowledge(r.Row.Request.ApplicationID)
		})
	})
}

// report is the result of a failover.
type report struct {
	Accepted  int // acknowledged requests
	Missing   int // acknowledged requests that are lost
	Links     int // links that FaceKi created
	Known     int // counted possible duplicates
	Uncounted int // second links that are not counted as possible duplicates
	Refused   int // failed and repeated calls of producers
	Over      int // calls in the fullest window beyond the rate limit
	Down      time.Duration
	Slowest   time.Duration // the slowest call
}

// result waits until all known requests have ended, and compares them with the
// acknowledged requests and with FaceKi's links.
func (c *crowd) result(rdb redis.UniversalClient, sim *simulator.Simulator) report {
	c.t.Helper()
	r := report{Accepted: len(c.accepted), Refused: c.errors}
	known := map[string]tasks.Link{}
	deadline := time.Now().Add(4 * time.Minute)
	for id := range c.accepted {
		for {
			link, err := c.client.Get(c.t.Context(), id)
			if errors.Is(err, tasks.ErrNotFound) {
				r.Missing++
				break
			}
			if err == nil && link.Status == tasks.Created {
				known[id] = link
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("%s has not ended: %v: %+v", id, err, link)
			}
			<-time.After(20 * time.Millisecond) // a poll's pause
		}
	}
	events, err := rdb.XRange(c.t.Context(), "{kyclink:default}:results", "-", "+").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	ends := map[string]int{}
	for _, e := range events {
		ends[fmt.Sprint(e.Values["application_id"])]++
	}
	issued := map[string][]simulator.Link{}
	for after := 0; ; {
		page := sim.Applications(after, 1000)
		for _, a := range page.Applications {
			issued[a.ApplicationID] = a.Links
			r.Links += len(a.Links)
		}
		if after = page.Next; after >= page.Total || len(page.Applications) == 0 {
			break
		}
	}
	for id, link := range known {
		if ends[id] != 1 {
			c.t.Errorf("%s has %d ends", id, ends[id])
		}
		if !strings.Contains(fmt.Sprint(issued[id]), link.URL) {
			c.t.Errorf("%s has a link that FaceKi did not create for it", id)
		}
		r.Known += link.PossibleDuplicates
		r.Uncounted += max(0, len(issued[id])-1-link.PossibleDuplicates)
	}
	return r
}

// failoverRate and failoverBurst are the rate limit during a failover.
const failoverRate, failoverBurst = 300, 20

// fleetOf starts two workers on a Redis.
func fleetOf(t *testing.T, mode, url, faceki string) (workers []*process) {
	t.Helper()
	settings := []string{
		faceki, "KYCLINK_REDIS_MODE=" + mode, "KYCLINK_REDIS_URL=" + url,
		fmt.Sprintf("FACEKI_RATE=%d/s", failoverRate), fmt.Sprintf("FACEKI_BURST=%d", failoverBurst),
		"KYCLINK_LOG_LEVEL=debug", "KYCLINK_LOG_FORMAT=json", // for longestCall
	}
	for range 2 {
		workers = append(workers, start(t, settings, "worker", "--simulate"))
	}
	return workers
}

// longestCall returns how long the slowest call took, by the logs of the workers.
func longestCall(t *testing.T, workers []*process) (longest time.Duration) {
	t.Helper()
	for _, w := range workers {
		for line := range strings.Lines(w.stderr.String()) {
			var attempt struct{ Msg, Took string }
			if json.Unmarshal([]byte(line), &attempt) == nil && strings.HasPrefix(attempt.Msg, "attempt") {
				took, err := time.ParseDuration(attempt.Took)
				fixture.Must(t, err)
				longest = max(longest, took)
			}
		}
	}
	if longest == 0 {
		t.Fatal("the logs of the workers have no calls")
	}
	return longest
}

// failover runs workers and producers while fail replaces the Redis.
func failover(t *testing.T, workers []*process, rdb redis.UniversalClient, sim *simulator.Simulator, n int, fail func(context.Context) error) report {
	t.Helper()
	before := sim.State().Links
	c := &crowd{t: t, client: tasks.NewClient(rdb, tasks.Config{}), accepted: map[string]bool{}}
	over := make(chan struct{})
	var producing sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		producing.Go(func() { c.signups(name, over) })
	}
	producing.Go(func() { c.batch(n) })
	fixture.Eventually(t, "a third is made", func() bool { return sim.State().Links > before+n/3 })

	begun := time.Now()
	failing, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	if err := fail(failing); err != nil {
		t.Fatal(err)
	}
	before = sim.State().Links
	fixture.Eventually(t, "the workers continue", func() bool { return sim.State().Links > before+20 })
	down := time.Since(begun)
	asked := c.size()
	fixture.Eventually(t, "the producers continue", func() bool { return c.size() > asked+10 })
	close(over)
	producing.Wait()
	r := c.result(rdb, sim)
	r.Down = down
	// The simulator records a call before it answers it, but it may be short of processor
	// time. Then calls wait, and are recorded at once later on.
	r.Slowest = longestCall(t, workers)
	for _, window := range []time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second} {
		r.Over = max(r.Over, int(excess(sim.Calls(0, 10_000).Calls, failoverRate, failoverBurst, window)-failoverRate*r.Slowest.Seconds()))
	}
	text, _ := json.Marshal(r)
	t.Logf("%s", text)
	for _, w := range workers {
		select {
		case <-w.over:
			t.Errorf("a worker ended by itself:\n%s", w.stderr.String())
		default:
		}
	}
	if r.Over > failoverBurst {
		t.Errorf("calls beyond the limit, more than one burst: %s", text)
	}
	return r
}
