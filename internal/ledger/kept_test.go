package ledger_test

import (
	"testing"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/record"
)

// keptLink ends an attempt with a link that is kept, as its host is not allowed.
func (b *bench) keptLink(a record.Attempt) record.State {
	b.t.Helper()
	state, err := b.ledger.Fault(b.t.Context(), a, &fault.Fault{Kind: fault.Unusable, Kept: "sealed"}, record.Next{Follows: record.Hold})
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
			if b.must(err); !ok || now.State != record.Created {
				b.t.Fatalf("%v, %+v", ok, now)
			}
		},
		"kept": func(b *bench) {
			held, _ := b.get("C-1")
			_, ok, err := b.ledger.Again(b.t.Context(), held)
			if b.must(err); !ok {
				b.t.Fatal("was not retried")
			}
			a := b.mark(b.ledger, b.feed()[0], record.Kept)
			state, err := b.ledger.Created(b.t.Context(), a, link)
			if b.must(err); state != record.Created {
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
			if state := b.keptLink(b.mark(b.ledger, b.feed()[0], record.Call)); state != record.Held {
				t.Fatalf("is %q", state)
			}
			b.importInto("spring", "A-1")
			a := b.mark(b.ledger, b.feed()[0], record.Call)
			b.fault("A-1", fault.ServerError, record.Retry)
			find(b)
			b.mark(b.ledger, a.Ref(), record.Call)
			b.fault("A-1", fault.ServerError, record.Retry)
			if r, _ := b.get("A-1"); r.Spent != 0 {
				t.Errorf("%d faults were held against a request, and FaceKi had answered nobody since", r.Spent)
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
	if state := b.keptLink(a); state != record.Cancelled {
		t.Errorf("is %q", state)
	}
	if r, _ = b.get("A-1"); r.State != record.Cancelled || r.KeptLink() != "sealed" || r.PossibleDuplicates != 0 {
		t.Errorf("%+v", r)
	}
	b.expectCounters()
}
