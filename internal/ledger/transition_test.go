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
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// started returns an account whose only request is being called, and that call.
func started(t *testing.T) (*harness, attempt.Attempt) {
	h, a := ledgertest.NewCalling(t)
	return &harness{h}, a
}

// succeed makes another request's link, which is what blames a fault.
func (h *harness) succeed(id string) {
	h.Helper()
	_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: id})
	h.Must(err)
	r, _ := h.Get(id)
	_, err = h.Stores.Requests.Created(h.Context(), h.Admit(h.Stores, r.Ref(), attempt.Call), ledgertest.Link())
	h.Must(err)
}

func TestFault_IsChargedOnlyAfterAnotherRequestSucceeds(t *testing.T) {
	h, a := started(t)
	fails := func(kind fault.Kind) request.State {
		state, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: kind}, attempt.Next{Action: attempt.Retry, MaxCharged: 2})
		h.Must(err)
		if state == request.Queued {
			a = h.Admit(h.Stores, a.Ref(), attempt.Call)
		}
		return state
	}
	expect := func(spent, dups int) {
		t.Helper()
		r, _ := h.Get("A-1")
		if r.Charged != spent || r.PossibleDuplicates != dups {
			t.Fatalf("spent %d, possible duplicates %d; want %d and %d", r.Charged, r.PossibleDuplicates, spent, dups)
		}
	}
	fails(fault.ServerError)
	fails(fault.ServerError)
	expect(0, 2) // nobody else succeeds: perhaps FaceKi is down
	h.succeed("B-1")
	fails(fault.Unavailable)
	expect(0, 2) // 503 says nothing of a request
	fails(fault.LinkNotMade)
	expect(1, 2)
	if state := fails(fault.LinkNotMade); state != request.Failed {
		t.Fatalf("state is %s after the last spent fault, want failed", state)
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 5 || r.Outcome.Reason != "upstream_error" {
		t.Errorf("got %d attempts, reason %q", r.Attempts, r.Outcome.Reason)
	}
}

func TestAdmit_CountsADeadAttemptAsPossibleDuplicate(t *testing.T) {
	h, a := started(t)
	h.Admit(h.AnotherWorker(), a.Ref(), attempt.Busy)

	// Another process that has reached Redis for long enough judges the silent one.
	judge := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}})
	h.Admit(judge, a.Ref(), attempt.Busy) // it has not reached Redis at all yet
	h.Must(judge.Fleet.Join(t.Context()))
	var verdict attempt.Verdict
	for deadline := time.Now().Add(time.Minute); verdict != attempt.Call; {
		if time.Now().After(deadline) {
			t.Fatalf("verdict is still %q", verdict)
		}
		verdict = h.TryAdmit(judge, a.Ref()).Verdict
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 2 || r.PossibleDuplicates != 1 {
		t.Fatalf("attempts %d, possible duplicates %d; want 2 and 1", r.Attempts, r.PossibleDuplicates)
	}
	// The late answer of the first attempt: its fault does not count, its link does.
	state, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail})
	if err != nil || state != "" {
		t.Errorf("a superseded attempt's fault: %q, %v", state, err)
	}
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Errorf("a superseded attempt's link: %q, %v", state, err)
	}
}

func TestCancel_IsRememberedDuringACall(t *testing.T) {
	for follows, want := range map[attempt.Action]request.State{
		attempt.Retry: request.Cancelled, attempt.Fail: request.Cancelled, attempt.Hold: request.Cancelled,
		attempt.Requeue: request.Cancelled, "created": request.Created,
	} {
		h, a := started(t)
		state, err := h.Stores.Requests.Cancel(t.Context(), a.Record)
		if err != nil || state != request.Calling {
			t.Fatalf("cancel while calling: %q, %v", state, err)
		}
		if follows == "created" {
			state, err = h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
		} else {
			state, err = h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: follows, MaxCharged: 8})
		}
		if err != nil || state != want {
			t.Errorf("cancelled while calling, then %s: %q, %v; want %q", follows, state, err, want)
		}
	}
}

