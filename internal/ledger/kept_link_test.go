package ledger_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
)

// keptLink ends an attempt with a link that is kept, as its host is not allowed.
func (h *harness) keptLink(a attempt.Attempt) request.State {
	h.Helper()
	state, err := h.Stores.Requests.Fault(h.Context(), a, &fault.Fault{Kind: fault.Unusable, Kept: "sealed"}, attempt.Next{Action: attempt.Hold})
	h.Must(err)
	return state
}

// A stored link that ends a request without a call proves nothing about FaceKi: the
// faults of other requests during an outage are not charged.
func TestStoredLink_ChargesNoFaults(t *testing.T) {
	for name, find := range map[string]func(h *harness){
		"late": func(h *harness) {
			failed, _ := h.Get("B-1")
			now, ok, err := h.Stores.Requests.Retry(h.Context(), failed)
			if h.Must(err); !ok || now.State != request.Created {
				h.Fatalf("retried: %v; the request is %+v", ok, now)
			}
		},
		"kept": func(h *harness) {
			held, _ := h.Get("C-1")
			_, ok, err := h.Stores.Requests.Retry(h.Context(), held)
			if h.Must(err); !ok {
				h.Fatal("the request was not retried")
			}
			a := h.Admit(h.Stores, h.Feed()[0], attempt.Kept)
			state, err := h.Stores.Requests.Created(h.Context(), a, ledgertest.Link())
			if h.Must(err); state != request.Created {
				h.Fatalf("the request is %q", state)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.ImportInto("spring", "B-1")
			h.Feed()
			h.lateLink("B-1")
			h.ImportInto("spring", "C-1")
			if state := h.keptLink(h.Admit(h.Stores, h.Feed()[0], attempt.Call)); state != request.Held {
				t.Fatalf("the request is %q", state)
			}
			h.ImportInto("spring", "A-1")
			a := h.Admit(h.Stores, h.Feed()[0], attempt.Call)
			h.Fault("A-1", fault.ServerError, attempt.Retry)
			find(h)
			h.Admit(h.Stores, a.Ref(), attempt.Call)
			h.Fault("A-1", fault.ServerError, attempt.Retry)
			if r, _ := h.Get("A-1"); r.Charged != 0 {
				t.Errorf("%d faults were charged, although FaceKi has answered no request since", r.Charged)
			}
			if ends := len(h.published("link.created")); ends != 1 || h.Gauges().Created != ends {
				t.Errorf("the account counts %d created requests, and has %d events of them", h.Gauges().Created, ends)
			}
			h.ExpectCounters()
		})
	}
}

// Cancelling a request during a call does not discard the paid link of the call.
func TestCancel_KeepsALinkOnAnotherHost(t *testing.T) {
	h, a := started(t)
	r, _ := h.Get("A-1")
	_, err := h.Stores.Requests.Cancel(t.Context(), r)
	h.Must(err)
	if state := h.keptLink(a); state != request.Cancelled {
		t.Errorf("the request is %q", state)
	}
	if r, _ = h.Get("A-1"); r.State != request.Cancelled || r.KeptLink() != "sealed" || r.PossibleDuplicates != 0 {
		t.Errorf("the request is %+v", r)
	}
	h.ExpectCounters()
}
