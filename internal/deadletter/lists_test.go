package deadletter_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// day is when the requests of these tests failed.
var day = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// fail restores n failed requests; when returns the time at which each failed.
func (h *harness) fail(n int, when func(i int) time.Time) {
	h.Helper()
	records := make([]request.Record, n)
	for i := range records {
		records[i] = request.Record{
			ApplicationID: fmt.Sprintf("F-%05d", i), State: request.Failed, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: day, ChangedAt: when(i), Outcome: request.Outcome{Run: 1, Status: request.Failed, Reason: "invalid_request"},
		}
	}
	for page := range slices.Chunk(records, 200) {
		h.Must(h.Stores.Requests.Restore(h.Context(), "spring", page))
	}
}

// unreadable fails: these tests have only entries that can be decoded.
func (h *harness) unreadable(u deadletter.Unreadable) {
	h.Helper()
	h.Errorf("%s cannot be decoded: %v", u.ID, u.Why)
}

// Columns returns what Requests does, but for what is not in a header.
func TestColumns_AreThoseOfTheRequests(t *testing.T) {
	h := newHarness(t)
	h.fail(700, func(i int) time.Time { return day.Add(time.Duration(i/3) * time.Millisecond) })
	for _, reasons := range []bool{true, false} {
		whole, columns := map[string]request.Record{}, map[string]request.Record{}
		for page, err := range h.Stores.DeadLetters.Requests(t.Context(), request.Failed, day, day.Add(time.Hour), h.unreadable) {
			h.Must(err)
			for _, r := range page {
				outcome := request.Outcome{}
				if reasons {
					outcome.Reason = r.Outcome.Reason
				}
				r.Content, r.Outcome = request.Content{}, outcome
				whole[r.ApplicationID] = r
			}
		}
		for page, err := range h.Stores.DeadLetters.Columns(t.Context(), request.Failed, day, day.Add(time.Hour), reasons, h.unreadable) {
			h.Must(err)
			for _, r := range page {
				columns[r.ApplicationID] = r
			}
		}
		if !reflect.DeepEqual(whole, columns) || len(columns) != 700 {
			t.Errorf("with reasons %v: got %d requests that differ from the %d listed", reasons, len(columns), len(whole))
		}
	}
}

// No request is skipped while requests are retried, by the reader of the list and by
// others, and fail again. More requests failed at one moment than a page holds.
func TestRequests_SkipsNothingWhileRequestsAreRetried(t *testing.T) {
	const n = 3000
	h := newHarness(t)
	h.fail(n, func(i int) time.Time { return day.Add(time.Duration(max(0, i-1400)/3) * time.Millisecond) })
	retry := func(id string) {
		r, _ := h.Get(id)
		_, _, err := h.Stores.Requests.Retry(t.Context(), r)
		h.Must(err)
	}
	listed, retried := map[string]bool{}, map[string]bool{}
	last := ""
	for page, err := range h.Stores.DeadLetters.Requests(t.Context(), request.Failed, time.Time{}, day.Add(time.Hour), h.unreadable) {
		h.Must(err)
		for i, r := range page {
			if listed[r.ApplicationID] || retried[r.ApplicationID] || r.ApplicationID <= last {
				t.Fatalf("%s is listed after %s; listed before: %v, retried before: %v", r.ApplicationID, last, listed[r.ApplicationID], retried[r.ApplicationID])
			}
			listed[r.ApplicationID], last = true, r.ApplicationID
			if i%3 == 0 {
				retry(r.ApplicationID)
			}
		}
		for i := len(listed) + 7; i < n && i < len(listed)+700; i += 50 { // by others, ahead of the list
			id := fmt.Sprintf("F-%05d", i)
			if !retried[id] {
				retry(id)
				retried[id] = true
			}
		}
		h.Must(h.Redis.HDel(t.Context(), h.Keys.Batch(1), "refused").Err()) // or the batch would be paused in the end
		h.Fault(h.Admit(h.Stores, h.FeedUpTo(h.Stores, 1).Refs[0], attempt.Call).ApplicationID, fault.BadRequest, attempt.Fail)
	}
	for i := range n {
		if id := fmt.Sprintf("F-%05d", i); !listed[id] && !retried[id] {
			t.Errorf("%s was skipped", id)
		}
	}
	if len(retried) < 100 {
		t.Errorf("only %d requests were retried ahead of the list, want 100", len(retried))
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
}

func TestRequests_ListsThePeriod(t *testing.T) {
	h := newHarness(t)
	h.fail(10, func(i int) time.Time { return day.Add(time.Duration(i) * time.Second) })
	for _, tt := range []struct {
		since, before time.Time
		want          int
	}{
		{time.Time{}, day.Add(time.Hour), 10},
		{day.Add(3 * time.Second), day.Add(time.Hour), 7},
		{day.Add(3*time.Second + time.Millisecond), day.Add(time.Hour), 6},
		{day.Add(3 * time.Second), day.Add(5 * time.Second), 2},
		{day.Add(5 * time.Second), day.Add(5 * time.Second), 0},
	} {
		if got := h.walk(tt.since, tt.before); got != tt.want {
			t.Errorf("%d requests are listed from %v to %v, want %d", got, tt.since, tt.before, tt.want)
		}
	}
}

// walk returns how many failed requests of a period are listed.
func (h *harness) walk(since, before time.Time) (listed int) {
	h.Helper()
	for page, err := range h.Stores.DeadLetters.Requests(h.Context(), request.Failed, since, before, h.unreadable) {
		h.Must(err)
		listed += len(page)
	}
	return listed
}

func TestRequests_ListsAllThatFailedAtOneMoment(t *testing.T) {
	h := newHarness(t)
	h.fail(1700, func(i int) time.Time { return day.Add(time.Duration(i/1600) * time.Second) })
	if got := h.walk(time.Time{}, day.Add(time.Hour)); got != 1700 {
		t.Errorf("%d of 1700 requests are listed", got)
	}
}

// A delivery that is pending without a failed attempt is not one that is being retried.
func TestRetrying_ListsFailedAttemptsOnly(t *testing.T) {
	h := newHarness(t)
	event := h.EndWithCallback("A-1", "https://shop.example/hooks")
	_, err := h.Stores.Deliveries.Open(t.Context(), []tasks.Event{event})
	h.Must(err)
	retrying := func() (n int) {
		for page, err := range h.Stores.DeadLetters.Retrying(t.Context(), h.unreadable) {
			h.Must(err)
			n += len(page)
		}
		return n
	}
	if n := retrying(); n != 0 {
		t.Errorf("%d deliveries are listed before the first attempt", n)
	}
	d, ok, err := h.Stores.Deliveries.Begin(t.Context(), delivery.Task{EventID: event.ID})
	if h.Must(err); !ok {
		t.Fatal("no attempt is allowed")
	}
	_, err = h.Stores.Deliveries.End(t.Context(), d, delivery.Reply{Code: 500, Reason: "receiver_error", Message: "HTTP 500"}, time.Minute)
	h.Must(err)
	if n := retrying(); n != 1 {
		t.Errorf("%d deliveries are listed after a failed attempt, want 1", n)
	}
}