func TestNotAfter_EndsRequestsThatAreNotBeingCalled(t *testing.T) {
	t.Parallel()
	soon := func(id string) tasks.Request {
		return tasks.Request{ApplicationID: id, Lane: tasks.Bulk, NotAfter: time.Now().Add(5 * time.Second)}
	}
	t.Run("ends a queued request without a call", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		_, err := h.Client.Enqueue(t.Context(), soon("A-1"))
		h.Must(err)
		ref := h.Feed()[0]
		h.untilPast("A-1")
		a := h.Admit(h.Stores, ref, attempt.Expired)
		state, err := h.Stores.Requests.Expire(t.Context(), a.Record)
		r, _ := h.Get("A-1")
		if err != nil || state != request.Failed || r.Outcome.Reason != "not_after" || r.Attempts != 0 {
			t.Fatalf("%q, %v: %+v", state, err, r)
		}
	})
	t.Run("ends a called one after a fault, not after a link", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		for _, id := range []string{"A-1", "A-2"} {
			_, err := h.Client.Enqueue(t.Context(), soon(id))
			h.Must(err)
		}
		refs := h.Feed()
		first, second := h.Admit(h.Stores, refs[0], attempt.Call), h.Admit(h.Stores, refs[1], attempt.Call)
		h.untilPast("A-2")
		h.Fault(first.ApplicationID, fault.Unavailable, attempt.Retry)
		h.ExpectState(first.ApplicationID, "failed")
		_, err := h.Stores.Requests.Created(t.Context(), second, ledgertest.Link())
		h.Must(err)
		h.ExpectState(second.ApplicationID, "created")
	})
	t.Run("a past one is refused for an unknown id only", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		req := soon("A-1")
		_, err := h.Client.Enqueue(t.Context(), req)
		h.Must(err)
		h.untilPast("A-1")
		if _, err := h.Client.Enqueue(t.Context(), req); err != nil {
			t.Errorf("a repeat: %v", err)
		}
		req.ApplicationID = "A-2"
		if _, err := h.Client.Enqueue(t.Context(), req); tasks.ReasonOf(err) != "invalid" {
			t.Errorf("an unknown id: %v", err)
		}
	})
}

// untilPast waits until the request's not_after has passed by Redis' clock.
func (h *harness) untilPast(id string) {
	h.Helper()
	r, _ := h.Get(id)
	h.until(r.Content.NotAfter)
}

// until waits until a time has passed by Redis' clock.
func (h *harness) until(at time.Time) {
	h.Helper()
	for {
		now, err := h.Redis.Time(h.Context()).Result()
		h.Must(err)
		left := at.Add(2 * time.Millisecond).Sub(now)
		if left <= 0 {
			return
		}
		<-time.After(left)
	}
}

func TestAccount_HasOneKindOfLinks(t *testing.T) {
	h, a := started(t)
	realOne := storage.Of(h.Redis, h.Keys.Account)
	_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	h.Must(err)

	_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-2"})
	h.Must(err)
	r, _ := h.Get("A-2")
	_, err = realOne.Requests.Admit(t.Context(), attempt.Query{Ref: r.Ref(), Defaults: ledgertest.Defaults()})
	if err == nil || !strings.Contains(err.Error(), "is simulated") {
		t.Errorf("a real mark in a simulated account: %v", err)
	}
	if err := storage.Of(h.Redis, h.Keys.Account).Fleet.Join(t.Context()); err == nil {
		t.Error("a real worker joined a simulated account")
	}
}

func TestCreated_KeepsALateLink(t *testing.T) {
	h, a := started(t)
	h.Fault("A-1", fault.BadRequest, attempt.Fail)
	if _, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time as after a lost reply
		_, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
		h.Must(err)
	}
	r, _ := h.Get("A-1")
	if len(r.Past) != 1 || !r.Past[0].Late || r.Past[0].URL != ledgertest.Link().URL || r.State != request.Failed {
		t.Errorf("record is %+v", r)
	}
	if n := h.EventCount(); n != 1 {
		t.Errorf("%d events, want the failure's alone", n)
	}
}

func TestFeed_IsBoundedAndFair(t *testing.T) {
	h := newHarness(t)
	h.Import("large", ledgertest.Rows(1, 950))
	h.Import("small", ledgertest.Rows(1001, 1010))
	fed := h.FeedUpTo(h.Stores, 250)
	refs, leads := fed.Refs, fed.Leads
	if !leads || len(refs) < 250 || len(refs) >= 350 {
		t.Fatalf("fed %d, leads %v", len(refs), leads)
	}
	if !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1010" }) {
		t.Error("the small batch was not served in the first round")
	}
	if more := h.FeedUpTo(h.Stores, 250).Refs; len(more) != 0 {
		t.Errorf("the lane is full, and %d more were fed", len(more))
	}
	other := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(other.Fleet.Join(t.Context()))
	if fed := h.FeedUpTo(other, 10000); fed.Leads || len(fed.Refs) != 0 {
		t.Errorf("a second process fed %d, leads %v", len(fed.Refs), fed.Leads)
	}
	for fed := len(refs); fed < 960; {
		more := h.FeedUpTo(h.Stores, 100000).Refs
		if len(more) == 0 {
			t.Fatalf("only %d of 960 were fed", fed)
		}
		fed += len(more)
	}
	h.ExpectCounters()
}

