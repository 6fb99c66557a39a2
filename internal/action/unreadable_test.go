package action

import (
	"fmt"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// damage makes three of the requests undecodable: one of a newer version, and two with a
// damaged header or content.
func (h *harness) damage(newer, header, content string) {
	h.Helper()
	h.Must(h.Redis.SetRange(h.Context(), h.Keys.Record(newer), 0, "9").Err())
	h.Must(h.Redis.SetRange(h.Context(), h.Keys.Record(header), 4, "xyz").Err())
	h.Must(h.Redis.SetRange(h.Context(), h.Keys.Record(content), request.HeaderLen, "xyz").Err())
}

// expectUnreadable compares the counts of an action that skips nothing but what it cannot
// decode.
func (h *harness) expectUnreadable(a Action, matched, done, unreadable int) {
	h.Helper()
	if want := (Counts{matched, done, Skipped{Unreadable: unreadable}}); a.State != Done || a.Counts != want {
		h.Errorf("the action is %s with %+v, want %s with %+v", a.State, a.Counts, Done, want)
	}
}

// An action ends although entries cannot be decoded. Each of them is counted once, wherever a
// runner dies.
func TestRunner_SkipsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	for _, commands := range []int{1000, 6, 20, 40, 75} {
		t.Run(fmt.Sprint("dying after ", commands, " commands"), func(t *testing.T) {
			t.Parallel()
			h := newHarness(t)
			h.restore("spring", 0, 130, request.Failed, "timeout")
			h.damage("A-0003", "A-0060", "A-0129")
			a := h.start(everything)
			h.dying(commands).continueAction(t.Context(), a.ID)
			cfg := h.config()
			cfg.Lease = 100 * time.Millisecond
			h.runWith(NewRunner(cfg))
			h.expectUnreadable(h.wait(a.ID), 130, 127, 3)
			h.expectRuns(4, 50, request.Waiting, 2)
		})
	}
}

func TestPlan_CountsWhatCannotBeDecodedApart(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 20, request.Failed, "timeout")
	h.restore("autumn", 20, 20, request.Failed, "timeout")
	h.damage("A-0003", "A-0004", "A-0005")
	h.run()
	// The content of A-0005 is not needed to count it, and the batch of the others is unknown.
	for _, tt := range []struct {
		Request
		count, unreadable, done, skipped int
	}{
		{Request{Kind: RetryFailed, IDs: []string{"A-0002", "A-0003", "A-0004", "A-0005"}}, 1, 3, 1, 3},
		{Request{Kind: RetryFailed, Filter: Filter{Batch: "autumn"}}, 20, 2, 20, 2},
		{Request{Kind: RetryFailed, Filter: Filter{Lane: request.Interactive}}, 0, 2, 0, 2},
		{Request{Kind: RetryFailed, Filter: Filter{Reason: "timeout"}}, 17, 2, 16, 3},
	} {
		p := h.plan(tt.Request)
		if p.Count != tt.count || p.Unreadable != tt.unreadable || len(p.Unmatched) > 0 {
			t.Errorf("%+v: got %+v, want %d, and %d that cannot be decoded", tt.Request, p, tt.count, tt.unreadable)
		}
		h.expectUnreadable(h.wait(h.start(tt.Request).ID), tt.count+tt.unreadable, tt.done, tt.skipped)
	}
}

func TestRunner_SkipsDeliveriesThatItCannotDecode(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var events []string
	for i := range 4 {
		events = append(events, h.giveUp(fmt.Sprint("A-", i), "shop.example"))
	}
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Delivery(events[2]), "attempts", "many").Err())
	h.run()
	h.expectUnreadable(h.wait(h.start(Request{Kind: RetryDeliveries, Filter: Filter{All: true}}).ID), 4, 3, 1)
	h.expectUnreadable(h.wait(h.start(Request{Kind: DropDeliveries, IDs: []string{"A-2", events[2], "A-1"}}).ID), 2, 1, 1)
}

// An action of a newer version, or a damaged one, hides no other. This version leaves it to a
// newer one, and can abort it.
func TestList_ShowsWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.restore("spring", 0, 20, request.Failed, "timeout")
	givenUp := h.giveUp("B-1", "shop.example")
	readable := h.start(Request{Kind: RetryFailed, IDs: []string{"A-0001"}})
	for field, value := range map[string]string{
		"kind": "retry_cancelled", "filter": `{"batch":"spring","country":"DE"}`, "state": "scheduled", "matched": "many", "page": "[7]",
	} {
		a := h.start(everything)
		h.Must(h.Redis.HSet(t.Context(), h.Keys.Action(a.ID), field, value).Err())
		got := h.get(a.ID)
		if got.State != Unreadable || got.Message == "" || got.By != "the test" || got.CreatedAt.IsZero() || got.Filter != (Filter{}) || got.Selects() != "" {
			t.Errorf("with the %s %s it is %+v", field, value, got)
		}
		stop := h.run()
		if now, err := NewRunner(h.config()).Follow(t.Context(), a.ID, func(Action) {}); err == nil || now.State != Unreadable {
			t.Errorf("with the %s %s it is followed until it is %+v, %v", field, value, now, err)
		}
		stop()
		newer := lease{rdb: h.Redis, keys: h.Keys, id: a.ID, runner: "of a newer version", length: time.Minute}
		if fields, err := newer.takeFor(t.Context(), time.Minute); err != nil || field != "state" && fields["runner"] != newer.runner {
			t.Errorf("with the %s %s a newer version gets the action as %v, %v", field, value, fields, err)
		}
		list, _, err := h.store.List(t.Context(), "", 10)
		h.Must(err)
		if states := []State{list[0].State, list[len(list)-1].State}; len(list) < 2 || states[0] != Unreadable || states[1] == Unreadable {
			t.Errorf("the list has %+v", list)
		}
		_, err = h.store.Abort(t.Context(), a.ID)
		h.Must(err)
	}
	h.run()
	h.expectCounts(h.wait(readable.ID), Done, 1, 1, 0)
	h.expectRuns(2, 18, request.Failed, 1)
	if n, err := h.store.operator.EnqueuedDeliveries(t.Context(), []string{givenUp}); err != nil || n != 0 {
		t.Errorf("an action of an unknown kind has retried %d deliveries, %v", n, err)
	}
}
