package results_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/results"
	"github.com/kyclink/kyclink/tasks"
)

// noPace lets a replay publish as fast as it can.
func noPace(int) error { return nil }

// A replay publishes the same bytes as the first time, whichever way a request ended.
func TestReplay_PublishesTheSameEvents(t *testing.T) {
	h := newHarness(t)
	steps := map[string][]string{
		"created":   {"feed", "admit", "created"},
		"failed":    {"feed", "admit", "fail"},
		"cancelled": {"cancel"},
		"expired":   {"expire"},
		"poisoned":  {"feed", "quarantine"},
		"dropped":   {"feed", "admit", "hold", "drop"},
		"held":      {"feed", "admit", "hold"}, // has no end
		"waiting":   nil,
		"refreshed": {"feed", "admit", "created", "refresh", "feed", "admit", "created"},
		"late":      {"feed", "admit", "fail", "created"},
		"rescued":   {"feed", "admit", "hold", "created"},
		"again":     {"feed", "admit", "fail", "reopen", "feed", "admit", "created"},
	}
	rows := slices.Sorted(maps.Keys(steps))
	requests := make([]tasks.Request, len(rows))
	for i, id := range rows {
		requests[i] = tasks.Request{ApplicationID: id, Metadata: []byte(`{"customer":"4<2 é"}`)}
	}
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) { h.Must(r.Err) }))
	for _, id := range rows {
		h.Do(id, steps[id]...)
	}
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "alone"})
	h.Must(err)
	h.Do("alone", "cancel")

	first := h.Events(false)
	maps.DeleteFunc(first, func(_ string, e map[string]any) bool { return e["type"] == tasks.EventHeld })
	far, err := h.Stores.Results.Replay(t.Context(), results.ReplaySelection{Batch: -1, Name: "all"}, results.ReplayProgress{}, noPace)
	h.Must(err)
	again := h.Events(true)
	if far.Published != len(first) || len(again) != len(first) || len(first) != 13 {
		t.Errorf("%d events were replayed, %d are in the stream; %d were published first", far.Published, len(again), len(first))
	}
	for id, e := range first {
		a := again[id]
		if fmt.Sprint(e["application_id"], e["type"]) == "again"+tasks.EventFailed { // its attempts are those at the time of the replay
			delete(e, "data")
			delete(a, "data")
		}
		if !maps.Equal(e, a) {
			t.Errorf("the first event is\n%v\nthe replayed one is\n%v", e, a)
		}
	}

	for name, tt := range map[string]struct {
		which results.ReplaySelection
		since time.Time
		want  int
	}{
		"a batch":    {results.ReplaySelection{Batch: 1}, time.Time{}, 12},
		"requests":   {results.ReplaySelection{Batch: -1, IDs: []string{"again", "alone", "waiting", "nobody"}}, time.Time{}, 3},
		"none since": {results.ReplaySelection{Batch: -1}, time.Now().Add(time.Minute), 0},
		"all since":  {results.ReplaySelection{Batch: -1}, time.Now().Add(-time.Hour), 13},
	} {
		far, err := h.Stores.Results.Replay(t.Context(), tt.which, results.ReplayProgress{Since: tt.since}, noPace)
		if h.Must(err); far.Published != tt.want {
			t.Errorf("%s: %d events were replayed, want %d", name, far.Published, tt.want)
		}
	}
}

// A request that is erased after it was read is not published.
func TestReplay_LeavesOutRequestsErasedMeanwhile(t *testing.T) {
	h := newHarness(t)
	h.ImportRow("A-1")
	h.Do("A-1", "cancel")
	far, err := h.Stores.Results.Replay(t.Context(), results.ReplaySelection{Batch: 1}, results.ReplayProgress{}, func(int) error {
		h.Erase("A-1")
		return nil
	})
	if h.Must(err); far.Published != 0 || len(h.Events(true)) != 0 {
		t.Errorf("the replay is %+v, want no event", far)
	}
}

func TestReplay_ContinuesAfterAnInterruption(t *testing.T) {
	h := newHarness(t)
	requests := make([]tasks.Request, 2500)
	for i := range requests {
		requests[i] = tasks.Request{ApplicationID: fmt.Sprintf("A-%04d", i)}
	}
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) { h.Must(r.Err) }))
	h.CancelBatch("spring")
	interrupted := errors.New("interrupted")
	for _, which := range []results.ReplaySelection{{Batch: 1, Name: "batch:spring"}, {Batch: -1, Name: "since:1h"}} {
		h.Must(h.Redis.XTrimMaxLen(t.Context(), h.Keys.Results(), 0).Err())
		left := 11
		far, err := h.Stores.Results.Replay(t.Context(), which, results.ReplayProgress{}, func(int) error {
			if left--; left < 0 {
				return interrupted
			}
			return nil
		})
		if !errors.Is(err, interrupted) || far.Published == 0 || far.Published > 1200 {
			t.Fatalf("the interrupted replay is %+v, %v", far, err)
		}
		far, ok, err := h.Stores.Results.Progress(t.Context(), which)
		if h.Must(err); !ok || far.Published == 0 {
			t.Fatalf("the progress of the interrupted replay is %+v, want what it published", far)
		}
		far, err = h.Stores.Results.Replay(t.Context(), which, far, noPace)
		h.Must(err)
		all, err := h.Redis.XLen(t.Context(), h.Keys.Results()).Result()
		if h.Must(err); len(h.Events(true)) != 2500 || far.Published != 2500 || all > 2500+1000 {
			t.Errorf("%s: %d of 2500 events were replayed, in %d entries; the replay is %+v", which.Name, len(h.Events(true)), all, far)
		}
		if _, ok, err := h.Stores.Results.Progress(t.Context(), which); ok || err != nil {
			t.Errorf("the finished replay still has a progress: %v, %v", ok, err)
		}
	}
}

// A replayed event has the id of the first one, so that readers recognise it.
func TestReplay_KeepsEventIDs(t *testing.T) {
	h := newHarness(t)
	h.ImportRow("A-1")
	h.Do("A-1", "cancel")
	_, err := h.Stores.Results.Replay(t.Context(), results.ReplaySelection{Batch: -1, IDs: []string{"A-1"}}, results.ReplayProgress{}, noPace)
	h.Must(err)
	entries, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	h.Must(err)
	read := func(e redis.XMessage) tasks.Event {
		event, err := tasks.ParseEvent(e.Values)
		h.Must(err)
		return event
	}
	one, two := read(entries[0]), read(entries[1])
	if one.Replay || !two.Replay || one.ID != two.ID || two.ID != (request.Record{ApplicationID: "A-1", Generation: 1, Run: 1, AcceptedAt: h.acceptedAt("A-1")}).EventID(h.Keys.Account).String() {
		t.Errorf("the first event is\n%+v\nthe replayed one is\n%+v", one, two)
	}
}

func (h *harness) acceptedAt(id string) time.Time {
	r, _ := h.Get(id)
	return r.AcceptedAt
}
