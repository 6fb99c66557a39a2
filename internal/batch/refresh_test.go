package batch_test

import (
	"slices"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// Only a request whose link has expired is refreshed, once. It stays in its batch and
// row.
func TestRefresh_StartsANewGenerationOfExpiredLinksOnly(t *testing.T) {
	h := newHarness(t)
	list := append(ledgertest.Rows(1, 120), tasks.Request{ApplicationID: "S-1", ExpiryMinutes: 1, NotAfter: time.Now().Add(time.Hour)})
	h.Import("spring", list)
	refs := h.Feed()
	for _, ref := range refs {
		a := h.Admit(h.Stores, ref, attempt.Call)
		a.At = a.At.Add(-2 * time.Minute) // so that a link of one minute has expired
		if ref.ApplicationID == "R-7" {
			_, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail})
			h.Must(err)
			continue
		}
		_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
		h.Must(err)
	}
	h.StoreAsVersion1("S-1") // its next generation is of the present version
	refresh := func() (refreshed []string) {
		for page, err := range h.Stores.Batches.Requests(t.Context(), 1) {
			h.Must(err)
			page = slices.DeleteFunc(page, func(r request.Record) bool { return !batch.LinkExpired(r, time.Now()) })
			ids, err := h.Stores.Batches.Refresh(t.Context(), 1, page, time.Time{})
			h.Must(err)
			refreshed = append(refreshed, ids...)
		}
		return refreshed
	}
	if got := refresh(); !slices.Equal(got, []string{"S-1"}) {
		t.Fatalf("%v were refreshed, want S-1", got)
	}
	if got := refresh(); len(got) != 0 {
		t.Errorf("%v were refreshed a second time", got)
	}
	r, _ := h.Get("S-1")
	if !r.AcceptedAt.After(h.Record("R-1").AcceptedAt) {
		t.Errorf("the new generation was accepted at %v, not later than the first", r.AcceptedAt)
	}
	if r.State != request.Waiting || r.Generation != 2 || r.Run != 1 || r.Attempts != 0 || r.Batch != 1 || r.Content.Row != 121 ||
		!r.Content.NotAfter.IsZero() || r.Deadline || r.Outcome.URL != "" || r.Content.ExpiryMinutes != 1 {
		t.Errorf("the refreshed request is %+v", r)
	}
	h.ExpectCounters()
	fed := h.Feed()
	if len(fed) != 1 || fed[0].ApplicationID != "S-1" {
		t.Fatalf("%v were fed, want S-1", fed)
	}
	h.Finish(fed, "created")
	story, err := h.Stores.Records.History(t.Context(), "S-1")
	if err != nil || len(story) != 2 || story[1].Outcome.URL != ledgertest.Link().URL {
		t.Errorf("the generations are %+v, %v", story, err)
	}
	soon := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	ids, err := h.Stores.Batches.Refresh(t.Context(), 1, story[:1], soon)
	r, _ = h.Get("S-1")
	if err != nil || len(ids) != 1 || !r.Deadline || !r.Content.NotAfter.Equal(soon) {
		t.Errorf("%v were refreshed with a not_after, %v: %+v", ids, err, r)
	}
	if due, err := h.Redis.ZScore(t.Context(), h.Keys.Deadlines(), "S-1").Result(); err != nil || int64(due) != soon.UnixMilli() {
		t.Errorf("the deadline is %f, %v", due, err)
	}
}

// Refresh changes only requests that are as they were read, and only those of the batch.
func TestRefresh_LeavesRequestsThatHaveChanged(t *testing.T) {
	h := newHarness(t)
	h.RestoreEnded("spring", time.Hour, 1, 1, request.Created)
	r := h.Record("G-1")
	stale := map[string]request.Record{"another generation": r, "another run": r}
	for what, other := range stale {
		if what == "another run" {
			other.Run++
		} else {
			other.Generation++
		}
		stale[what] = other
	}
	for what, other := range stale {
		if ids, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{other}, time.Time{}); err != nil || len(ids) != 0 {
			t.Errorf("%s: %v were refreshed, %v", what, ids, err)
		}
	}
	if ids, err := h.Stores.Batches.Refresh(t.Context(), 2, []request.Record{r}, time.Time{}); err != nil || len(ids) != 0 {
		t.Errorf("%v of another batch were refreshed, %v", ids, err)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("G-1"), 4, "999").Err())
	if ids, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{h.Record("G-1")}, time.Time{}); err != nil || len(ids) != 0 {
		t.Errorf("%v were refreshed after the last generation, %v", ids, err)
	}
	h.ExpectState("G-1", "created")
}
