package tasks_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// newLimitedHarness returns a harness whose client has a limit of each lane's backlog.
func newLimitedHarness(t testing.TB, limit int) *harness {
	h := newHarness(t)
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: limit})
	return h
}

// fill accepts bulk requests regardless of the limit.
func (h *harness) fill(prefix string, n int) {
	h.Helper()
	reqs := make([]tasks.Request, n)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprint(prefix, i)
	}
	unlimited := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	h.Must(unlimited.EnqueueAll(h.Context(), tasks.Batch{Name: prefix}, tasks.Rows(reqs), func(r tasks.Result) { h.Must(r.Err) }))
}

// backlog returns the number of records of a lane that are waiting or queued.
func (h *harness) backlog(lane request.Lane) (n int) {
	h.Helper()
	keys, err := h.Redis.Keys(context.Background(), h.Keys.Tag()+"/*").Result()
	h.Must(err)
	for _, key := range keys {
		if r := h.record(key[len(h.Keys.Tag())+1:]); r.Lane == lane && (r.State == request.Waiting || r.State == request.Queued) {
			n++
		}
	}
	return n
}

func TestEnqueue_RefusesNewRequestsWhenTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	const text = "the backlog of the interactive lane is full (KYCLINK_MAX_BACKLOG is 2)"
	h := newLimitedHarness(t, 2)
	h.fill("bulk-", 5) // does not count for the interactive lane
	h.enqueue(tasks.Request{ApplicationID: "A-1", Metadata: []byte(`{"a":1}`)})
	h.enqueue(tasks.Request{ApplicationID: "A-2"})
	h.expectRefusal(tasks.Request{ApplicationID: "A-3"}, "backlog_full", text)
	h.expectRefusal(tasks.Request{ApplicationID: "bulk-0"}, "backlog_full", text) // it would be promoted to the full lane
	h.setState("bulk-2", request.Queued)
	h.expectRefusal(tasks.Request{ApplicationID: "bulk-2"}, "backlog_full", text)
	h.expectRefusal(tasks.Request{ApplicationID: "A-4", Lane: tasks.Bulk}, "backlog_full", "the backlog of the bulk lane is full (KYCLINK_MAX_BACKLOG is 2)")
	if r := h.record("bulk-0"); r.Lane != request.Bulk || r.State != request.Waiting {
		t.Errorf("the row that was not promoted became %+v", r)
	}
	if _, err := h.Client.Get(t.Context(), "A-3"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("get the refused request: got %v, want ErrNotFound", err)
	}

	// Repeats need no room, and other reasons for a refusal take precedence.
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.enqueue(tasks.Request{ApplicationID: "bulk-1", Lane: tasks.Bulk})
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Metadata: []byte(`{"a":2}`)}, "conflict", "metadata")
	h.expectRefusal(tasks.Request{ApplicationID: "A-9", Generation: 3}, "generation_gap", "unknown")

	h.setState("bulk-3", request.Created) // needs no room, also together with a request that does
	answers, err := h.Client.EnqueueEach(t.Context(), []tasks.Request{{ApplicationID: "A-5"}, {ApplicationID: "bulk-3"}})
	h.Must(err)
	if tasks.ReasonOf(answers[0].Err) != "backlog_full" || answers[1].Err != nil || answers[1].Link.Status != tasks.Created {
		t.Errorf("a new request and one with a link: got %+v, want backlog_full and the link", answers)
	}

	// A request that leaves the lane makes room for one.
	h.setState("A-1", request.Created)
	h.Must(h.Redis.ZRem(t.Context(), h.Keys.Queued(request.Interactive), "A-1").Err())
	h.enqueue(tasks.Request{ApplicationID: "bulk-0"})
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 2}, "backlog_full", text)
	if r := h.record("A-1"); r.Generation != 1 || r.State != request.Created {
		t.Errorf("the request whose next generation was refused became %+v", r)
	}
}

// Some producers enqueue one request at a time, others many at once.
func TestEnqueueEach_KeepsTheBacklogLimitAmongConcurrentProducers(t *testing.T) {
	t.Parallel()
	const limit, producers, each = 50, 8, 60
	h := newLimitedHarness(t, limit)
	var accepted, refused atomic.Int64
	var group errgroup.Group
	for p := range producers {
		group.Go(func() error {
			reqs := make([]tasks.Request, each)
			for i := range reqs {
				reqs[i] = tasks.Request{ApplicationID: fmt.Sprintf("P-%d-%d", p, i)}
			}
			if p%2 == 0 {
				return countAnswers(h, reqs, &accepted, &refused)
			}
			for i := range reqs {
				if err := countAnswers(h, reqs[i:i+1], &accepted, &refused); err != nil {
					return err
				}
			}
			return nil
		})
	}
	h.Must(group.Wait())
	if n := h.backlog(request.Interactive); n != limit || accepted.Load() != limit || refused.Load() != producers*each-limit {
		t.Errorf("%d requests are in the backlog, %d were accepted and %d refused; the limit is %d", n, accepted.Load(), refused.Load(), limit)
	}
	if n, err := h.Redis.ZCard(t.Context(), h.Keys.Queued(request.Interactive)).Result(); err != nil || n != limit {
		t.Errorf("%d requests are queued, %v; want %d", n, err, limit)
	}
}

