package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/erasure"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// expectNoTrace looks for ids in every key and value.
func (h *harness) expectNoTrace(ids ...string) {
	h.Helper()
	for key, value := range h.Dump() {
		for _, id := range ids {
			if strings.Contains(key, id) || strings.Contains(value, id) {
				h.Errorf("%s is still in %s: %s", id, key, value)
			}
		}
	}
}

// What is erased leaves nothing but counters: with several generations, failed or
// not, in several rows and batches, and among what is to be fed again.
func TestEraseLeavesCountersOnly(t *testing.T) {
	h := newHarness(t)
	list := []tasks.Request{{ApplicationID: "N-1"}, {ApplicationID: "E-1"}, {ApplicationID: "E-2"}, {ApplicationID: "E-1"}, {ApplicationID: "E-3"}, {ApplicationID: "N-2"}}
	h.Import("spring", list)
	h.Import("autumn", append(ledgertest.Rows(1, 150), list...))
	h.Finish(h.Feed(), "created", "fail", "created")
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "E-2", Generation: 2, Lane: tasks.Bulk})
	h.Must(err)
	for _, ref := range h.Feed() {
		h.Finish([]request.Ref{ref}, "fail")
	}
	failed, _ := h.Get("E-2")
	_, _, err = h.Stores.Requests.Retry(t.Context(), failed) // it stays in what is to be fed
	h.Must(err)
	waits, _ := h.Get("E-2")
	_, err = h.Stores.Requests.Cancel(t.Context(), waits)
	h.Must(err)
	_, before := h.BatchCounters(1)

	for _, e := range h.Erase("E-1", "E-2", "E-3", "E-9") {
		if e.Erased != (e.ApplicationID != "E-9") || e.ApplicationID == "E-2" && e.Generations != 2 || e.ApplicationID == "E-1" && e.Rows != 2 {
			t.Errorf("%+v", e)
		}
	}
	taken, err := h.Stores.Erasure.EraseRows(t.Context())
	if err != nil || taken != 5 { // four rows of autumn, and the one to be fed again
		t.Errorf("%d ids were taken out of rows, %v", taken, err)
	}
	gone := map[string]bool{"E-1": true, "E-2": true, "E-3": true}
	if n, err := h.Stores.Erasure.EraseEvents(t.Context(), erasure.Whom{IDs: gone}); err != nil || n != 5 {
		t.Errorf("%d events went, %v", n, err)
	}
	h.expectNoTrace("E-1", "E-2", "E-3")
	counts, after := h.BatchCounters(1)
	if counts["erased"] != 3 || before != after {
		t.Errorf("%v: %d rows, and %d before", counts, after, before)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)

	// The rows keep their places, and the ids may be requested again.
	var places []string
	for page, err := range h.Stores.Batches.Order(t.Context(), 1) {
		h.Must(err)
		for _, line := range page {
			places = append(places, fmt.Sprint(line.Row, line.ApplicationID))
		}
	}
	if want := []string{"1N-1", "2", "3", "4", "5", "6N-2"}; !slices.Equal(places, want) {
		t.Errorf("the rows are %v, want %v", places, want)
	}
	again, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "E-1"})
	if err != nil || again.Generation != 1 || again.Attempts != 0 || again.Batch != "" {
		t.Errorf("requested again: %+v, %v", again, err)
	}
}

func TestWhatHasNotEndedIsNotErased(t *testing.T) {
	for state, path := range ledgertest.Paths() {
		if state == "none" || request.State(state).Ended() {
			continue
		}
		h := newHarness(t)
		h.Do("A-1", path...)
		if e := h.Erase("A-1")[0]; e.Erased || e.State != request.State(state) || time.Since(e.Since).Abs() > time.Minute {
			t.Errorf("%s: %+v", state, e)
		}
		h.ExpectState("A-1", state)
	}
}

func TestRetention(t *testing.T) {
	h := newHarness(t)
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	h.RestoreEnded("spring", 2*time.Hour, 1, 1200, request.Created, request.Failed, request.Cancelled, request.Held, request.Waiting)
	h.RestoreEnded("spring", 50*time.Minute, 2001, 300, request.Created, request.Failed)
	// An earlier generation goes by its own end, while the latest one waits.
	h.RestoreEnded("spring", 2*time.Hour, 3001, 1, request.Created)
	r, _ := h.Get("G-3001")
	_, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{r}, time.Time{})
	h.Must(err)
	_, before := h.BatchCounters(1)

	erased := 0
	for range 100 { // a thousand keys a time at least: one round is enough
		n, err := keeper.Erasure.Retire(t.Context(), 0)
		h.Must(err)
		erased += n
	}
	counts, after := h.BatchCounters(1)
	if erased != 720 || counts["erased"] != 720 || before != after {
		t.Errorf("%d were erased, of %d rows there are %d: %v", erased, before, after, counts)
	}
	if counts["created"] != 150 || counts["failed"] != 150 || counts["held"] != 240 || counts["waiting"] != 241 || counts["cancelled"] != 0 {
		t.Errorf("%v", counts)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
	story, err := h.Stores.Records.Story(t.Context(), "G-3001")
	if err != nil || len(story) != 1 || story[0].Generation != 2 {
		t.Errorf("of what was refreshed there is %+v, %v", story, err)
	}
	if n, err := storage.Of(h.Redis, h.Keys.Account).Erasure.Retire(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("without a retention: %d, %v", n, err)
	}
}

// Rows of other batches forget what is not kept, too.
func TestRetentionScrubsRows(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 250))
	h.Import("autumn", append(ledgertest.Rows(101, 350), tasks.Request{ApplicationID: "N-1"}))
	refs := h.Feed()
	h.Finish(refs, "created")
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Millisecond})
	h.Must(h.Redis.Del(t.Context(), h.Keys.Results()).Err()) // whose age is another matter
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ApplicationID
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := keeper.Erasure.Retire(t.Context(), 0)
		h.Must(err)
		all := fmt.Sprint(h.Dump())
		if !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(all, id+"\n") || strings.Contains(all, id+" ") }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left:\n%s", all)
		}
	}
	if counts, _ := h.BatchCounters(1); counts["erased"] != 250 {
		t.Errorf("%v", counts)
	}
}

func TestForgetAside(t *testing.T) {
	h := newHarness(t)
	for _, p := range []quarantine.Entry{
		{Task: "A-1:1:1:1", Why: "asynq cannot read the task"}, {Task: "A-10:1:1:1"}, {Task: "x", Raw: []byte("\n.A-1:1:1:1\x00")},
		{Task: "y", Raw: []byte(`{"application_id":"A-10"}`)}, {Task: "z", Raw: []byte(`{"application_id":"A-1"}`)},
	} {
		h.Must(h.Stores.Quarantine.Add(t.Context(), p))
	}
	names, err := h.Stores.Erasure.QuarantinedIDs(t.Context())
	if err != nil || len(names) != 2 || !names["A-1"] {
		t.Errorf("%v, %v", names, err)
	}
	n, err := h.Stores.Erasure.EraseQuarantined(t.Context(), map[string]bool{"A-1": true})
	var left []quarantine.Entry
	for p, err := range h.Stores.Quarantine.All(t.Context()) {
		h.Must(err)
		left = append(left, p)
	}
	if n != 3 || err != nil || len(left) != 2 || left[0].Task != "y" || left[1].Task != "A-10:1:1:1" {
		t.Errorf("%d went, %v; left are %+v", n, err, left)
	}
}
