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

// overtaken is a client in the midst of whose accepting something happens: after
// it saw what is known of a request, and before it acts on that.
func (h *harness) overtaken(do func()) *tasks.Client {
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

// What another changes between the look and the step is looked at again.
func TestAcceptLooksAgain(t *testing.T) {
	t.Run("the run goes on", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A"})
		h.become("A", request.Failed)
		_, err := h.overtaken(func() { h.become("A", request.Queued) }).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", Generation: 2})
		if tasks.ReasonOf(err) != "generation_gap" || h.record("A").Generation != 1 {
			t.Errorf("got %v; A is %+v", err, h.record("A"))
		}
	})
	t.Run("the generation has come and ended", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A"})
		h.become("A", request.Failed)
		link, err := h.overtaken(func() {
			h.enqueue(tasks.Request{ApplicationID: "A", Generation: 2})
			h.become("A", request.Created)
		}).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", Generation: 2})
		if err != nil || link.Status != tasks.Created || link.Generation != 2 {
			t.Errorf("got %+v, %v", link, err)
		}
		if raw := h.Redis.Get(t.Context(), h.Keys.Old("A", 1)).Val(); len(raw) < 2 || raw[1] != 'F' {
			t.Errorf("the first generation is %.20q", raw)
		}
	})
	t.Run("what it is compared with is another", func(t *testing.T) {
		h := newHarness(t)
		h.enqueue(tasks.Request{ApplicationID: "A", ExpiryMinutes: 60})
		h.become("A", request.Created)
		_, err := h.overtaken(func() {
			h.enqueue(tasks.Request{ApplicationID: "A", Generation: 2, ExpiryMinutes: 90})
		}).Enqueue(t.Context(), tasks.Request{ApplicationID: "A", ExpiryMinutes: 60})
		if tasks.ReasonOf(err) != "conflict" {
			t.Errorf("got %v", err)
		}
	})
}

// A new generation is not held to the not_after of its batch, as a retry is not.
func TestTheNextGenerationHasNoNotAfterOfItsBatch(t *testing.T) {
	h := newHarness(t)
	batch := tasks.Batch{Name: "spring", Options: tasks.Options{NotAfter: time.Now().Add(time.Hour)}}
	h.Must(h.Client.EnqueueAll(t.Context(), batch, rows(1), ignore))
	h.become("R-1", request.Created)
	h.enqueue(tasks.Request{ApplicationID: "R-1", Generation: 2, Lane: tasks.Bulk})
	if held := h.Redis.GetRange(t.Context(), h.Keys.Record("R-1"), request.HeaderLen-1, request.HeaderLen-1).Val(); held != "n" {
		t.Errorf("the column of its not_after is %q", held)
	}
}

// script is a connection on which scripts run as the function says.
type script func(run func() error) error

func (script) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s script) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		return s(func() error { return next(ctx, cmd) })
	}
}

func (script) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// importOver imports rows over a connection, and returns the result of each.
func (h *harness) importOver(s script, n int) (told []tasks.Result, err error) {
	rdb := redis.NewClient(h.Redis.Options())
	h.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(s)
	begun := h.Redis.Time(h.Context()).Val()
	err = tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account}).EnqueueAll(h.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		for h.Redis.Time(h.Context()).Val().Sub(begun) < 5*time.Millisecond { // the batch was made before
		}
		rows(upTo(n)...)(yield)
	}, func(r tasks.Result) { told = append(told, r) })
	return told, err
}

// After rows that failed no results are given, even if some later rows were accepted:
// the results have no gaps.
func TestEnqueueAll_GivesNoResultsAfterAFailure(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	scripts, broken := 0, errors.New("the connection is broken")
	told, err := h.importOver(func(run func() error) error {
		mu.Lock()
		scripts++
		fails := scripts == 4
		mu.Unlock()
		if fails {
			return broken
		}
		return run()
	}, 1000)
	if !errors.Is(err, broken) || len(told) > 900 || len(told)%100 != 0 {
		t.Errorf("results of %d rows, %v", len(told), err)
	}
	for i, r := range told {
		if r.Row.Number != i+1 || r.Err != nil {
			t.Fatalf("told %d. of row %d: %v", i+1, r.Row.Number, r.Err)
		}
	}
}

// Where the reply to a script is lost, and it is run again, its rows are this
// import's all the same.
func TestALostReplyMakesNoRowAnOlderOne(t *testing.T) {
	h := newHarness(t)
	told, err := h.importOver(func(run func() error) error {
		_ = run() // whose reply is lost
		return run()
	}, 300)
	h.Must(err)
	for _, r := range told {
		if r.Acceptance != tasks.Fresh || r.Err != nil {
			t.Fatalf("row %d is %s, %v", r.Row.Number, r.Acceptance, r.Err)
		}
	}
	h.expectCounters(1, "waiting 300")
}
