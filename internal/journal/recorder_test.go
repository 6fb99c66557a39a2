package journal

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// transitions are those that the recorder writes, each from a request that is queued or calling.
var transitions = []struct {
	name   string
	called bool // the transition ends an attempt
	do     func(h *harness, r *recorder.Recorder, a attempt.Attempt) error
	want   string
}{
	{"admit", false, func(h *harness, r *recorder.Recorder, a attempt.Attempt) error {
		_, err := r.Admit(h.Context(), attempt.Query{Ref: a.Ref()})
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

// harness is an account with one request, A-1.
type harness struct {
	*fixture.Account

	ledger *storage.Stores
	out    string
}

// queued returns a harness whose request is queued or, if called, calling.
func queued(t *testing.T, called bool) (*harness, attempt.Attempt) {
	h := &harness{Account: fixture.NewAccount(t), out: filepath.Join(t.TempDir(), "out.csv")}
	h.ledger = storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(h.ledger.Fleet.Join(t.Context()))
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Tag()+":gate", "n", 100_000, "per", 1000, "burst", 1000).Err())
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Lane: tasks.Bulk})
	h.Must(err)
	fed, err := h.ledger.Requests.Feed(t.Context(), ledger.FeedTarget{MinQueued: 1, MaxQueued: 1, MaxFed: 1, Lease: time.Minute})
	h.Must(err)
	if called {
		answer, err := h.ledger.Requests.Admit(t.Context(), attempt.Query{Ref: fed.Refs[0], Defaults: request.Defaults{ExpiryMinutes: 60}})
		if h.Must(err); answer.Verdict != attempt.Call {
			t.Fatalf("got admission %s, want call", answer.Verdict)
		}
		return h, answer.Attempt
	}
	r, _, err := h.ledger.Records.Get(t.Context(), "A-1")
	h.Must(err)
	return h, attempt.NewAttempt(r)
}

func TestRecorder_WritesEachTransition(t *testing.T) {
	t.Parallel()
	for _, c := range transitions {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, a := queued(t, c.called)
			journal := openJournal(t, h.out)
			r := recorder.New(h.ledger.Requests, h.ledger.Records.Get, journal)
			h.Must(c.do(h, r, a))
			// A stale turn causes no transition.
			stale := attempt.Query{Ref: request.Ref{ApplicationID: "A-9", Generation: 1, Run: 1}}
			if answer, err := r.Admit(t.Context(), stale); answer.Verdict != attempt.Stale || err != nil {
				t.Errorf("admit a stale turn: got %s, %v", answer.Verdict, err)
			}
			closeJournal(t, journal)
			journal = openJournal(t, h.out)
			defer closeJournal(t, journal)
			if got := show(records(t, journal)); got != c.want {
				t.Errorf("got journal %s, want %s", got, c.want)
			}
		})
	}
}

// If the journal cannot be written, the worker must end: it sends no call that it could
// not record, and none after an outcome that it could not record.
func TestRecorder_FailsFatallyWithoutADisk(t *testing.T) {
	t.Parallel()
	for _, c := range transitions {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h, a := queued(t, c.called)
			journal := openJournal(t, h.out)
			defer closeJournal(t, journal)
			full := errors.New("disk full")
			journal.sync = func() error { return full }
			err := c.do(h, recorder.New(h.ledger.Requests, h.ledger.Records.Get, journal), a)
			var fatal interface{ Fatal() bool }
			if !errors.Is(err, full) || !errors.As(err, &fatal) || !fatal.Fatal() {
				t.Errorf("got %v, want a fatal error", err)
			}
		})
	}
}