// An import that was changed and done again must feed its new rows too, though
// the feeder has passed their chunk, and lose none of its old ones.
func TestFeed_FeedsNewRowsOfAnEditedImport(t *testing.T) {
	edited := ledgertest.Rows(1, 150)
	edited[10].ApplicationID = "NEW-1"
	edited[120].ApplicationID = "NEW-2"
	for name, before := range map[string]int{"before it was fed": 0, "in the middle": 1, "afterwards": 1000} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.Import("spring", ledgertest.Rows(1, 150))
			refs := h.FeedUpTo(h.Stores, before).Refs
			h.Import("spring", edited)
			h.Import("spring", edited)
			fed := map[string]bool{}
			for _, r := range append(refs, h.Feed()...) {
				if fed[r.ApplicationID] {
					t.Errorf("%s was fed twice", r.ApplicationID)
				}
				fed[r.ApplicationID] = true
			}
			if len(fed) != 152 {
				t.Errorf("fed %d ids, want the 150 and the two new ones", len(fed))
			}
			h.ExpectCounters()
		})
	}
}

// Where rows leave a chunk that was fed in part, those after them are fed all the
// same.
func TestFeed_FeedsTheRestOfAShortenedChunk(t *testing.T) {
	h := newHarness(t)
	for n := 1; n <= 20; n++ {
		_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: fmt.Sprint("R-", n)}) // which then joins
		h.Must(err)
	}
	h.Import("spring", ledgertest.Rows(1, 90))
	fed := len(h.FeedUpTo(h.Stores, 40).Refs)
	if fed == 0 || fed >= 70 {
		t.Fatalf("%d were fed", fed)
	}
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		for i, r := range ledgertest.Rows(21, 90) {
			if !yield(tasks.Row{Number: 21 + i, Request: r}, nil) {
				return
			}
		}
	}, func(r tasks.Result) { h.Must(r.Err) }))
	for range 5 {
		fed += len(h.Feed())
	}
	if fed != 70 {
		t.Errorf("%d of 70 were fed", fed)
	}
}

func TestRestore_CountsTheCallInFlight(t *testing.T) {
	h := newHarness(t)
	base := request.Record{
		Lane: request.Bulk, Generation: 1, Run: 2, Attempts: 3, PossibleDuplicates: 1, AcceptedAt: time.UnixMilli(1e12).UTC(),
		ChangedAt: time.UnixMilli(1e12).UTC(), Past: []request.Outcome{{Run: 1, Status: request.Failed, Reason: "timeout"}},
	}
	calling, created := base, base
	calling.ApplicationID, calling.State = "A-1", request.Calling
	calling.Deadline, calling.Content.NotAfter = true, time.UnixMilli(1e12+1).UTC() // long past
	created.ApplicationID, created.State = "A-2", request.Created
	created.Outcome = request.Outcome{Run: 2, Status: request.Created, LinkID: "x", URL: "https://simulator.invalid/x"}
	for range 2 {
		h.Must(h.Stores.Requests.Restore(t.Context(), "spring", []request.Record{calling, created}))
	}
	got, _ := h.Get("A-1")
	if got.State != request.Waiting || got.PossibleDuplicates != 2 || got.Attempts != 3 || len(got.Past) != 1 {
		t.Errorf("what was being called is %+v", got)
	}
	refs := h.Feed()
	if len(refs) != 1 || refs[0].ApplicationID != "A-1" {
		t.Fatalf("fed %v", refs)
	}
	h.Admit(h.Stores, refs[0], attempt.Expired)
	if got, _ := h.Get("A-2"); got.Outcome.URL != created.Outcome.URL {
		t.Errorf("what was created is %+v", got)
	}
	h.ExpectCounters()
}

// What a run's file gave the interactive lane is not fed: it goes on as queued, and
// is overdue, so that the sweep sees to its task.
func TestRestore_QueuesInteractiveRequests(t *testing.T) {
	for _, state := range []request.State{request.Waiting, request.Queued, request.Calling} {
		h := newHarness(t)
		r := request.Record{
			ApplicationID: "A-1", State: state, Lane: request.Interactive, Generation: 1, Run: 1, Turn: 3, Attempts: 1,
			AcceptedAt: time.UnixMilli(1e12).UTC(), ChangedAt: time.UnixMilli(1e12).UTC(),
		}
		h.Must(h.Stores.Requests.Restore(t.Context(), "spring", []request.Record{r}))
		refs, _, err := h.Stores.Requests.Overdue(t.Context(), request.Interactive, time.Minute)
		h.Must(err)
		if len(refs) != 1 || len(h.Feed()) != 0 {
			t.Fatalf("of one that was %s, %v is overdue", state, refs)
		}
		h.ExpectCounters()
		h.Admit(h.Stores, refs[0], attempt.Call)
		h.ExpectCounters()
	}
}
