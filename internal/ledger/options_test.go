package ledger_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/tasks"
)

func (b *bench) begin(o tasks.Options, list ...tasks.Request) {
	b.t.Helper()
	batch := tasks.Batch{Name: "spring", Options: o}
	b.must(b.client.EnqueueAll(b.t.Context(), batch, tasks.Rows(list), func(r tasks.Result) { b.must(r.Err) }))
}

// What a request gives goes before its batch's options, and these before the
// worker's defaults; all are frozen at the first call.
func TestOptionsAreFrozen(t *testing.T) {
	yes, no := true, false
	b := newBench(t)
	b.begin(tasks.Options{
		RedirectURL: "https://shop.example/a/b", ExpiryMinutes: 5256000, DocumentOptional: &no, WorkflowID: "flow", NotAfter: time.Now().Add(time.Hour),
	}, tasks.Request{ApplicationID: "R-1"},
		tasks.Request{ApplicationID: "R-2", ExpiryMinutes: 30, DocumentOptional: &yes})
	for _, ref := range b.feed() {
		r := b.mark(b.ledger, ref, attempt.Call).Record
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

// The not_after of a batch ends what waits, is queued or held, page by page, and
// nothing that has one of its own or that a person let go on.
func TestNotAfterOfABatch(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	due := time.Now().Add(5 * time.Second)
	list := rows(1, 260)
	list[0].NotAfter = time.Now().Add(time.Hour)
	b.begin(tasks.Options{NotAfter: due}, list...)
	refs := b.feedUpTo(b.ledger, 5).Refs
	if len(refs) < 5 {
		t.Fatalf("%d were fed", len(refs))
	}
	for _, ref := range refs[1:4] {
		b.mark(b.ledger, ref, attempt.Call)
	}
	b.fault("R-2", fault.Unusable, attempt.Hold)
	b.fault("R-3", fault.BadRequest, attempt.Fail)
	if n := b.expireAll(); n != 0 {
		t.Errorf("%d ended before their time", n)
	}
	b.until(due)
	r, _ := b.get("R-3")
	if _, ok, err := b.ledger.Again(t.Context(), r); !ok || err != nil {
		t.Fatal(ok, err)
	}
	b.mark(b.ledger, refs[4], attempt.Expired)
	if n := b.expireAll(); n != 257 { // all but
		t.Errorf("%d ended", n)
	}
	b.expectState("R-1", "queued")
	b.expectState("R-2", "failed")
	b.expectState("R-3", "waiting")
	b.expectState("R-4", "calling")
	b.expectState("R-260", "failed")
	b.expectCounters()
	if r, _ := b.get("R-260"); r.Outcome.Reason != "not_after" {
		t.Errorf("R-260 ended because of %q", r.Outcome.Reason)
	}
	b.fault("R-4", fault.ServerError, attempt.Retry)
	b.expectState("R-4", "failed")
	// What is new is refused as any past date is.
	var refused error
	err := b.client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(rows(1000, 1000)), func(r tasks.Result) { refused = r.Err })
	if err != nil || tasks.ReasonOf(refused) != "invalid" {
		t.Errorf("a late row: %v, %v", refused, err)
	}
}

func (b *bench) expireAll() (ended int) {
	b.t.Helper()
	for page := ""; ; {
		n, next, err := b.ledger.ExpireLate(b.t.Context(), page)
		b.must(err)
		if ended += n; next == "" {
			return ended
		}
		page = next
	}
}

// What was being called when its batch was looked through, and is held now, is too
// late all the same.
func TestALateBatchIsLookedThroughAgain(t *testing.T) {
	t.Parallel()
	t.Run("when that time has come", func(t *testing.T) { lateBatchAgain(t, time.Unix(0, 0)) })
	t.Run("when Redis' clock, which was a day ahead, is right again", func(t *testing.T) { lateBatchAgain(t, time.Now().Add(24*time.Hour)) })
}

func lateBatchAgain(t *testing.T, at time.Time) {
	t.Parallel()
	b := newBench(t)
	due := time.Now().Add(5 * time.Second)
	b.begin(tasks.Options{NotAfter: due}, rows(1, 3)...)
	b.mark(b.ledger, b.feed()[0], attempt.Call)
	b.until(due)
	if n := b.expireAll(); n != 2 {
		t.Errorf("%d ended, want the two that are not being called", n)
	}
	b.fault("R-1", fault.Unusable, attempt.Hold)
	b.expectState("R-1", "held")
	deadlines := b.keys.Tag() + ":batch-deadlines"
	if again, err := b.rdb.ZScore(t.Context(), deadlines, "1").Result(); err != nil || again < float64(time.Now().Add(30*time.Second).UnixMilli()) {
		t.Errorf("it is looked through again at %.0f, %v", again, err)
	}
	b.must(b.rdb.ZAdd(t.Context(), deadlines, redis.Z{Member: "1", Score: float64(at.UnixMilli())}).Err())
	if n := b.expireAll(); n != 1 {
		t.Errorf("%d ended, want the one that was held", n)
	}
	b.expectState("R-1", "failed")
	if n := b.rdb.Exists(t.Context(), deadlines).Val(); n != 0 {
		t.Error("it is looked through for ever")
	}
}
