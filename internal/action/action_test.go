package action

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestPlan_RefusesRequestsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	all := Filter{All: true}
	for key, r := range map[string]Request{
		"kind":          {Kind: "retry", Filter: all},
		"filter":        {Kind: RetryFailed},
		"filter ":       {Kind: RetryFailed, Filter: Filter{All: true, Batch: "spring"}},
		"filter  ":      {Kind: RetryFailed, Filter: all, IDs: []string{"A-1"}},
		"filter.reason": {Kind: RetryFailed, Filter: Filter{Reason: "unknown_outcome"}},
		"filter.batch":  {Kind: RetryFailed, Filter: Filter{Batch: "none"}},
		"filter.host":   {Kind: RetryFailed, Filter: Filter{Host: "shop.example"}},
		"filter.lane":   {Kind: DropDeliveries, Filter: Filter{Lane: request.Bulk}},
		"filter.since":  {Kind: DropHeld, Filter: Filter{Since: time.Now(), Before: time.Now().Add(-time.Hour)}},
		"filter.lane ":  {Kind: DropHeld, Filter: Filter{Lane: "fast"}},
		"ids":           {Kind: DropHeld, IDs: make([]string, MaxIDs+1)},
		"ids ":          {Kind: DropHeld, IDs: []string{""}},
		"rate":          {Kind: DropHeld, Filter: all, Rate: "fast"},
		"rate ":         {Kind: DropHeld, Filter: all, Rate: "5001/s"},
	} {
		_, err := h.store.Plan(t.Context(), r)
		if invalid, ok := errors.AsType[*InvalidError](err); !ok || invalid.Key != strings.TrimSpace(key) {
			t.Errorf("%+v: got %v, want that %s is wrong", r, err, key)
		}
	}
}

func TestPlan_CountsWhatMatches(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 30, request.Failed, "timeout")
	h.restore("spring", 30, 20, request.Failed, "invalid_request")
	h.restore("autumn", 50, 10, request.Failed, "timeout")
	h.restore("autumn", 60, 5, request.Held, "unknown_outcome")
	for _, tt := range []struct {
		kind Kind
		Filter
		want int
	}{
		{RetryFailed, Filter{All: true}, 60},
		{RetryFailed, Filter{Batch: "spring"}, 50},
		{RetryFailed, Filter{Reason: "timeout"}, 40},
		{DropFailed, Filter{Reason: "timeout", Batch: "autumn"}, 10},
		{RetryFailed, Filter{Lane: request.Interactive}, 0},
		{RetryFailed, Filter{Lane: request.Bulk}, 60},
		{RetryFailed, Filter{Since: time.Now().Add(-time.Minute)}, 0},
		{RetryFailed, Filter{Before: time.Now().Add(-2 * time.Hour)}, 0},
		{RetryFailed, Filter{Before: time.Now().Add(time.Hour)}, 60},
		{DropHeld, Filter{All: true}, 5},
		{RetryDeliveries, Filter{All: true}, 0},
	} {
		if p := h.plan(Request{Kind: tt.kind, Filter: tt.Filter}); p.Count != tt.want || p.Token == "" {
			t.Errorf("%s %+v: %d match, want %d", tt.kind, tt.Filter, p.Count, tt.want)
		}
	}
	p := h.plan(Request{Kind: RetryFailed, IDs: []string{"A-0001", "A-0060", "B-1", "A-0001", "A-0002"}})
	if p.Count != 2 || !slices.Equal(p.Unmatched, []string{"A-0060", "B-1"}) {
		t.Errorf("got %+v, want 2 that match, and two IDs that do not", p)
	}
}

func TestPlan_TokenChangesWithTheSet(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 10, request.Failed, "timeout")
	all := Request{Kind: RetryFailed, Filter: Filter{All: true}}
	first := h.plan(all)
	if again := h.plan(all); !again.Matches(first.Token) || again.Token == first.Token || again.Count != 10 {
		t.Errorf("got %+v, then %+v for the same set", first, again)
	}
	seen := []Plan{first}
	expectNew := func(what string, p Plan) {
		t.Helper()
		for _, other := range seen {
			if p.Matches(other.Token) {
				t.Errorf("%s: the token is that of another set", what)
			}
		}
		seen = append(seen, p)
	}
	drop := all
	drop.Kind = DropFailed
	expectNew("another kind", h.plan(drop))
	h.restore("spring", 10, 1, request.Failed, "timeout")
	expectNew("one more", h.plan(all))
	_, _, err := h.store.operator.Retry(t.Context(), h.Record("A-0010"))
	h.Must(err)
	p := h.plan(all)
	if !p.Matches(first.Token) {
		t.Error("the token does not match although the set is the first again")
	}
	for _, wrong := range []string{"", "-", first.digest, first.digest + "-", first.Token + "x", strings.Replace(first.Token, "-", "+", 1)} {
		if p.Matches(wrong) {
			t.Errorf("the token %q matches", wrong)
		}
	}
}

