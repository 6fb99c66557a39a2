package erasure_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestRetire_ErasesRequestsThatEndedLongAgo(t *testing.T) {
	h := newHarness(t)
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	h.RestoreEnded("spring", 2*time.Hour, 1, 1200, request.Created, request.Failed, request.Cancelled, request.Held, request.Waiting)
	h.RestoreEnded("spring", 50*time.Minute, 2001, 300, request.Created, request.Failed)
	// An earlier generation is erased by its own end, while the latest one is waiting.
	h.RestoreEnded("spring", 2*time.Hour, 3001, 1, request.Created)
	r, _ := h.Get("G-3001")
	_, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{r}, time.Time{})
	h.Must(err)
	_, before := h.BatchCounters(1)

	erased := 0
	for range 100 { // each time a thousand keys at least, so that one round is enough
		n, err := keeper.Erasure.EraseExpired(t.Context(), 0)
		h.Must(err)
		erased += n
	}
	counts, after := h.BatchCounters(1)
	if erased != 720 || counts["erased"] != 720 || before != after {
		t.Errorf("%d requests were erased; %d rows became %d: %v", erased, before, after, counts)
	}
	if counts["created"] != 150 || counts["failed"] != 150 || counts["held"] != 240 || counts["waiting"] != 241 || counts["cancelled"] != 0 {
		t.Errorf("the counters are %v", counts)
	}
	h.ExpectCounters()
	h.ExpectOperatorLists(nil)
	story, err := h.Stores.Records.History(t.Context(), "G-3001")
	if err != nil || len(story) != 1 || story[0].Generation != 2 {
		t.Errorf("the generations of the refreshed request are %+v, %v; want the second only", story, err)
	}
	if n, err := storage.Of(h.Redis, h.Keys.Account).Erasure.EraseExpired(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("%d requests were erased without a retention, %v", n, err)
	}
}

// Erased requests are erased from the rows of other batches, too.
func TestRetire_ErasesRowsOfOtherBatches(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 250))
	h.Import("autumn", append(ledgertest.Rows(101, 350), tasks.Request{ApplicationID: "N-1"}))
	refs := h.Feed()
	h.Finish(refs, "created")
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Millisecond})
	h.Must(h.Redis.Del(t.Context(), h.Keys.Results()).Err()) // which retention does not trim
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ApplicationID
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := keeper.Erasure.EraseExpired(t.Context(), 0)
		h.Must(err)
		all := fmt.Sprint(h.Dump())
		if !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(all, id+"\n") || strings.Contains(all, id+" ") }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("ids of erased requests are left:\n%s", all)
		}
	}
	if counts, _ := h.BatchCounters(1); counts["erased"] != 250 {
		t.Errorf("the counters are %v, want 250 erased rows", counts)
	}
}

// An earlier generation is kept for as long as any other ended request.
func TestRetire_KeepsAnEarlierGenerationByItsOwnEnd(t *testing.T) {
	h := newHarness(t)
	h.RestoreEnded("spring", 2*time.Hour, 1, 1, request.Created)
	h.RestoreEnded("spring", 50*time.Minute, 2, 1, request.Created)
	for _, id := range []string{"G-1", "G-2"} {
		_, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{h.Record(id)}, time.Time{})
		h.Must(err)
	}
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	_, err := keeper.Erasure.EraseExpired(t.Context(), time.Hour)
	h.Must(err)
	for id, want := range map[string]int{"G-1": 1, "G-2": 2} {
		if story, err := h.Stores.Records.History(t.Context(), id); err != nil || len(story) != want {
			t.Errorf("%s has %d generations, want %d; %v", id, len(story), want, err)
		}
	}
}

// However long a batch and its list of requeued requests are, and whichever chunks are
// missing, every erased id is removed, once.
func TestEraseRows_ReachesTheEndOfALongBatch(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	const chunks, fed = 10_500, 1200
	if _, err := h.Redis.Pipelined(t.Context(), func(pipe redis.Pipeliner) error {
		for n := 7; n < chunks; n++ {
			pipe.HSet(t.Context(), h.Keys.Order(1), n, fmt.Sprintf("0\n%d00 GONE-%d\n", n, n))
		}
		for n := range fed {
			pipe.RPush(t.Context(), h.Keys.Requeued(1), fmt.Sprintf("GONE-%d", n))
		}
		pipe.RPush(t.Context(), h.Keys.Requeued(1), "R-1")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{chunks - 7 + fed, 0} {
		if n, err := h.Stores.Erasure.EraseRows(t.Context(), true); err != nil || n != want {
			t.Errorf("%d ids were erased, want %d; %v", n, want, err)
		}
	}
	h.expectNoTrace("GONE-")
	left := 2
	for range 20 { // erased rows take several passes
		left -= len(h.Feed())
	}
	if left != 0 {
		t.Errorf("%d of the other requests were not fed", left)
	}
}