// countAnswers enqueues requests and counts which were accepted and which were refused.
func countAnswers(h *harness, reqs []tasks.Request, accepted, refused *atomic.Int64) error {
	answers, err := h.Client.EnqueueEach(h.Context(), reqs)
	for _, a := range answers {
		switch {
		case a.Err == nil && a.Link.Status == tasks.Queued:
			accepted.Add(1)
		case tasks.ReasonOf(a.Err) == "backlog_full":
			refused.Add(1)
		default:
			return fmt.Errorf("unexpected answer %+v", a)
		}
	}
	return err
}

// The list of rows is complete although the import had to wait within a chunk.
func TestEnqueueAll_WaitsWhileTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	const limit, rows = 30, 450
	h := newHarness(t)
	var full atomic.Int64
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: limit, OnFull: func(e *tasks.BacklogError) {
		full.Add(1)
		if e.Lane != tasks.Bulk || e.Limit != limit {
			t.Errorf("OnFull got %+v, want the bulk lane and limit %d", e, limit)
		}
	}})
	reqs := make([]tasks.Request, 0, rows)
	for i := range rows - 1 {
		reqs = append(reqs, tasks.Request{ApplicationID: fmt.Sprintf("R-%d", i)})
	}
	reqs = slices.Insert(reqs, 77, tasks.Request{ApplicationID: "R-70"}) // repeats a row of its chunk
	var cancelling sync.WaitGroup
	stop := make(chan struct{})
	cancelling.Go(func() { h.cancelWaitingUntil(stop, limit) })

	var acceptances []tasks.Acceptance
	last := 0
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) {
		h.Must(r.Err)
		acceptances = append(acceptances, r.Acceptance)
		if r.Row.Number != last+1 {
			t.Errorf("the result of row %d follows that of row %d", r.Row.Number, last)
		}
		last = r.Row.Number
	}))
	close(stop)
	cancelling.Wait()
	for i, got := range acceptances {
		if want := map[bool]tasks.Acceptance{true: tasks.Repeated, false: tasks.Fresh}[i == 77]; got != want {
			t.Errorf("row %d is %s, want %s", i+1, got, want)
		}
	}
	if len(acceptances) != rows || full.Load() == 0 {
		t.Errorf("%d rows were accepted, and OnFull was called %d times; want %d rows and at least one call", len(acceptances), full.Load(), rows)
	}
	order, err := h.Redis.HGetAll(t.Context(), h.Keys.Order(1)).Result()
	h.Must(err)
	listed := 0
	for _, chunk := range order {
		listed += len(slices.DeleteFunc([]byte(chunk), func(c byte) bool { return c != '\n' })) - 1
	}
	if listed != rows {
		t.Errorf("the batch lists %d rows, want %d", listed, rows)
	}
}

// cancelWaitingUntil cancels waiting requests, some at a time, until stop is closed. It
// checks that the backlog never exceeds the limit.
func (h *harness) cancelWaitingUntil(stop <-chan struct{}, limit int) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		waiting, err := h.Redis.HGet(context.Background(), h.Keys.State(), "waiting").Int()
		if err != nil && !errors.Is(err, redis.Nil) || waiting > limit {
			h.Errorf("the counter has %d waiting requests, %v; the limit is %d", waiting, err, limit)
		}
		if n := h.backlog(request.Bulk); n > limit {
			h.Errorf("%d records are waiting; the limit is %d", n, limit)
		}
		h.cancelWaiting(20)
	}
}

// cancelWaiting cancels up to this many waiting requests, and subtracts them from the account's counter.
func (h *harness) cancelWaiting(most int) {
	keys, err := h.Redis.Keys(context.Background(), h.Keys.Tag()+"/*").Result()
	h.Must(err)
	for _, key := range keys {
		id := key[len(h.Keys.Tag())+1:]
		if most == 0 || h.record(id).State != request.Waiting {
			continue
		}
		most--
		h.setState(id, request.Cancelled)
		h.Must(h.Redis.HIncrBy(context.Background(), h.Keys.State(), "waiting", -1).Err())
	}
}

func TestEnqueueAll_EndsWithItsContextWhileTheBacklogIsFull(t *testing.T) {
	t.Parallel()
	h := newLimitedHarness(t, 3)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stopped by the test")
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 3, OnFull: func(*tasks.BacklogError) { cancel(stop) }})
	reqs := make([]tasks.Request, 10)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprint("R-", i)
	}
	err := h.Client.EnqueueAll(ctx, tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) { t.Errorf("got result %+v, want none", r) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if n := h.backlog(request.Bulk); n != 3 {
		t.Errorf("%d requests are waiting, want 3", n)
	}
	if order, err := h.Redis.HGet(t.Context(), h.Keys.Order(1), "0").Result(); err != nil || order != "0\n1 R-0\n2 R-1\n3 R-2\n" {
		t.Errorf("the first chunk is %q, %v", order, err)
	}
}
