package tasks_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestLook(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1))
	b.enqueue(tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 60})
	b.become("A-1", request.Created)
	b.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 2})
	b.enqueue(tasks.Request{ApplicationID: "A-2"})
	b.become("A-2", request.Failed)
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
		{tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 61}, tasks.Created, 1, "conflict", "A-1 was asked for before with another expiry_minutes; leave these out, or use another application id"},
		{tasks.Request{ApplicationID: "A-2", Generation: 2}, tasks.Failed, 1, "generation_gap", "generation 2 of A-2 was not asked for before generation 1 had ended: ask again"},
		{tasks.Request{ApplicationID: "A-9"}, "", 0, "", tasks.ErrNotFound.Error()},
		{tasks.Request{ApplicationID: "A-9", NotAfter: past}, "", 0, "invalid", "not_after: has passed already"},
		{tasks.Request{ApplicationID: "A-9", Generation: 2}, "", 0, "generation_gap", "A-9 is unknown: its first generation is 1, not 2"},
		{tasks.Request{}, "", 0, "invalid", "application_id: is required"},
	} {
		answers, err := b.client.Look(t.Context(), []tasks.Request{{ApplicationID: "A-9"}, c.req})
		b.must(err)
		got := answers[1]
		text := ""
		if got.Err != nil {
			text = got.Err.Error()
		}
		if got.Link.Status != c.status || got.Link.Generation != c.generation || tasks.ReasonOf(got.Err) != c.reason || text != c.err {
			t.Errorf("%d: %+v", i, got)
		}
	}
	b.expectCounters(1, "waiting 1")
	// One that cannot be read is not one that is unknown.
	b.must(b.rdb.LPush(t.Context(), b.keys.Record("A-8"), "x").Err())
	if got, err := b.client.Look(t.Context(), []tasks.Request{{ApplicationID: "A-9"}, {ApplicationID: "A-8"}}); err == nil {
		t.Errorf("what cannot be read gave %+v", got)
	}
	if got, err := b.client.Look(t.Context(), nil); err != nil || len(got) != 0 {
		t.Errorf("nothing gave %+v, %v", got, err)
	}
}

func TestGet(t *testing.T) {
	b := newBench(t)
	if _, err := b.client.Get(t.Context(), "A-1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("an unknown id: %v", err)
	}
	b.enqueueAll("spring", rows(1))
	other := tasks.NewClient(b.rdb, tasks.Config{Account: b.account})
	if link, err := other.Get(t.Context(), "R-1"); err != nil || link.Batch != "spring" || link.Lane != tasks.Bulk {
		t.Errorf("%+v, %v", link, err)
	}
}

func TestWait(t *testing.T) {
	for _, state := range []request.State{request.Created, request.Failed, request.Cancelled, request.Held} {
		t.Run(string(state), func(t *testing.T) {
			b := newBench(t)
			b.enqueue(tasks.Request{ApplicationID: "A-1"})
			b.enqueue(tasks.Request{ApplicationID: "A-2"})
			got := make(chan tasks.Link)
			go func() {
				link, err := b.client.Wait(t.Context(), "A-1")
				if err != nil {
					t.Error(err)
				}
				got <- link
			}()
			b.become("A-2", state) // somebody else's event
			b.become("A-1", state)
			if link := <-got; string(link.Status) != string(state) {
				t.Errorf("waited for %+v", link)
			}
			if link, err := b.client.Wait(t.Context(), "A-1"); err != nil || string(link.Status) != string(state) {
				t.Errorf("%+v, %v afterwards", link, err)
			}
		})
	}
}

func TestWaitEnds(t *testing.T) {
	b := newBench(t)
	if _, err := b.client.Wait(t.Context(), "A-1"); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("waited for an unknown id: %v", err)
	}
	b.enqueue(tasks.Request{ApplicationID: "A-1"})
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		link, err := b.client.Wait(ctx, "A-1")
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || link.Status != "" && link.Status != tasks.Queued {
			t.Fatalf("%+v, %v", link, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.client.Wait(ctx, "A-1"); !errors.Is(err, context.Canceled) {
		t.Errorf("waited with a context that had ended: %v", err)
	}
}
