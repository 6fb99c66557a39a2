package ledger_test

import (
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// losing is an account of a Redis that can lose its last writes: those since keep.
type losing struct {
	*harness
	server *redistest.Server
}

func newLosing(t *testing.T) *losing {
	server := redistest.Start(t)
	return &losing{newHarnessOn(t, server), server}
}

func (l *losing) keep() { l.Helper(); l.Must(l.server.Snapshot()) }
func (l *losing) lose() { l.Helper(); l.Must(l.server.LoseWrites()) }

// ask asks for the admission of a turn, with a nonce.
func (l *losing) ask(by *storage.Stores, ref request.Ref, nonce string) attempt.Decision {
	l.Helper()
	answer, err := by.Requests.Admit(l.Context(), attempt.Query{Ref: ref, Defaults: ledgertest.Defaults(), Nonce: nonce})
	l.Must(err)
	return answer
}

// queued returns the turn of a new interactive request, whose call is granted at once.
func (l *losing) queued(id string) request.Ref {
	l.Helper()
	_, err := l.Client.Enqueue(l.Context(), tasks.Request{ApplicationID: id})
	l.Must(err)
	r, _ := l.Get(id)
	l.TryAdmit(l.Stores, request.Ref{ApplicationID: "nobody"}) // opens the gate and raises the rate
	now, err := l.Redis.Time(l.Context()).Result()
	l.Must(err)
	l.until(now.Add(5 * time.Millisecond)) // the token bucket fills by Redis' clock
	return r.Ref()
}

// expect compares the attempts and the possible duplicates of a request.
func (l *losing) expect(id string, attempts, duplicates int) {
	l.Helper()
	if r, _ := l.Get(id); r.Attempts != attempts || r.PossibleDuplicates != duplicates {
		l.Errorf("%s is %s after %d attempts, with %d possible duplicates; want %d and %d",
			id, r.State, r.Attempts, r.PossibleDuplicates, attempts, duplicates)
	}
}

// Redis lost that a call made a link: the process finds its own recent grant, and must
// not conclude that no call followed it.
func TestAdmit_CountsACallWhoseLinkRedisLost(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	ref := l.queued("A-1")
	a := l.ask(l.Stores, ref, "first").Attempt
	l.keep()
	_, err := l.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	l.Must(err)
	l.lose()
	if answer := l.ask(l.Stores, ref, "second"); answer.Verdict != attempt.Call {
		t.Fatalf("the admission is %s, want call", answer.Verdict)
	}
	l.expect("A-1", 2, 1)
}

// A grant whose reply was lost is recognised by its nonce, however old it is.
func TestAdmit_RepeatsAGrantWhoseReplyWasLost(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	ref := l.queued("A-1")
	l.ask(l.Stores, ref, "first")
	l.keep()
	l.lose()
	answer := l.ask(l.Stores, ref, "first")
	if answer.Verdict != attempt.Granted {
		t.Fatalf("the admission is %s, want granted", answer.Verdict)
	}
	// The first query's connection was slow: it arrives after the second's grant was used.
	if again := l.ask(l.Stores, ref, "first"); again.Verdict != attempt.Granted || again.Attempt.Attempts != 1 {
		t.Errorf("the repeated query is answered %s, attempt %d", again.Verdict, again.Attempt.Attempts)
	}
	requeue := func(a attempt.Attempt) (request.State, error) {
		return l.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.Interrupted}, attempt.Next{Action: attempt.Requeue})
	}
	for range 2 { // the second time as after a lost reply
		if state, err := requeue(answer.Attempt); err != nil || state != request.Queued {
			t.Errorf("the requeued request is %q, %v", state, err)
		}
	}
	l.expect("A-1", 0, 0)
	l.ask(l.Stores, ref, "second")
	if state, err := requeue(answer.Attempt); err != nil || state != "" {
		t.Errorf("the first grant requeues the call of the second: %q, %v", state, err)
	}
	if r, _ := l.Get("A-1"); r.State != request.Calling || r.Attempts != 1 {
		t.Errorf("the request is %s after %d attempts", r.State, r.Attempts)
	}
}

