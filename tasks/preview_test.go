package tasks_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestPreview_ReturnsWhatEnqueueWouldReturnWithoutChanges(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.importRows("spring", rows(1))
	h.enqueue(tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 60})
	h.setState("A-1", request.Created)
	h.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 2})
	h.enqueue(tasks.Request{ApplicationID: "A-2"})
	h.setState("A-2", request.Failed)
	past := time.Now().Add(-time.Hour)
	for i, c := range []struct {
		req         tasks.Request
		status      tasks.Status
		generation  int
		reason, err string
	}{
		{tasks.Request{ApplicationID: "R-1"}, tasks.Waiting, 1, "", ""},
		{tasks.Request{ApplicationID: "R-1", Lane: tasks.Interactive}, tasks.Waiting, 1, "", ""}, // promotes nothing
		{tasks.Request{ApplicationID: "A-1"}, tasks.Queued, 2, "", ""},
		{tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 60}, tasks.Created, 1, "", ""},
		{tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 61}, tasks.Created, 1, "conflict", "A-1 was requested before with different values of expiry_minutes; omit these keys, or use another application ID"},
		{tasks.Request{ApplicationID: "A-2", Generation: 2}, tasks.Failed, 1, "generation_gap", "generation 2 of A-2 has not been requested since generation 1 ended: request it again"},
		{tasks.Request{ApplicationID: "A-9"}, "", 0, "", tasks.ErrNotFound.Error()},
		{tasks.Request{ApplicationID: "A-9", NotAfter: past}, "", 0, "invalid", "not_after: is in the past"},
		{tasks.Request{ApplicationID: "A-9", Generation: 2}, "", 0, "generation_gap", "A-9 is unknown: its first generation is 1, not 2"},
		{tasks.Request{}, "", 0, "invalid", "application_id: is required"},
	} {
		answers, err := h.Client.Preview(t.Context(), []tasks.Request{{ApplicationID: "A-9"}, c.req})
		h.Must(err)
		got := answers[1]
		text := ""
		if got.Err != nil {
			text = got.Err.Error()
		}
		if got.Link.Status != c.status || got.Link.Generation != c.generation || tasks.ReasonOf(got.Err) != c.reason || text != c.err {
			t.Errorf("case %d, %+v: got %+v", i, c.req, got)
		}
	}
	h.expectCounters(1, "waiting 1")
	// A record that cannot be read is an error, not an unknown request.
	h.Must(h.Redis.LPush(t.Context(), h.Keys.Record("A-8"), "x").Err())
	if got, err := h.Client.Preview(t.Context(), []tasks.Request{{ApplicationID: "A-9"}, {ApplicationID: "A-8"}}); err == nil {
		t.Errorf("a record that cannot be read: got %+v, want an error", got)
	}
	if got, err := h.Client.Preview(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("no requests: got %+v, %v; want neither answers nor an error", got, err)
	}
}

func TestGet_ReturnsRequestsOfOtherClients(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if _, err := h.Client.Get(t.Context(), "A-1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("get an unknown id: got %v, want ErrNotFound", err)
	}
	h.importRows("spring", rows(1))
	other := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	if link, err := other.Get(t.Context(), "R-1"); err != nil || link.Batch != "spring" || link.Lane != tasks.Bulk {
		t.Errorf("got %+v, %v; want lane bulk and batch spring", link, err)
	}
}

func TestWait_ReturnsWhenTheRequestEndsOrIsHeld(t *testing.T) {
	t.Parallel()
	for _, state := range []request.State{request.Created, request.Failed, request.Cancelled, request.Held} {
		t.Run(string(state), func(t *testing.T) {
			h := newHarness(t)
			h.enqueue(tasks.Request{ApplicationID: "A-1"})
			h.enqueue(tasks.Request{ApplicationID: "A-2"})
			got := make(chan tasks.Link)
			go func() {
				link, err := h.Client.Wait(t.Context(), "A-1")
				if err != nil {
					t.Error(err)
				}
				got <- link
			}()
			h.setState("A-2", state) // an event of another request
			h.setState("A-1", state)
			if link := <-got; string(link.Status) != string(state) {
				t.Errorf("got %+v, want %s", link, state)
			}
			if link, err := h.Client.Wait(t.Context(), "A-1"); err != nil || string(link.Status) != string(state) {
				t.Errorf("wait again: got %+v, %v; want %s at once", link, err, state)
			}
		})
	}
}

func TestWait_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if _, err := h.Client.Wait(t.Context(), "A-1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("wait for an unknown id: got %v, want ErrNotFound", err)
	}
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		link, err := h.Client.Wait(ctx, "A-1")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || link.Status != "" && link.Status != tasks.Queued {
			t.Fatalf("wait with a timeout: got %+v, %v; want context.DeadlineExceeded", link, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Client.Wait(ctx, "A-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with a cancelled context: got %v, want context.Canceled", err)
	}
}
