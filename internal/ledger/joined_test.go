package ledger_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// expectJoined compares the states of the rows that joined, as any process sees them.
func (b *bench) expectJoined(batch string, status ledger.BatchStatus, want map[request.State]int) {
	b.t.Helper()
	book := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account})
	got, _, err := book.Batch(b.t.Context(), b.number(batch))
	b.must(err)
	none := func(_ request.State, n int) bool { return n == 0 }
	maps.DeleteFunc(got.JoinedCounts, none)
	if !maps.Equal(got.JoinedCounts, want) || got.Status != status {
		b.t.Errorf("batch %s is %s, its joined rows are %v; want %s, %v", batch, got.Status, got.JoinedCounts, status, want)
	}
	listed, err := book.Batches(b.t.Context())
	b.must(err)
	for _, l := range listed {
		maps.DeleteFunc(l.JoinedCounts, none)
		if l.Batch == batch && (!maps.Equal(l.JoinedCounts, want) || l.Status != status) {
			b.t.Errorf("the list says %s, %v", l.Status, l.JoinedCounts)
		}
	}
}

// A batch is done when its rows have ended, and those that joined are rows like others.
func TestABatchIsDoneWhenItsJoinedRowsAre(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 5))
	all := append(rows(1, 5), rows(1, 2)...) // two of them twice
	b.enqueueAll("autumn", all)
	b.expectJoined("autumn", ledger.BatchRunning, map[request.State]int{request.Waiting: 7})
	if got := b.batch("autumn"); got.Rows != 7 || got.Open() != 7 || got.Own() != 0 || !got.ETA.IsZero() {
		t.Errorf("%+v", got)
	}
	refs := b.feed()
	finish := func(i int) {
		_, err := b.ledger.Created(t.Context(), b.mark(b.ledger, refs[i], attempt.Call), link)
		b.must(err)
	}
	finish(0)
	finish(1)
	b.mark(b.ledger, refs[2], attempt.Call)
	b.mark(b.ledger, refs[3], attempt.Call)
	b.fault(refs[3].ApplicationID, fault.Unusable, attempt.Hold)
	b.expectJoined("autumn", ledger.BatchRunning, map[request.State]int{request.Created: 4, request.Calling: 1, request.Held: 1, request.Queued: 1})
	b.fault(refs[2].ApplicationID, fault.BadRequest, attempt.Fail)
	finish(4)
	b.expectJoined("autumn", ledger.BatchDone, map[request.State]int{request.Created: 5, request.Failed: 1, request.Held: 1})
	b.expectJoined("spring", ledger.BatchDone, map[request.State]int{})

	// What is not kept is erased, and what is retried is open again.
	b.erase(refs[0].ApplicationID)
	r, _ := b.get(refs[2].ApplicationID)
	_, _, err := b.ledger.Again(t.Context(), r)
	b.must(err)
	want := map[request.State]int{ledger.Erased: 2, request.Created: 3, request.Waiting: 1, request.Held: 1}
	b.expectJoined("autumn", ledger.BatchRunning, want)
	_, err = b.ledger.Scrub(t.Context())
	b.must(err)
	b.expectJoined("autumn", ledger.BatchRunning, want)

	b.enqueueAll("winter", append(rows(1, 5), tasks.Request{ApplicationID: "W-1"}))
	b.callOff("winter")
	if got := b.batch("winter"); got.Status != ledger.BatchCancelled || !got.Over() || got.Open() != 1 {
		t.Errorf("%+v: what it joined is another's", got)
	}
}

// Rows that joined are found among many that did not, also in a batch that an older
// version imported, and in chunks that were imported again.
func TestJoinedRowsAreFoundAmongOthers(t *testing.T) {
	b := newBench(t)
	for _, n := range []int{1, 450, 451, 1200} {
		_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: fmt.Sprint("R-", n)})
		b.must(err)
	}
	b.enqueueAll("spring", rows(1, 1500))
	want := map[request.State]int{request.Queued: 4}
	b.expectJoined("spring", ledger.BatchRunning, want)
	index := b.keys.Joined(b.number("spring"))
	before := b.rdb.HGetAll(t.Context(), index).Val()
	if len(before) != 3 {
		t.Errorf("rows joined in the chunks %v", before)
	}
	b.must(b.rdb.Del(t.Context(), index).Err())
	b.expectJoined("spring", ledger.BatchRunning, want)
	if after := b.rdb.HGetAll(t.Context(), index).Val(); !maps.Equal(before, after) {
		t.Errorf("found %v, which was %v", after, before)
	}
	b.enqueueAll("spring", rows(1, 1500))
	b.expectJoined("spring", ledger.BatchRunning, want)
	b.expectCounters()
}
