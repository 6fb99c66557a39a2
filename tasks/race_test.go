package tasks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// interruptedClient returns a client that calls do after its first script, which reads a
// request, and before the next one, which changes it.
func (h *harness) interruptedClient(do func()) *tasks.Client {
	rdb := redis.NewClient(h.Redis.Options())
	h.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(&afterScript{do: do})
	return tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account})
}

type afterScript struct {
	once sync.Once
	do   func()
}

func (h *afterScript) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *afterScript) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && strings.HasPrefix(cmd.Name(), "eval") {
			h.once.Do(h.do)
		}
		return err
	}
}

func (h *afterScript) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestEnqueue_ReadsTheRequestAgainWhenItChanges(t *testing.T) {
	t.Parallel()
	t.Run("the run was retried", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A"})
		h.setState("A", request.Failed)
		_, err := h.interruptedClient(func() { h.setState("A", request.Queued) }).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", Generation: 2})
		if tasks.ReasonOf(err) != "generation_gap" || h.record("A").Generation != 1 {
			t.Errorf("got %v, and the record %+v; want generation_gap and generation 1", err, h.record("A"))
		}
	})
	t.Run("the generation was requested and has ended", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A"})
		h.setState("A", request.Failed)
		link, err := h.interruptedClient(func() {
			h.enqueue(tasks.Request{ApplicationID: "A", Generation: 2})
			h.setState("A", request.Created)
		}).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", Generation: 2})
		if err != nil || link.Status != tasks.Created || link.Generation != 2 {
			t.Errorf("got %+v, %v; want the created second generation", link, err)
		}
		if raw := h.Redis.Get(t.Context(), h.Keys.Old("A", 1)).Val(); len(raw) < 2 || raw[1] != 'F' {
			t.Errorf("the record of the first generation is %.20q, want it failed", raw)
		}
	})
	t.Run("the next generation was requested", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A", ExpiryMinutes: 60})
		h.setState("A", request.Created)
		_, err := h.interruptedClient(func() {
			h.enqueue(tasks.Request{ApplicationID: "A", Generation: 2, ExpiryMinutes: 90})
		}).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", ExpiryMinutes: 60})
		if tasks.ReasonOf(err) != "conflict" {
			t.Errorf("got %v, want a conflict", err)
		}
	})
}

// The not_after of a batch applies to its rows, not to their later generations, and not
// to retries either.
func TestEnqueue_NextGenerationIgnoresTheNotAfterOfItsBatch(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	batch := tasks.Batch{Name: "spring", Options: tasks.Options{NotAfter: time.Now().Add(time.Hour)}}
	h.Must(h.Client.EnqueueAll(t.Context(), batch, rows(1), ignore))
	h.setState("R-1", request.Created)
	h.enqueue(tasks.Request{ApplicationID: "R-1", Generation: 2, Lane: tasks.Bulk})
	if column := h.Redis.GetRange(t.Context(), h.Keys.Record("R-1"), request.HeaderLen-1, request.HeaderLen-1).Val(); column != "n" {
		t.Errorf("the not_after flag of the record is %q, want n", column)
	}
}

// scriptHook is a Redis hook that is called in place of each script, with a function
// that runs it.
type scriptHook func(run func() error) error

func (scriptHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s scriptHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		return s(func() error { return next(ctx, cmd) })
	}
}

func (scriptHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// importThrough imports n rows with a client that has the hook, and returns their results.
func (h *harness) importThrough(s scriptHook, n int) (results []tasks.Result, err error) {
	rdb := redis.NewClient(h.Redis.Options())
	h.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(s)
	err = tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account}).EnqueueAll(h.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		// The batch is open. The rows are not accepted in the same millisecond.
		opened := h.Redis.Time(h.Context()).Val()
		h.Eventually("Redis's clock is later", func() bool { return h.Redis.Time(h.Context()).Val().Sub(opened) >= 2*time.Millisecond })
		rows(oneTo(n)...)(yield)
	}, func(r tasks.Result) { results = append(results, r) })
	return results, err
}

// Later rows may have been accepted, but results without a gap are easier to continue.
func TestEnqueueAll_GivesNoResultsAfterAFailure(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var mu sync.Mutex
	scripts, broken := 0, errors.New("the connection is broken")
	results, err := h.importThrough(func(run func() error) error {
		mu.Lock()
		scripts++
		fails := scripts == 4
		mu.Unlock()
		if fails {
			return broken
		}
		return run()
	}, 1000)
	if !errors.Is(err, broken) || len(results) > 900 || len(results)%100 != 0 {
		t.Errorf("got %d results, %v; want at most 900, of whole chunks, and the error of the connection", len(results), err)
	}
	for i, r := range results {
		if r.Row.Number != i+1 || r.Err != nil {
			t.Fatalf("result %d is of row %d: %v", i+1, r.Row.Number, r.Err)
		}
	}
}

// A script whose reply was lost is run again. The second run finds the rows of the first
// one, which are still rows of this import.
func TestEnqueueAll_ReportsRowsAsFreshWhenAReplyWasLost(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	results, err := h.importThrough(func(run func() error) error {
		_ = run() // its reply is lost
		return run()
	}, 300)
	h.Must(err)
	for _, r := range results {
		if r.Acceptance != tasks.Fresh || r.Err != nil {
			t.Fatalf("row %d is %s, %v; want it %s", r.Row.Number, r.Acceptance, r.Err, tasks.Fresh)
		}
	}
	h.expectCounters(1, "waiting 300")
}
