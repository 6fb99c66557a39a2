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

// limited is a bench whose client refuses what is new beyond a backlog.
func limited(t testing.TB, most int) *harness {
	h := newHarness(t)
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: most})
	return h
}

// fill accepts bulk requests without a limit.
func (h *harness) fill(prefix string, n int) {
	h.Helper()
	reqs := make([]tasks.Request, n)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprint(prefix, i)
	}
	free := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	h.Must(free.EnqueueAll(h.Context(), tasks.Batch{Name: prefix}, tasks.Rows(reqs), func(r tasks.Result) { h.Must(r.Err) }))
}

// backlog counts the records of a lane that wait or are queued.
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

func TestWhatIsNewBeyondTheBacklogIsRefused(t *testing.T) {
	const text = "the backlog of the interactive lane is full (KYCLINK_MAX_BACKLOG is 2)"
	h := limited(t, 2)
	h.fill("bulk-", 5) // says nothing of the other lane
	h.enqueue(tasks.Request{ApplicationID: "A-1", Metadata: []byte(`{"a":1}`)})
	h.enqueue(tasks.Request{ApplicationID: "A-2"})
	h.refuse(tasks.Request{ApplicationID: "A-3"}, "backlog_full", text)
	h.refuse(tasks.Request{ApplicationID: "bulk-0"}, "backlog_full", text) // it would come to the full lane
	h.become("bulk-2", request.Queued)
	h.refuse(tasks.Request{ApplicationID: "bulk-2"}, "backlog_full", text)
	h.refuse(tasks.Request{ApplicationID: "A-4", Lane: tasks.Bulk}, "backlog_full", "the backlog of the bulk lane is full (KYCLINK_MAX_BACKLOG is 2)")
	if r := h.record("bulk-0"); r.Lane != request.Bulk || r.State != request.Waiting {
		t.Errorf("what was not brought forward is %+v", r)
	}
	if _, err := h.Client.Get(t.Context(), "A-3"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("what was refused: %v", err)
	}

	// What exists is answered, and other reasons come first.
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.enqueue(tasks.Request{ApplicationID: "bulk-1", Lane: tasks.Bulk})
	h.refuse(tasks.Request{ApplicationID: "A-1", Metadata: []byte(`{"a":2}`)}, "conflict", "metadata")
	h.refuse(tasks.Request{ApplicationID: "A-9", Generation: 3}, "generation_gap", "unknown")

	h.become("bulk-3", request.Created) // needs no room, whatever it is asked for with
	answers, err := h.Client.EnqueueEach(t.Context(), []tasks.Request{{ApplicationID: "A-5"}, {ApplicationID: "bulk-3"}})
	h.Must(err)
	if tasks.ReasonOf(answers[0].Err) != "backlog_full" || answers[1].Err != nil || answers[1].Link.Status != tasks.Created {
		t.Errorf("one that is new and one that was made: %+v", answers)
	}

	// What leaves the lane makes room for one.
	h.become("A-1", request.Created)
	h.Must(h.Redis.ZRem(t.Context(), h.Keys.Queued(request.Interactive), "A-1").Err())
	h.enqueue(tasks.Request{ApplicationID: "bulk-0"})
	h.refuse(tasks.Request{ApplicationID: "A-1", Generation: 2}, "backlog_full", text)
	if r := h.record("A-1"); r.Generation != 1 || r.State != request.Created {
		t.Errorf("whose next generation was refused is %+v", r)
	}
}

// Producers of one request at a time and of many, all at once: as many are accepted
// as may wait, and not one more.
func TestTheBacklogIsExact(t *testing.T) {
	const most, producers, each = 50, 8, 60
	h := limited(t, most)
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
	if n := h.backlog(request.Interactive); n != most || accepted.Load() != most || refused.Load() != producers*each-most {
		t.Errorf("%d wait, %d were accepted and %d refused; at most %d may wait", n, accepted.Load(), refused.Load(), most)
	}
	if n, err := h.Redis.ZCard(t.Context(), h.Keys.Queued(request.Interactive)).Result(); err != nil || n != most {
		t.Errorf("%d are queued, %v", n, err)
	}
}

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

