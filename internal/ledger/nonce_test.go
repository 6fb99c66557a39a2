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

// losing is a bench whose Redis loses its last writes: those since keep.
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

func (l *losing) ask(by *storage.Stores, ref request.Ref, nonce string) attempt.Decision {
	l.Helper()
	answer, err := by.Requests.Admit(l.Context(), attempt.Query{Ref: ref, Defaults: ledgertest.Defaults(), Nonce: nonce})
	l.Must(err)
	return answer
}

// queued is a signup whose call may be sent as soon as it is asked for.
func (l *losing) queued(id string) request.Ref {
	l.Helper()
	_, err := l.Client.Enqueue(l.Context(), tasks.Request{ApplicationID: id})
	l.Must(err)
	r, _ := l.Get(id)
	l.TryAdmit(l.Stores, request.Ref{ApplicationID: "nobody"}) // opens the gate wide
	now, err := l.Redis.Time(l.Context()).Result()
	l.Must(err)
	l.until(now.Add(5 * time.Millisecond)) // the bucket fills by Redis' clock
	return r.Ref()
}

func (l *losing) expect(id string, attempts, duplicates int) {
	l.Helper()
	if r, _ := l.Get(id); r.Attempts != attempts || r.PossibleDuplicates != duplicates {
		l.Errorf("%s is %s after %d attempts, with %d possible duplicates; want %d and %d",
			id, r.State, r.Attempts, r.PossibleDuplicates, attempts, duplicates)
	}
}

// A link was made and recorded, and Redis lost that: the process finds the mark of its
// own, a moment old, and must not take it for one that no call followed.
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
		t.Fatalf("the verdict is %s", answer.Verdict)
	}
	l.expect("A-1", 2, 1)
}

// A grant whose reply was lost is known by its nonce, however old it is.
func TestAdmit_RepeatsAGrantWhoseReplyWasLost(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	ref := l.queued("A-1")
	l.ask(l.Stores, ref, "first")
	l.keep()
	l.lose()
	answer := l.ask(l.Stores, ref, "first")
	if answer.Verdict != attempt.Granted {
		t.Fatalf("the verdict is %s, want granted", answer.Verdict)
	}
	// The first one's connection was slow: it comes after the second's grant was used.
	if again := l.ask(l.Stores, ref, "first"); again.Verdict != attempt.Granted || again.Attempt.Attempts != 1 {
		t.Errorf("asked once more: %s, attempt %d", again.Verdict, again.Attempt.Attempts)
	}
	putBack := func(a attempt.Attempt) (request.State, error) {
		return l.Stores.Requests.Fault(t.Context(), a, &fault.Fault{Kind: fault.Interrupted}, attempt.Next{Action: attempt.Requeue})
	}
	for range 2 { // its reply may be lost, too
		if state, err := putBack(answer.Attempt); err != nil || state != request.Queued {
			t.Errorf("given back: %q, %v", state, err)
		}
	}
	l.expect("A-1", 0, 0)
	l.ask(l.Stores, ref, "second")
	if state, err := putBack(answer.Attempt); err != nil || state != "" {
		t.Errorf("the first grant gives the second one back: %q, %v", state, err)
	}
	if r, _ := l.Get("A-1"); r.State != request.Calling || r.Attempts != 1 {
		t.Errorf("it is %s after %d attempts", r.State, r.Attempts)
	}
}

// Redis lost the mark itself: the fault counts all the same, as nobody else knows of
// the call, and whatever call of that number is out now keeps its own outcome.
func TestFault_CountsACallWhoseGrantRedisLost(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		called               bool // by another process, by then
		attempts, duplicates int
	}{
		"nobody calls by then":          {false, 1, 1},
		"another process calls by then": {true, 1, 1},
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
				t.Errorf("the fault is of the current attempt: %q, %v", state, err)
			}
			l.expect("A-1", tt.attempts, tt.duplicates)
			if tt.called {
				state, err := other.Requests.Fault(t.Context(), b, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8})
				if err != nil || state != request.Queued {
					t.Errorf("the other's fault: %q, %v", state, err)
				}
				l.expect("A-1", 1, 2)
			}
		})
	}
}

// A link of a call whose mark Redis lost says that there was one.
func TestCreated_CountsACallWhoseGrantRedisLost(t *testing.T) {
	t.Parallel()
	l := newLosing(t)
	ref := l.queued("A-1")
	l.keep()
	a := l.ask(l.Stores, ref, "first").Attempt
	l.lose()
	if state, err := l.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Fatalf("its link: %q, %v", state, err)
	}
	l.expect("A-1", 1, 0)
}

// A link ends a run while another call of it is out, which may make one as well.
func TestCreated_CountsAnotherCallInFlightAsPossibleDuplicate(t *testing.T) {
	t.Parallel()
	h, a := started(t)
	h.Admit(h.Stores, a.Ref(), attempt.Call) // the first one's handler is gone
	if state, err := h.Stores.Requests.Created(t.Context(), a, ledgertest.Link()); err != nil || state != request.Created {
		t.Fatalf("its link: %q, %v", state, err)
	}
	if r, _ := h.Get("A-1"); r.Attempts != 2 || r.PossibleDuplicates != 2 {
		t.Errorf("%d attempts, %d possible duplicates; want 2 and 2", r.Attempts, r.PossibleDuplicates)
	}
	if n := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); n != 0 {
		t.Errorf("%d calls are out", n)
	}
}

// Members that an earlier version wrote have no nonce.
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
		t.Errorf("%v, %v", lost, err)
	}
	if n := h.Redis.ZCard(t.Context(), calls).Val(); n != 1 {
		t.Fatal("a call that is out was taken away")
	}
	a = h.Admit(h.Stores, a.Ref(), attempt.Call) // counted as a possible duplicate
	if r, _ := h.Get("A-1"); r.PossibleDuplicates != 1 {
		t.Errorf("%d possible duplicates", r.PossibleDuplicates)
	}
	if n := h.Redis.ZCard(t.Context(), calls).Val(); n != 1 {
		t.Errorf("%d calls are out, want one", n)
	}
}

// A batch's number is another batch's after Redis lost its last writes: events name the
// one that the request is in.
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
	_, err = l.Stores.Requests.Cancel(t.Context(), r) // without a mark
	l.Must(err)
	a = l.Admit(l.Stores, l.Feed()[0], attempt.Call)
	_, err = l.Stores.Requests.Created(t.Context(), a, ledgertest.Link())
	l.Must(err)
	entries, err := l.Redis.XRange(t.Context(), l.Keys.Results(), "-", "+").Result()
	l.Must(err)
	if len(entries) != 2 {
		t.Fatalf("%d events", len(entries))
	}
	for _, entry := range entries {
		if e, err := tasks.ParseEvent(entry.Values); err != nil || e.Data.Batch != "autumn" {
			t.Errorf("the event of %s is of batch %q, %v", e.Data.ApplicationID, e.Data.Batch, err)
		}
	}
}
