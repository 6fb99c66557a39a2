package bulk

import (
	"errors"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/request"
)

// recorded are the transitions, each from a request that is queued or calling.
var recorded = []struct {
	name   string
	called bool // it ends an attempt
	do     func(h *harness, r *recorder.Recorder, a attempt.Attempt) error
	want   string
}{
	{"mark", false, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Mark(h.Context(), attempt.Query{Ref: a.Ref()})
		return err
	}, "[A-1 calling 1]"},
	{"created", true, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Created(h.Context(), a, request.Link{LinkID: "L-1", URL: "https://simulator.invalid/L-1"})
		return err
	}, "[A-1 created 1]"},
	{"fault", true, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Fault(h.Context(), a, &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8})
		return err
	}, "[A-1 queued 1]"},
	{"expire", false, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Expire(h.Context(), a.Record)
		return err
	}, "[A-1 failed 0]"},
	{"cancel", false, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Cancel(h.Context(), a.Record)
		return err
	}, "[A-1 cancelled 0]"},
}

// queued is a desk where A-1 is about to be called, or is being called.
func queued(t *testing.T, called bool) (*harness, attempt.Attempt) {
	h := newHarness(t)
	j := h.job("run", "A-1,,,")
	j.Patience, j.Report = 0, nil
	if _, err := j.Work(t.Context()); !errors.Is(err, ErrImpatient) {
		t.Fatal(err)
	}
	ref := h.feed()[0]
	if called {
		return h, h.mark(ref)
	}
	return h, attempt.NewAttempt(h.get("A-1"))
}

func TestRecorder(t *testing.T) {
	t.Parallel()
	for _, c := range recorded {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, a := queued(t, c.called)
			journal := openJournal(t, h.out)
			r := recorder.New(h.ledger, h.ledger.Get, journal)
			h.Must(c.do(h, r, a))
			// A stale turn is no transition.
			stale := attempt.Query{Ref: request.Ref{ApplicationID: "A-9", Generation: 1, Run: 1}}
			if answer, err := r.Mark(t.Context(), stale); answer.Admission != attempt.Stale || err != nil {
				t.Errorf("a stale mark: %s, %v", answer.Admission, err)
			}
			closeJournal(t, journal)
			journal = openJournal(t, h.out)
			defer closeJournal(t, journal)
			if got := show(records(t, journal)); got != c.want {
				t.Errorf("the journal holds %s, want %s", got, c.want)
			}
		})
	}
}

// A journal that cannot be written ends the worker: after a mark there is no
// call, after an answer there is no next one.
func TestRecorderWithoutDiskIsFatal(t *testing.T) {
	t.Parallel()
	for _, c := range recorded {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, a := queued(t, c.called)
			journal := openJournal(t, h.out)
			defer closeJournal(t, journal)
			full := errors.New("disk full")
			journal.sync = func() error { return full }
			err := c.do(h, recorder.New(h.ledger, h.ledger.Get, journal), a)
			var fatal interface{ Fatal() bool }
			if !errors.Is(err, full) || !errors.As(err, &fatal) || !fatal.Fatal() {
				t.Errorf("got %v, want a fatal error", err)
			}
		})
	}
}