func TestStart_StartsOneActionForAToken(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 20, request.Failed, "timeout")
	all := Request{Kind: RetryFailed, Filter: Filter{All: true}}
	first, second := h.plan(all), h.plan(all)
	started := make([]Action, 8)
	var clicks sync.WaitGroup
	for i := range started {
		clicks.Go(func() { started[i] = h.startPlan(first) })
	}
	clicks.Wait()
	for _, a := range started {
		if a.ID == "" || a.ID != started[0].ID {
			t.Fatalf("one token has started %s and %s", started[0].ID, a.ID)
		}
	}
	expect := func(kind Kind, token, want string) {
		t.Helper()
		if a, ok, err := h.store.Started(t.Context(), kind, token); err != nil || ok != (want != "") || ok && a.ID != want {
			t.Errorf("got action %q, %v, %v; want %q", a.ID, ok, err, want)
		}
	}
	expect(RetryFailed, first.Token, started[0].ID)
	expect(DropFailed, first.Token, "")
	expect(RetryFailed, second.Token, "")
	expectSame := func(p Plan) {
		t.Helper()
		_, err := h.store.Start(t.Context(), p, p.Token, "the test")
		if same, ok := errors.AsType[*SameError](err); !ok || same.ID != started[0].ID {
			t.Errorf("another dry run of the entries that action %s changes gets %v", started[0].ID, err)
		}
	}
	expectSame(second)
	expectSame(h.plan(Request{Kind: RetryFailed, Filter: Filter{Batch: "spring"}, Rate: "1/s"}))
	drop := h.start(Request{Kind: DropFailed, Filter: Filter{All: true}})
	_, err := h.store.Abort(t.Context(), drop.ID) // or it would change some of the entries first
	h.Must(err)
	other := h.start(Request{Kind: DropFailed, Filter: Filter{All: true}})
	_, err = h.store.Abort(t.Context(), other.ID)
	h.Must(err)
	h.run()
	h.expectCounts(h.wait(started[0].ID), Done, 20, 20, 0)
	if a := h.startPlan(first); a.ID != started[0].ID || a.State != Done {
		t.Errorf("after its end the token starts %+v", a)
	}
	if left := h.Redis.TTL(t.Context(), h.Keys.ActionToken(first.Token)).Val(); left <= 0 {
		t.Errorf("the token is kept for %v after the end of its action", left)
	}
}

func TestRunner_RetriesWhatMatchesAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 120, request.Failed, "timeout")
	h.restore("spring", 120, 30, request.Failed, "invalid_request")
	h.restore("autumn", 150, 30, request.Failed, "timeout")
	h.restore("autumn", 180, 30, request.Held, "unknown_outcome")
	a := h.start(Request{Kind: RetryFailed, Filter: Filter{Reason: "timeout", Batch: "spring"}, Rate: "1000/s"})
	if a.State != Running || a.By != "the test" || a.CreatedAt.IsZero() || a.Counts.Matched != 120 {
		t.Errorf("it starts as %+v", a)
	}
	h.run()
	a = h.wait(a.ID)
	h.expectCounts(a, Done, 120, 120, 0)
	if a.EndedAt.IsZero() {
		t.Error("it has no time of its end")
	}
	h.expectRuns(0, 120, request.Waiting, 2)
	h.expectRuns(120, 60, request.Failed, 1)
	h.expectRuns(180, 30, request.Held, 1)
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)

	h.expectCounts(h.wait(h.start(Request{Kind: RetryHeld, Filter: Filter{All: true}}).ID), Done, 30, 30, 0)
	h.expectRuns(180, 30, request.Waiting, 1)
	h.expectCounts(h.wait(h.start(Request{Kind: DropFailed, IDs: []string{"A-0150", "A-0120", "A-0000"}}).ID), Done, 2, 2, 0)
	h.expectRuns(120, 60, request.Failed, 1)
	h.ExpectOperatorLists(map[string]bool{"A-0150": true, "A-0120": true})
}

func TestRunner_DropsHeldRequests(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 7, request.Held, "unknown_outcome")
	h.run()
	h.expectCounts(h.wait(h.start(Request{Kind: DropHeld, Filter: Filter{Batch: "spring"}}).ID), Done, 7, 7, 0)
	h.expectRuns(0, 7, request.Cancelled, 1)
}

// giveUp opens a delivery that is given up at once, and returns the ID of its event.
func (h *harness) giveUp(id, host string) string {
	h.Helper()
	event := h.EndWithCallback(id, "https://"+host+"/hooks")
	_, err := h.Stores.Deliveries.Open(h.Context(), []tasks.Event{event})
	h.Must(err)
	d, ok, err := h.Stores.Deliveries.Begin(h.Context(), delivery.Task{EventID: event.ID})
	if h.Must(err); !ok {
		h.Fatal("no attempt is allowed")
	}
	_, err = h.Stores.Deliveries.End(h.Context(), d, delivery.Reply{Code: 410, Reason: "gone", Message: "HTTP 410"}, 0)
	h.Must(err)
	return event.ID
}

func TestRunner_RetriesAndDropsDeliveries(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for i := range 6 {
		h.giveUp(fmt.Sprintf("A-%d", i), []string{"shop.example", "other.example"}[i%2])
	}
	h.run()
	h.expectCounts(h.wait(h.start(Request{Kind: RetryDeliveries, Filter: Filter{Host: "shop.example"}}).ID), Done, 3, 3, 0)
	queued, err := h.Redis.LLen(t.Context(), "asynq:{"+h.Keys.Queue(request.Callbacks)+"}:pending").Result()
	if h.Must(err); queued != 3 {
		t.Errorf("%d deliveries are queued, want 3", queued)
	}
	// Their tasks are queued already: they are left as they are.
	h.expectCounts(h.wait(h.start(Request{Kind: RetryDeliveries, IDs: []string{"A-0", "A-1"}}).ID), Done, 2, 1, 1)
	h.expectCounts(h.wait(h.start(Request{Kind: DropDeliveries, Filter: Filter{Reason: "gone"}}).ID), Done, 6, 6, 0)
	if p := h.plan(Request{Kind: DropDeliveries, Filter: Filter{All: true}}); p.Count != 0 {
		t.Errorf("%d deliveries are left", p.Count)
	}
}
