package ledger_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
)

// attemptsOf describes the attempts of a record, in all its runs, that brought no link.
func attemptsOf(r request.Record) (texts []string) {
	for _, o := range append(r.Past[:len(r.Past):len(r.Past)], r.Outcome) {
		for _, a := range o.Attempts {
			text := fmt.Sprintf("run %d: attempt %d", o.Run, a.Number)
			if a.Reason != "" {
				text += " " + a.Reason
			}
			if a.Took != nil {
				text += fmt.Sprintf(" %dms", *a.Took)
			}
			if a.Uncertain {
				text += " uncertain"
			}
			texts = append(texts, text)
		}
	}
	return texts
}

func TestRecord_HasEachAttemptOfAllRuns(t *testing.T) {
	h, _ := ledgertest.NewCalling(t)
	faults := func(kind fault.Kind, message string, took time.Duration, next attempt.Action) {
		t.Helper()
		a := h.Attempt("A-1")
		a.Took = took
		_, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: kind, Detail: message}, attempt.Next{Action: next, MaxCharged: 8})
		h.Must(err)
	}
	faults(fault.Unavailable, `,"attempts":[{"n":7,"at":1}]`, 12*time.Millisecond, attempt.Retry)
	h.Do("A-1", "admit", "requeue") // the call was not sent: this was no attempt
	h.Do("A-1", "admit", "admit")   // the process does not know of its earlier call any more
	faults(fault.BadRequest, "", 0, attempt.Fail)
	h.Do("A-1", "reopen", "feed", "admit")
	faults(fault.TimedOut, "", 30*time.Second, attempt.Hold)
	h.Do("A-1", "reopen", "feed", "admit")
	faults(fault.ServerError, "", 5*time.Millisecond, attempt.Retry)
	h.Do("A-1", "admit", "lost", "reopen", "feed", "admit")
	a := h.Attempt("A-1")
	a.Took = 345 * time.Millisecond
	_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	h.Must(err)

	r, _ := h.Get("A-1")
	want := []string{
		"run 1: attempt 1 upstream_unavailable 12ms", "run 1: attempt 2 uncertain", "run 1: attempt 3 invalid_request 0ms",
		"run 2: attempt 4 unknown_outcome 30000ms uncertain", "run 2: attempt 5 upstream_error 5ms uncertain",
		"run 2: attempt 6 unknown_outcome uncertain",
	}
	if got := attemptsOf(r); !slices.Equal(got, want) {
		t.Errorf("got the attempts\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r.Attempts != 7 || r.State != request.Created || r.Outcome.Took == nil || *r.Outcome.Took != 345 {
		t.Errorf("got %+v, want 7 attempts, the last of 345 ms", r)
	}
	for _, events := range h.Events(false) {
		for _, key := range []string{"took", "n"} {
			if _, ok := events[key]; ok {
				t.Errorf("an event has the key %q: %v", key, events)
			}
		}
	}
}

func TestRecord_KeepsTheLatestTenAttempts(t *testing.T) {
	h, _ := ledgertest.NewCalling(t)
	for range 12 {
		h.Do("A-1", "retry", "admit")
	}
	h.Do("A-1", "cancel", "retry")
	r, _ := h.Get("A-1")
	if got := attemptsOf(r); r.State != request.Cancelled || len(got) != 10 || !strings.Contains(got[0], "attempt 4 ") || !strings.Contains(got[9], "attempt 13 ") {
		t.Errorf("got the attempts of a request that is %s\n%s\nwant those from 4 to 13", r.State, strings.Join(got, "\n"))
	}
}
