package erasure_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// expectNoTrace fails the test if a key or value of the account contains one of the ids.
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

// An erased request leaves only counters, whether it has several generations, failed or
// not, stands in several rows and batches, or is listed to be fed again.
func TestErase_LeavesOnlyCounters(t *testing.T) {
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
	_, _, err = h.Stores.Requests.Retry(t.Context(), failed) // it stays in the list of requeued requests
	h.Must(err)
	waiting, _ := h.Get("E-2")
	_, err = h.Stores.Requests.Cancel(t.Context(), waiting)
	h.Must(err)
	_, before := h.BatchCounters(1)

	rows, events := 0, 0
	for _, e := range h.Erase("E-1", "E-2", "E-3", "E-9") {
		if e.Erased != (e.ApplicationID != "E-9") || e.ApplicationID == "E-2" && e.Generations != 2 || e.ApplicationID == "E-1" && e.Rows != 4 {
			t.Errorf("the erasure is %+v", e)
		}
		rows, events = rows+e.Rows, events+e.Events
	}
	if rows != 9 || events != 5 { // four rows of each batch, and the requeued one
		t.Errorf("%d rows and lists lost their ids, and %d events were erased; want 9 and 5", rows, events)
	}
	h.expectNoTrace("E-1", "E-2", "E-3")
	if n, err := h.Stores.Erasure.EraseRows(t.Context(), true); err != nil || n != 0 {
		t.Errorf("%d more ids were erased from rows, %v", n, err)
	}
	counts, after := h.BatchCounters(1)
	if counts["erased"] != 3 || before != after {
		t.Errorf("the counters are %v: %d rows, and %d before", counts, after, before)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)

	// The other rows keep their numbers, and the ids can be requested again.
	var numbered []string
	for page, err := range h.Stores.Batches.Order(t.Context(), 1) {
		h.Must(err)
		for _, row := range page {
			numbered = append(numbered, fmt.Sprint(row.Row, row.ApplicationID))
		}
	}
	if want := []string{"1N-1", "2", "3", "4", "5", "6N-2"}; !slices.Equal(numbered, want) {
		t.Errorf("the rows are %v, want %v", numbered, want)
	}
	again, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "E-1"})
	if err != nil || again.Generation != 1 || again.Attempts != 0 || again.Batch != "" {
		t.Errorf("a new request of an erased id is %+v, %v", again, err)
	}
}

func TestErase_RefusesRequestsThatHaveNotEnded(t *testing.T) {
	for state, path := range ledgertest.Paths() {
		if state == "none" || request.State(state).Ended() {
			continue
		}
		h := newHarness(t)
		h.Do("A-1", path...)
		if e := h.Erase("A-1")[0]; e.Erased || e.State != request.State(state) || time.Since(e.Since).Abs() > time.Minute {
			t.Errorf("the erasure of a request that is %s is %+v", state, e)
		}
		h.ExpectState("A-1", state)
	}
}
