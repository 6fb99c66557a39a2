package ledger_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Joined rows are fed with the batch that accepted them only, and requests without a batch
// by themselves.
func TestFeed_FeedsAJoinedRowWithItsOwnBatchOnly(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 10))
	h.Control("spring", batch.Pause)
	h.Import("summer", ledgertest.Rows(1, 12))
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "B-1", Lane: tasks.Bulk})
	h.Must(err)
	var fed []string
	for range 5 {
		for _, ref := range h.Feed() {
			fed = append(fed, ref.ApplicationID)
		}
	}
	slices.Sort(fed)
	if !slices.Equal(fed, []string{"B-1", "R-11", "R-12"}) {
		t.Errorf("%v were fed, want summer's own rows and the request without a batch", fed)
	}
	h.ExpectBatch("spring", batch.Paused, map[request.State]int{request.Waiting: 10})
	h.ExpectBatch("summer", batch.Running, map[request.State]int{request.Queued: 2})
}

// The first change of a row replaces its header by a longer one.
func TestFeed_KeepsTheContent(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.StoreAsVersion1("R-2")
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "R-3"}) // is promoted
	h.Must(err)
	before := map[string]request.Content{"R-1": h.Record("R-1").Content, "R-2": h.Record("R-2").Content, "R-3": h.Record("R-3").Content}
	h.Feed()
	for id, content := range before {
		r := h.Record(id)
		if r.State != request.Queued || !reflect.DeepEqual(r.Content, content) || content.RedirectURL == "" || content.Row == 0 {
			t.Errorf("%s is %s with the content %+v, had %+v", id, r.State, r.Content, content)
		}
		admitted := h.Admit(h.Stores, r.Ref(), attempt.Call).Record
		if stored := h.Record(id); !reflect.DeepEqual(admitted.Content, content) || !reflect.DeepEqual(stored, admitted) {
			t.Errorf("%s was admitted as %+v, is stored as %+v", id, admitted, stored)
		}
	}
}

// A row that only a newer version can read is skipped, and fed once it can be read.
func TestFeed_FeedsARowOfANewerVersionOnceItIsReadable(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "9").Err())
	if fed := len(h.Feed()) + len(h.Feed()); fed != 2 {
		t.Errorf("%d requests were fed, want the other two", fed)
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "n").Err())
	if n, err := h.Stores.Requests.RequeueNewer(t.Context()); n != 1 || err != nil {
		t.Errorf("%d records have become readable, %v; want 1", n, err)
	}
	if fed := h.Feed(); len(fed) != 1 || fed[0].ApplicationID != "R-2" {
		t.Errorf("%v were fed, want R-2", fed)
	}
}

// The leader cannot read a row. A process that can leads from then on: the other one would
// skip the row again.
func TestRequeueNewer_TakesTheLead(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 1))
	key := h.Keys.Record("R-1")
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "9").Err())
	h.Feed()
	newer := h.AnotherWorker()
	requeued := func(want int) {
		t.Helper()
		if n, err := newer.Requests.RequeueNewer(t.Context()); n != want || err != nil {
			t.Errorf("%d records have become readable, %v; want %d", n, err, want)
		}
	}
	requeued(0)
	if h.FeedUpTo(newer, 10).Leads {
		t.Error("a process leads that could not read the row either")
	}
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "n").Err())
	requeued(1)
	if fed := h.FeedUpTo(newer, 10); !fed.Leads || len(fed.Refs) != 1 {
		t.Errorf("the process that can read the row feeds %+v", fed)
	}
	if h.FeedUpTo(h.Stores, 10).Leads {
		t.Error("the earlier leader still leads")
	}
	requeued(0)
}

