package ledger_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// keptLink ends an attempt with a link that is kept, as its host is not allowed.
func (b *bench) keptLink(a attempt.Attempt) request.State {
	b.t.Helper()
	state, err := b.ledger.Fault(b.t.Context(), a, &fault.Fault{Kind: fault.Unusable, Kept: "sealed"}, attempt.Next{Action: attempt.Hold})
	b.must(err)
	return state
}

// A link that is found in the records, and not made by a call now, says nothing of FaceKi:
// the faults of others in an outage are not held against them.
func TestALinkWithoutACallBlamesNobody(t *testing.T) {
	for name, find := range map[string]func(b *bench){
		"late": func(b *bench) {
			failed, _ := b.get("B-1")
			now, ok, err := b.ledger.Again(b.t.Context(), failed)
			if b.must(err); !ok || now.State != request.Created {
				b.t.Fatalf("%v, %+v", ok, now)
			}
		},
		"kept": func(b *bench) {
			held, _ := b.get("C-1")
			_, ok, err := b.ledger.Again(b.t.Context(), held)
			if b.must(err); !ok {
				b.t.Fatal("was not retried")
			}
			a := b.mark(b.ledger, b.feed()[0], attempt.Kept)
			state, err := b.ledger.Created(b.t.Context(), a, link)
			if b.must(err); state != request.Created {
				b.t.Fatalf("is %q", state)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.importInto("spring", "B-1")
			b.feed()
			b.lateLink("B-1")
			b.importInto("spring", "C-1")
			if state := b.keptLink(b.mark(b.ledger, b.feed()[0], attempt.Call)); state != request.Held {
				t.Fatalf("is %q", state)
			}
			b.importInto("spring", "A-1")
			a := b.mark(b.ledger, b.feed()[0], attempt.Call)
			b.fault("A-1", fault.ServerError, attempt.Retry)
			find(b)
			b.mark(b.ledger, a.Ref(), attempt.Call)
			b.fault("A-1", fault.ServerError, attempt.Retry)
			if r, _ := b.get("A-1"); r.Charged != 0 {
				t.Errorf("%d faults were held against a request, and FaceKi had answered nobody since", r.Charged)
			}
			if ends := len(b.published("link.created")); ends != 1 || b.gauges().Created != ends {
				t.Errorf("the account counts %d created, of which there are %d events", b.gauges().Created, ends)
			}
			b.expectCounters()
		})
	}
}

// A cancel that is asked for during a call does not throw its paid link away.
func TestACancelKeepsALinkOnAnotherHost(t *testing.T) {
	b, a := started(t)
	r, _ := b.get("A-1")
	_, err := b.ledger.Cancel(t.Context(), r)
	b.must(err)
	if state := b.keptLink(a); state != request.Cancelled {
		t.Errorf("is %q", state)
	}
	if r, _ = b.get("A-1"); r.State != request.Cancelled || r.KeptLink() != "sealed" || r.PossibleDuplicates != 0 {
		t.Errorf("%+v", r)
	}
	b.expectCounters()
}
