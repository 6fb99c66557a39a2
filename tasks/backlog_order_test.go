package tasks_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/kyclink/kyclink/tasks"
)

// accepted returns the number of records, and the highest row number among them.
func (h *harness) accepted() (n, last int) {
	h.Helper()
	keys, err := h.Redis.Keys(context.Background(), h.Keys.Tag()+"/*").Result()
	h.Must(err)
	for _, key := range keys {
		n, last = n+1, max(last, h.record(key[len(h.Keys.Tag())+1:]).Content.Row)
	}
	return n, last
}

// While the backlog is full, the accepted rows are always the first rows of the file.
func TestEnqueueAll_AcceptsRowsInOrderAsRoomIsMade(t *testing.T) {
	t.Parallel()
	const most, rows = 100, 800
	h := newHarness(t)
	var mu sync.Mutex
	full := 0
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: most, OnFull: func(*tasks.BacklogError) {
		mu.Lock()
		defer mu.Unlock()
		if full++; full > 20 {
			h.cancelWaiting(rows)
			return
		}
		if n, last := h.accepted(); n != last {
			t.Errorf("%d rows are accepted, and row %d is among them", n, last)
		}
		h.cancelWaiting(37)
	}})
	reqs := make([]tasks.Request, rows)
	for i := range reqs {
		reqs[i].ApplicationID = fmt.Sprint("R-", i)
	}
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) { h.Must(r.Err) }))
	if n, _ := h.accepted(); n != rows || full == 0 {
		t.Errorf("%d rows were accepted after %d waits, want %d rows and at least one wait", n, full, rows)
	}
}

func TestEnqueueAll_RefusesOnlyTheRowOfAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(h *harness, key string){
		"newer":   func(h *harness, key string) { h.Must(h.Redis.SetRange(t.Context(), key, 0, "9").Err()) },
		"header":  func(h *harness, key string) { h.Must(h.Redis.SetRange(t.Context(), key, 4, "xyz").Err()) },
		"content": func(h *harness, key string) { h.Must(h.Redis.Append(t.Context(), key, "xyz").Err()) },
		"short":   func(h *harness, key string) { h.Must(h.Redis.Set(t.Context(), key, "1w", 0).Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.enqueue(tasks.Request{ApplicationID: "R-150", Lane: tasks.Bulk})
			damage(h, h.Keys.Record("R-150"))
			reqs := make([]tasks.Request, 900)
			for i := range reqs {
				reqs[i].ApplicationID = fmt.Sprint("R-", i+1)
			}
			reqs[150].ApplicationID = "R-150" // twice
			refused := 0
			h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(reqs), func(r tasks.Result) {
				if r.Err == nil {
					return
				}
				if refused++; r.Row.Request.ApplicationID != "R-150" || tasks.ReasonOf(r.Err) != "conflict" {
					t.Errorf("row %d: got %v, want only R-150 refused", r.Row.Number, r.Err)
				}
			}))
			if h.expectCounters(1, "waiting 898"); refused != 2 {
				t.Errorf("%d rows were refused, want 2", refused)
			}
			h.expectRefusal(tasks.Request{ApplicationID: "R-150"}, "conflict", "cannot decode the stored request")
			answers, err := h.Client.Preview(t.Context(), []tasks.Request{{ApplicationID: "R-150"}, {ApplicationID: "R-1"}})
			h.Must(err)
			if tasks.ReasonOf(answers[0].Err) != "conflict" || answers[1].Link.Status != tasks.Waiting {
				t.Errorf("preview: got %+v, want a conflict and a waiting link", answers)
			}
		})
	}
}
