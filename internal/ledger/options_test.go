package ledger_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/tasks"
)

// begin imports requests into batch spring with options.
func (h *harness) begin(o tasks.Options, list ...tasks.Request) {
	h.Helper()
	batch := tasks.Batch{Name: "spring", Options: o}
	h.Must(h.Client.EnqueueAll(h.Context(), batch, tasks.Rows(list), func(r tasks.Result) { h.Must(r.Err) }))
}

// A request's own settings take precedence over its batch's options, and these over the
// worker's defaults. All are resolved at the first call.
func TestAdmit_ResolvesSettingsAtTheFirstCall(t *testing.T) {
	yes, no := true, false
	h := newHarness(t)
	h.begin(tasks.Options{
		RedirectURL: "https://shop.example/a/b", ExpiryMinutes: 5256000, DocumentOptional: &no, WorkflowID: "flow", NotAfter: time.Now().Add(time.Hour),
	}, tasks.Request{ApplicationID: "R-1"},
		tasks.Request{ApplicationID: "R-2", ExpiryMinutes: 30, DocumentOptional: &yes})
	for _, ref := range h.Feed() {
		r := h.Admit(h.Stores, ref, attempt.Call).Record
		c := r.Content.With(r.Resolved)
		wantMinutes, wantOptional := 5256000, false
		if ref.ApplicationID == "R-2" {
			wantMinutes, wantOptional = 30, true
		}
		if c.RedirectURL != "https://shop.example/a/b" || c.ExpiryMinutes != wantMinutes || c.DocumentOptional == nil ||
			*c.DocumentOptional != wantOptional || c.WorkflowID != "flow" || !c.NotAfter.IsZero() {
			t.Errorf("%s is called with %+v", ref.ApplicationID, c)
		}
	}
}

// The not_after of a batch ends its waiting, queued and held requests, page by page, but
// none that has a not_after of its own or that a person has retried.
func TestExpireDue_EndsRequestsOfALateBatch(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	due := time.Now().Add(5 * time.Second)
	list := ledgertest.Rows(1, 260)
	list[0].NotAfter = time.Now().Add(time.Hour)
	h.begin(tasks.Options{NotAfter: due}, list...)
	refs := h.FeedUpTo(h.Stores, 5).Refs
	if len(refs) < 5 {
		t.Fatalf("%d requests were fed, want 5", len(refs))
	}
	for _, ref := range refs[1:4] {
		h.Admit(h.Stores, ref, attempt.Call)
	}
	h.Fault("R-2", fault.Unusable, attempt.Hold)
	h.Fault("R-3", fault.BadRequest, attempt.Fail)
	if n := h.expireAll(); n != 0 {
		t.Errorf("%d requests ended before their not_after", n)
	}
	h.until(due)
	r, _ := h.Get("R-3")
	if _, ok, err := h.Stores.Requests.Retry(t.Context(), r); !ok || err != nil {
		t.Fatal(ok, err)
	}
	h.Admit(h.Stores, refs[4], attempt.Expired)
	if n := h.expireAll(); n != 257 { // all but
		t.Errorf("%d requests ended, want 257", n)
	}
	h.ExpectState("R-1", "queued")
	h.ExpectState("R-2", "failed")
	h.ExpectState("R-3", "waiting")
	h.ExpectState("R-4", "calling")
	h.ExpectState("R-260", "failed")
	h.ExpectCounters()
	if r, _ := h.Get("R-260"); r.Outcome.Reason != "not_after" {
		t.Errorf("R-260 ended because of %q", r.Outcome.Reason)
	}
	h.Fault("R-4", fault.ServerError, attempt.Retry)
	h.ExpectState("R-4", "failed")
	// A new row is rejected, as with any not_after in the past.
	var refused error
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(ledgertest.Rows(1000, 1000)), func(r tasks.Result) { refused = r.Err })
	if err != nil || tasks.ReasonOf(refused) != "invalid" {
		t.Errorf("a late row is rejected with %v, %v", refused, err)
	}
}

// expireAll ends all late requests, and returns their number.
func (h *harness) expireAll() (ended int) {
	h.Helper()
	for page := ""; ; {
		n, next, err := h.Stores.Requests.ExpireDue(h.Context(), page)
		h.Must(err)
		if ended += n; next == "" {
			return ended
		}
		page = next
	}
}

// A request that was being called when the requests of its late batch ended, and is held
// afterwards, ends the next time.
func TestExpireDue_ReadsALateBatchAgain(t *testing.T) {
	t.Parallel()
	t.Run("when that time has come", func(t *testing.T) { lateBatchAgain(t, time.Unix(0, 0)) })
	t.Run("when Redis' clock, which was a day ahead, is right again", func(t *testing.T) { lateBatchAgain(t, time.Now().Add(24*time.Hour)) })
}

// lateBatchAgain sets the time of the next pass to at.
func lateBatchAgain(t *testing.T, at time.Time) {
	t.Parallel()
	h := newHarness(t)
	due := time.Now().Add(5 * time.Second)
	h.begin(tasks.Options{NotAfter: due}, ledgertest.Rows(1, 3)...)
	h.Admit(h.Stores, h.Feed()[0], attempt.Call)
	h.until(due)
	if n := h.expireAll(); n != 2 {
		t.Errorf("%d requests ended, want the two that are not being called", n)
	}
	h.Fault("R-1", fault.Unusable, attempt.Hold)
	h.ExpectState("R-1", "held")
	deadlines := h.Keys.Tag() + ":batch-deadlines"
	if again, err := h.Redis.ZScore(t.Context(), deadlines, "1").Result(); err != nil || again < float64(time.Now().Add(30*time.Second).UnixMilli()) {
		t.Errorf("the next pass is at %.0f, %v", again, err)
	}
	h.Must(h.Redis.ZAdd(t.Context(), deadlines, redis.Z{Member: "1", Score: float64(at.UnixMilli())}).Err())
	if n := h.expireAll(); n != 1 {
		t.Errorf("%d requests ended, want the held one", n)
	}
	h.ExpectState("R-1", "failed")
	if n := h.Redis.Exists(t.Context(), deadlines).Val(); n != 0 {
		t.Error("the batch is still due for a pass")
	}
}
