package ledger_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// lateLink fails a request, whose call returns a link afterwards.
func (h *harness) lateLink(id string) {
	h.Helper()
	r, _ := h.Get(id)
	a := h.Admit(h.Stores, r.Ref(), attempt.Call)
	h.Fault(id, fault.BadRequest, attempt.Fail)
	state, err := h.Stores.Requests.Created(h.Context(), a, ledgertest.Link())
	h.Must(err)
	if r, _ = h.Get(id); state != "" || r.State != request.Failed || len(r.Past) != 1 || !r.Past[0].Late {
		h.Fatalf("the late link makes the request %q; the record is %+v", state, r)
	}
}

// published returns the events of a type.
func (h *harness) published(kind string) (of []redis.XMessage) {
	h.Helper()
	entries, err := h.Redis.XRange(h.Context(), h.Keys.Results(), "-", "+").Result()
	h.Must(err)
	for _, e := range entries {
		if e.Values["type"] == kind {
			of = append(of, e)
		}
	}
	return of
}

// Retrying a request that has a late link does not pay for a second one: the new run ends
// with that link, which its event has.
func TestRetry_EndsWithTheLateLink(t *testing.T) {
	for _, lane := range []tasks.Lane{tasks.Interactive, tasks.Bulk} {
		t.Run(string(lane), func(t *testing.T) {
			h := newHarness(t)
			h.ImportRow("B-1")
			_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Metadata: []byte(`{"customer":"42"}`)})
			h.Must(err)
			id, head := "A-1", `{"application_id":"A-1","generation":1,"run":2,`
			tail := `"attempts":1,"possible_duplicates":0,"metadata":{"customer":"42"}}`
			if lane == tasks.Bulk {
				h.Feed()
				id, head, tail = "B-1", `{"application_id":"B-1","generation":1,"run":2,"batch":"spring",`, `"attempts":1,"possible_duplicates":0}`
			}
			h.lateLink(id)
			failed, _ := h.Get(id)
			now, ok, err := h.Stores.Requests.Retry(t.Context(), failed)
			if err != nil || !ok || now.State != request.Created || now.Run != 2 || now.Attempts != 1 || now.Outcome.URL != ledgertest.Link().URL {
				t.Fatalf("retried: %v, %v; the request is %+v", ok, err, now)
			}
			if o := now.Outcome; o.Run != 2 || o.LinkID != ledgertest.Link().LinkID || !o.ExpiresAt.Equal(failed.Past[0].ExpiresAt) || o.Late || time.Since(o.EndedAt) > time.Minute {
				t.Errorf("the outcome is %+v", o)
			}
			if len(now.Past) != 2 || now.Past[1].Status != request.Failed {
				t.Errorf("the earlier outcomes are %+v", now.Past)
			}
			created := h.published("link.created")
			if len(created) != 1 || created[0].Values["id"] != now.EventID(h.Keys.Account).String() {
				t.Fatalf("the events are %v", created)
			}
			expires := `"expires_at":"` + failed.Past[0].ExpiresAt.Format("2006-01-02T15:04:05.000Z") + `",`
			want := head + `"link_id":"link-1","url":"https://simulator.invalid/kycverify/link-1",` + expires + tail
			if got := created[0].Values["data"]; got != want {
				t.Errorf("the data of the event is\n%s, want\n%s", got, want)
			}
			for _, stale := range []request.Record{failed, now} {
				if _, ok, err := h.Stores.Requests.Retry(t.Context(), stale); ok || err != nil {
					t.Errorf("a retry of a stale record succeeds: %v, %v", ok, err)
				}
			}
			if n := len(h.Feed()); n != 0 && lane == tasks.Bulk {
				t.Errorf("%d turns were fed", n)
			}
			h.ExpectCounters()
			h.ExpectOperatorLists(nil)
		})
	}
}

// A held request may have a late link of an earlier run, which an older version did not
// use. Retrying it ends it with that link.
func TestRetry_EndsAHeldRequestWithItsLateLink(t *testing.T) {
	h := newHarness(t)
	h.ImportRow("A-1")
	h.Feed()
	h.lateLink("A-1")
	r, _ := h.Get("A-1")
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("A-1"), heldAs(t, r), 0).Err())
	h.Must(h.Redis.HIncrBy(t.Context(), h.Keys.Batch(r.Batch), "failed", -1).Err())
	h.Must(h.Redis.HIncrBy(t.Context(), h.Keys.Batch(r.Batch), "held", 1).Err())
	r, _ = h.Get("A-1")
	now, ok, err := h.Stores.Requests.Retry(t.Context(), r)
	if err != nil || !ok || now.State != request.Created || now.Run != 2 || now.Outcome.URL != ledgertest.Link().URL || len(h.published("link.created")) != 1 {
		t.Fatalf("retried: %v, %v; the request is %+v", ok, err, now)
	}
	h.ExpectCounters()
}

// heldAs returns a failed request's record as it is when its second run is held.
func heldAs(t *testing.T, r request.Record) []byte {
	t.Helper()
	r.Past = append(r.Past, r.Outcome)
	r.State, r.Run = request.Held, 2
	r.Outcome = request.Outcome{Run: 2, Status: request.Held, Reason: string(fault.UnknownOutcome), EndedAt: r.ChangedAt}
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
