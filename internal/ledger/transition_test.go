package ledger_test

import (
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

// succeed makes the link of another request, which proves that FaceKi works, so that faults
// are charged.
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
	expect := func(charged, dups int) {
		t.Helper()
		r, _ := h.Get("A-1")
		if r.Charged != charged || r.PossibleDuplicates != dups {
			t.Fatalf("charged %d, possible duplicates %d; want %d and %d", r.Charged, r.PossibleDuplicates, charged, dups)
		}
	}
	fails(fault.ServerError)
	fails(fault.ServerError)
	expect(0, 2) // no other request succeeds: FaceKi may be down
	h.succeed("B-1")
	fails(fault.Unavailable)
	expect(0, 2) // a 503 is not caused by the request
	fails(fault.LinkNotMade)
	expect(1, 2)
	if state := fails(fault.LinkNotMade); state != request.Failed {
		t.Fatalf("the request is %s after the last charged fault, want failed", state)
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 5 || r.Outcome.Reason != "upstream_error" {
		t.Errorf("the request failed after %d attempts with reason %q", r.Attempts, r.Outcome.Reason)
	}
}

func TestAdmit_CountsADeadAttemptAsPossibleDuplicate(t *testing.T) {
	h, a := started(t)
	h.Admit(h.AnotherWorker(), a.Ref(), attempt.Busy)

	// Another worker that has reached Redis for long enough finds the silent one dead.
	observer := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true, DeadAfter: time.Millisecond}})
	h.Admit(observer, a.Ref(), attempt.Busy) // it has not reached Redis at all yet
	h.Must(observer.Fleet.Join(t.Context()))
	var admission attempt.Verdict
	for deadline := time.Now().Add(time.Minute); admission != attempt.Call; {
		if time.Now().After(deadline) {
			t.Fatalf("the admission is still %q", admission)
		}
		admission = h.TryAdmit(observer, a.Ref()).Verdict
	}
	r, _ := h.Get("A-1")
	if r.Attempts != 2 || r.PossibleDuplicates != 1 {
		t.Fatalf("attempts %d, possible duplicates %d; want 2 and 1", r.Attempts, r.PossibleDuplicates)
	}
	// The late answer of the first attempt: its fault does not count, its link does.
	state, err := h.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail})
	if err != nil || state != "" {
		t.Errorf("the fault of a superseded attempt makes the request %q, %v", state, err)
	}
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Errorf("the link of a superseded attempt makes the request %q, %v", state, err)
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
			t.Fatalf("cancelled while calling, the request is %q, %v", state, err)
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
			t.Fatalf("the late request is %q, %v: %+v", state, err, r)
		}
	})
	t.Run("ends a request after a fault of its call, but not after a link", func(t *testing.T) {
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
	t.Run("rejects a not_after in the past for a new id only", func(t *testing.T) {
		t.Parallel()
		h := newHarness(t)
		req := soon("A-1")
		_, err := h.Client.Enqueue(t.Context(), req)
		h.Must(err)
		h.untilPast("A-1")
		if _, err := h.Client.Enqueue(t.Context(), req); err != nil {
			t.Errorf("repeating the request returned %v", err)
		}
		req.ApplicationID = "A-2"
		if _, err := h.Client.Enqueue(t.Context(), req); tasks.ReasonOf(err) != "invalid" {
			t.Errorf("a new id returned %v, want it rejected as invalid", err)
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
		t.Errorf("a real worker asked for admission in a simulated account: %v", err)
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
		t.Errorf("the record is %+v", r)
	}
	if n := h.EventCount(); n != 1 {
		t.Errorf("%d events were published, want only that of the failure", n)
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
		t.Errorf("the request that was being called is %+v", got)
	}
	refs := h.Feed()
	if len(refs) != 1 || refs[0].ApplicationID != "A-1" {
		t.Fatalf("%v were fed, want A-1", refs)
	}
	h.Admit(h.Stores, refs[0], attempt.Expired)
	if got, _ := h.Get("A-2"); got.Outcome.URL != created.Outcome.URL {
		t.Errorf("the created request is %+v", got)
	}
	h.ExpectCounters()
}

// A restored interactive request is not fed. It is queued and overdue, so that recovery
// enqueues its task.
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
			t.Fatalf("the overdue turns of a request that was %s are %v", state, refs)
		}
		h.ExpectCounters()
		h.Admit(h.Stores, refs[0], attempt.Call)
		h.ExpectCounters()
	}
}