// Each running batch gets its share of the room in the lane, whatever its size.
func TestFeed_SharesTheRoomAmongBatches(t *testing.T) {
	h := newHarness(t)
	h.Import("million", ledgertest.Rows(1, 5000))
	h.FeedUpTo(h.Stores, 30)
	h.Import("ten", ledgertest.Rows(10001, 10010))
	h.Import("paused", ledgertest.Rows(20001, 20010))
	h.Control("paused", batch.Pause)
	served := map[string]int{}
	for target := 35; target <= 70; target += 5 {
		for _, ref := range h.FeedUpTo(h.Stores, target).Refs {
			r, _ := h.Get(ref.ApplicationID)
			name, err := h.Stores.Batches.Name(t.Context(), r.Batch)
			h.Must(err)
			served[name]++
		}
	}
	// Ten of these forty are from batch ten: all its rows.
	if served["ten"] != 10 || served["million"] != 30 || served["paused"] != 0 {
		t.Errorf("the batches were fed %v", served)
	}
	h.ExpectCounters()

	// One call shares its room, too.
	h.Import("half", ledgertest.Rows(30001, 31000))
	half := 0
	for _, ref := range h.FeedUpTo(h.Stores, 110).Refs {
		if r, _ := h.Get(ref.ApplicationID); r.Batch == h.BatchNumber("half") {
			half++
		}
	}
	if half < 13 || half > 27 {
		t.Errorf("%d of 40 requests are from the newest batch", half)
	}

	// A retried request is fed before the rest of its batch.
	a := h.Admit(h.Stores, h.Record("R-1").Ref(), attempt.Call)
	h.Fault(a.ApplicationID, fault.BadRequest, attempt.Fail)
	_, _, err := h.Stores.Requests.Retry(t.Context(), h.Record("R-1"))
	h.Must(err)
	if refs := h.FeedUpTo(h.Stores, 115).Refs; !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1" }) {
		t.Errorf("the retried request is not among %v", refs)
	}
	h.ExpectCounters()
}

func TestFeed_IsBoundedAndFair(t *testing.T) {
	h := newHarness(t)
	h.Import("large", ledgertest.Rows(1, 950))
	h.Import("small", ledgertest.Rows(1001, 1010))
	fed := h.FeedUpTo(h.Stores, 250)
	refs, leads := fed.Refs, fed.Leads
	if !leads || len(refs) < 250 || len(refs) >= 350 {
		t.Fatalf("%d requests were fed, leads: %v", len(refs), leads)
	}
	if !slices.ContainsFunc(refs, func(r request.Ref) bool { return r.ApplicationID == "R-1010" }) {
		t.Error("the small batch was not served in the first round")
	}
	if more := h.FeedUpTo(h.Stores, 250).Refs; len(more) != 0 {
		t.Errorf("%d more requests were fed into a full lane", len(more))
	}
	other := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(other.Fleet.Join(t.Context()))
	if fed := h.FeedUpTo(other, 10000); fed.Leads || len(fed.Refs) != 0 {
		t.Errorf("a second process %d requests were fed, leads: %v", len(fed.Refs), fed.Leads)
	}
	for fed := len(refs); fed < 960; {
		more := h.FeedUpTo(h.Stores, 100000).Refs
		if len(more) == 0 {
			t.Fatalf("only %d of 960 requests were fed", fed)
		}
		fed += len(more)
	}
	h.ExpectCounters()
}

// When an edited file is imported again, its new rows are fed, although the feeder has
// passed their chunk, and so are all old ones.
func TestFeed_FeedsNewRowsOfAnEditedImport(t *testing.T) {
	edited := ledgertest.Rows(1, 150)
	edited[10].ApplicationID = "NEW-1"
	edited[120].ApplicationID = "NEW-2"
	for name, before := range map[string]int{"before it was fed": 0, "in the middle": 1, "afterwards": 1000} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.Import("spring", ledgertest.Rows(1, 150))
			refs := h.FeedUpTo(h.Stores, before).Refs
			h.Import("spring", edited)
			h.Import("spring", edited)
			fed := map[string]bool{}
			for _, r := range append(refs, h.Feed()...) {
				if fed[r.ApplicationID] {
					t.Errorf("%s was fed twice", r.ApplicationID)
				}
				fed[r.ApplicationID] = true
			}
			if len(fed) != 152 {
				t.Errorf("%d ids were fed, want the 150 and the two new ones", len(fed))
			}
			h.ExpectCounters()
		})
	}
}

// When a chunk that was fed in part gets shorter, its remaining rows are fed.
func TestFeed_FeedsTheRestOfAShortenedChunk(t *testing.T) {
	h := newHarness(t)
	for n := 1; n <= 20; n++ {
		_, err := h.Client.Enqueue(t.Context(), ledgertest.Row(n)) // its row joins then
		h.Must(err)
	}
	h.Import("spring", ledgertest.Rows(1, 90))
	fed := len(h.FeedUpTo(h.Stores, 40).Refs)
	if fed == 0 || fed >= 70 {
		t.Fatalf("%d requests were fed, want 1 to 69", fed)
	}
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		for i, r := range ledgertest.Rows(21, 90) {
			if !yield(tasks.Row{Number: 21 + i, Request: r}, nil) {
				return
			}
		}
	}, func(r tasks.Result) { h.Must(r.Err) }))
	for range 5 {
		fed += len(h.Feed())
	}
	if fed != 70 {
		t.Errorf("%d of 70 requests were fed", fed)
	}
}
