package ledger_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Quarantining a turn that is being called ends its call, which counts as sent unless its
// nonce proves that it was not.
func TestQuarantine_EndsTheCallOfItsTurn(t *testing.T) {
	for name, tt := range map[string]struct {
		called, cancelled bool
		nonce             string
		state             request.State
		attempts, dups    int
	}{
		"it may have been sent":        {called: true, state: request.Failed, attempts: 1, dups: 1},
		"it was not sent":              {state: request.Failed},
		"the nonce is of another call": {called: true, nonce: "another", state: request.Failed, attempts: 1, dups: 1},
		"it was cancelled meanwhile":   {called: true, cancelled: true, state: request.Cancelled, attempts: 1, dups: 1},
	} {
		t.Run(name, func(t *testing.T) {
			h, a := started(t)
			if tt.cancelled {
				_, err := h.Stores.Requests.Cancel(t.Context(), a.Record)
				h.Must(err)
			}
			other := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
			h.Must(other.Fleet.Join(t.Context()))
			unused := a.Nonce
			if tt.called {
				unused = tt.nonce
			}
			if state, err := other.Requests.Quarantine(t.Context(), a.Ref(), unused, "an invented message"); err != nil || state != "busy" {
				t.Errorf("to another process the quarantined request is %q, %v; want busy", state, err)
			}
			h.ExpectState("A-1", "calling")
			if state, err := h.Stores.Requests.Quarantine(t.Context(), a.Ref(), unused, "an invented message"); err != nil || state != tt.state {
				t.Errorf("the quarantined request is %q, %v", state, err)
			}
			if r, _ := h.Get("A-1"); r.State != tt.state || r.Attempts != tt.attempts || r.PossibleDuplicates != tt.dups {
				t.Errorf("the request is %s after %d attempts, with %d possible duplicates", r.State, r.Attempts, r.PossibleDuplicates)
			}
			if n := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); n != 0 {
				t.Errorf("%d calls are in flight, want none", n)
			}
			if n := h.EventCount(); n != 1 {
				t.Errorf("%d events were published, want 1", n)
			}
			h.ExpectCounters()
		})
	}
}

// Quarantining a turn ends neither a later turn of its request, nor a run that began after
// the record was read.
func TestQuarantine_EndsItsTurnOnly(t *testing.T) {
	h := newHarness(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	r, _ := h.Get("A-1")
	earlier := r.Ref()
	_, _, ok, err := h.Stores.Requests.Release(t.Context(), earlier)
	if err != nil || !ok {
		t.Fatal("the turn was not released:", err)
	}
	if state, err := h.Stores.Requests.Quarantine(t.Context(), earlier, "", "an invented message"); err != nil || state != "" {
		t.Errorf("quarantining an earlier turn makes the request %q, %v", state, err)
	}
	h.ExpectState("A-1", "queued")
	r, _ = h.Get("A-1")
	interrupted := h.InterruptedAfter("get", func() { // another run, whose turn happens to be the same
		r.Run++
		raw, err := r.Encode()
		h.Must(err)
		h.Must(h.Redis.Set(t.Context(), h.Keys.Record("A-1"), raw, 0).Err())
	})
	ref := r.Ref()
	if state, err := interrupted.Requests.Quarantine(t.Context(), ref, "", "an invented message"); err != nil || state != "" {
		t.Errorf("quarantining a turn of an earlier run makes the request %q, %v", state, err)
	}
	h.ExpectState("A-1", "queued")
	h.ExpectCounters()
}