// An import of more rows than may wait takes what there is room for, waits, and
// goes on as the lane is drained; its chunks are whole in the end.
func TestAnImportWaitsForRoom(t *testing.T) {
	const most, rows = 30, 450
	h := newHarness(t)
	var told atomic.Int64
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: most, OnFull: func(e *tasks.BacklogError) {
		told.Add(1)
		if e.Lane != tasks.Bulk || e.Limit != most {
			t.Errorf("reported %+v", e)
		}
	}})
	reqs := make([]tasks.Request, 0, rows)
	for i := range rows - 1 {
		reqs = append(reqs, tasks.Request{ApplicationID: fmt.Sprintf("R-%d", i)})
	}
	reqs = slices.Insert(reqs, 77, tasks.Request{ApplicationID: "R-70"}) // repeats a row of its chunk
	var draining sync.WaitGroup
	over := make(chan struct{})
	draining.Go(func() { h.drain(over, most) })

	var hows []tasks.Acceptance
	last := 0
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) {
		h.Must(r.Err)
		hows = append(hows, r.Acceptance)
		if r.Row.Number != last+1 {
			t.Errorf("row %d comes after row %d", r.Row.Number, last)
		}
		last = r.Row.Number
	}))
	close(over)
	draining.Wait()
	for i, how := range hows {
		if want := map[bool]tasks.Acceptance{true: tasks.Repeated, false: tasks.Fresh}[i == 77]; how != want {
			t.Errorf("row %d is %s, want %s", i+1, how, want)
		}
	}
	if len(hows) != rows || told.Load() == 0 {
		t.Errorf("%d rows were accepted; it was told %d times that it waits", len(hows), told.Load())
	}
	order, err := h.Redis.HGetAll(t.Context(), h.Keys.Order(1)).Result()
	h.Must(err)
	listed := 0
	for _, chunk := range order {
		listed += len(slices.DeleteFunc([]byte(chunk), func(c byte) bool { return c != '\n' })) - 1
	}
	if listed != rows {
		t.Errorf("the order has %d rows, want %d", listed, rows)
	}
}

// drain ends what waits, some at a time, and checks that no more does than may.
func (h *harness) drain(over <-chan struct{}, most int) {
	for {
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
		}
		waiting, err := h.Redis.HGet(context.Background(), h.Keys.State(), "waiting").Int()
		if err != nil && !errors.Is(err, redis.Nil) || waiting > most {
			h.Errorf("%d wait, and %d may (%v)", waiting, most, err)
		}
		if n := h.backlog(request.Bulk); n > most {
			h.Errorf("%d wait by their records, and %d may", n, most)
		}
		h.endSome(20)
	}
}

// endSome ends waiting bulk requests, and takes them out of the account's counter.
func (h *harness) endSome(most int) {
	keys, err := h.Redis.Keys(context.Background(), h.Keys.Tag()+"/*").Result()
	h.Must(err)
	for _, key := range keys {
		id := key[len(h.Keys.Tag())+1:]
		if most == 0 || h.record(id).State != request.Waiting {
			continue
		}
		most--
		h.become(id, request.Cancelled)
		h.Must(h.Redis.HIncrBy(context.Background(), h.Keys.State(), "waiting", -1).Err())
	}
}

func TestAnImportThatWaitsCanBeStopped(t *testing.T) {
	h := limited(t, 3)
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("that is enough")
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 3, OnFull: func(*tasks.BacklogError) { cancel(stop) }})
	reqs := make([]tasks.Request, 10)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprint("R-", i)
	}
	err := h.Client.EnqueueAll(ctx, tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) { t.Errorf("reported %+v", r) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	if n := h.backlog(request.Bulk); n != 3 {
		t.Errorf("%d wait", n)
	}
	if order, err := h.Redis.HGet(t.Context(), h.Keys.Order(1), "0").Result(); err != nil || order != "0\n1 R-0\n2 R-1\n3 R-2\n" {
		t.Errorf("the order is %q, %v", order, err)
	}
}