// Redis lost the grant itself: the fault counts, as nothing else proves the call, and
// another call in flight with the same number keeps its own outcome.
func TestFault_CountsACallWhoseGrantRedisLost(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		called               bool // another process has called the request meanwhile
		attempts, duplicates int
	}{
		"no process has called meanwhile":      {false, 1, 1},
		"another process has called meanwhile": {true, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLosing(t)
			ref := l.queued("A-1")
			other := l.AnotherWorker()
			l.keep()
			a := l.ask(l.Stores, ref, "first").Attempt
			l.lose()
			var b attempt.Attempt
			if tt.called {
				b = l.ask(other, ref, "second").Attempt
			}
			state, err := l.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8})
			if err != nil || state != "" {
				t.Errorf("the fault ends the current attempt: %q, %v", state, err)
			}
			l.expect("A-1", tt.attempts, tt.duplicates)
			if tt.called {
				state, err := other.Requests.Fault(t.Context(), b, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8})
				if err != nil || state != request.Queued {
					t.Errorf("the other call's fault makes the request %q, %v", state, err)
				}
				l.expect("A-1", 1, 2)
			}
		})
	}
}

// The link of a call whose grant Redis lost proves the call.
func TestCreated_CountsACallWhoseGrantRedisLost(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	ref := l.queued("A-1")
	l.keep()
	a := l.ask(l.Stores, ref, "first").Attempt
	l.lose()
	if state, err := l.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Fatalf("the link makes the request %q, %v", state, err)
	}
	l.expect("A-1", 1, 0)
}

// A link ends a run while another of its calls is in flight, which may make a link, too.
func TestCreated_CountsAnotherCallInFlightAsPossibleDuplicate(t *testing.T) {
	t.Parallel()
	h, a := started(t)
	h.Admit(h.Stores, a.Ref(), attempt.Call) // the handler of the first call is gone
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Fatalf("the link makes the request %q, %v", state, err)
	}
	if r, _ := h.Get("A-1"); r.Attempts != 2 || r.PossibleDuplicates != 2 {
		t.Errorf("%d attempts, %d possible duplicates; want 2 and 2", r.Attempts, r.PossibleDuplicates)
	}
	if n := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); n != 0 {
		t.Errorf("%d calls are in flight, want none", n)
	}
}

// The calls that an earlier version stored have no nonce.
func TestCalls_OfAnEarlierVersionAreFound(t *testing.T) {
	t.Parallel()
	h, a := started(t)
	calls := h.Keys.Calls()
	old := func() {
		t.Helper()
		member := h.Redis.ZRangeWithScores(t.Context(), calls, 0, -1).Val()[0]
		h.Must(h.Redis.Del(t.Context(), calls).Err())
		member.Member = member.Member.(string)[:len(member.Member.(string))-len(a.Nonce)-1]
		h.Must(h.Redis.ZAdd(t.Context(), calls, member).Err())
	}
	old()
	if lost, _, err := h.Stores.Requests.LostCalls(t.Context(), ""); err != nil || len(lost) != 0 {
		t.Errorf("the calls %v are lost, %v", lost, err)
	}
	if n := h.Redis.ZCard(t.Context(), calls).Val(); n != 1 {
		t.Fatal("a call in flight was removed")
	}
	a = h.Admit(h.Stores, a.Ref(), attempt.Call) // counted as a possible duplicate
	if r, _ := h.Get("A-1"); r.PossibleDuplicates != 1 {
		t.Errorf("%d possible duplicates are counted, want 1", r.PossibleDuplicates)
	}
	if n := h.Redis.ZCard(t.Context(), calls).Val(); n != 1 {
		t.Errorf("%d calls are in flight, want one", n)
	}
}

// After Redis lost its last writes, the number of a batch is given to another batch.
// Events name the batch of their request.
func TestEvent_NamesTheBatchOfAReusedNumber(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	l.keep()
	l.ImportRow("A-1")
	a := l.Admit(l.Stores, l.Feed()[0], attempt.Call)
	_, err := l.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	l.Must(err)
	l.lose()
	for _, id := range []string{"B-1", "B-2"} {
		rows := tasks.Rows([]tasks.Request{{ApplicationID: id}})
		l.Must(l.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "autumn"}, rows, func(r tasks.Result) { l.Must(r.Err) }))
	}
	r, _ := l.Get("B-2")
	_, err = l.Stores.Requests.Cancel(t.Context(), r) // without a call
	l.Must(err)
	a = l.Admit(l.Stores, l.Feed()[0], attempt.Call)
	_, err = l.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	l.Must(err)
	entries, err := l.Redis.XRange(t.Context(), l.Keys.Results(), "-", "+").Result()
	l.Must(err)
	if len(entries) != 2 {
		t.Fatalf("%d events were published, want 2", len(entries))
	}
	for _, entry := range entries {
		if e, err := tasks.ParseEvent(entry.Values); err != nil || e.Data.Batch != "autumn" {
			t.Errorf("the event of %s names batch %q, %v", e.Data.ApplicationID, e.Data.Batch, err)
		}
	}
}
