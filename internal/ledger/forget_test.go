package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
)

// What cannot be read goes where a person asks for it, and never by itself; a
// newer version's record goes in neither case.
func TestWhatCannotBeReadIsErasedByForceOnly(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-1"), 1, "?").Err())
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("R-2"), 0, "2").Err())
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Nanosecond})
	if n, err := keeper.Erasure.Retire(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("%d went by themselves, %v", n, err)
	}
	for _, e := range h.Erase("R-1", "R-2") {
		if !e.Broken || e.Erased != (e.ApplicationID == "R-1") {
			t.Errorf("%+v", e)
		}
	}
	for id, kept := range map[string]int64{"R-1": 0, "R-2": 1} {
		if n := h.Redis.Exists(t.Context(), h.Keys.Record(id)).Val(); n != kept {
			t.Errorf("of %s %d records are kept", id, n)
		}
	}
}

// The gate forgets who is erased, and nobody else.
func TestTheGateForgets(t *testing.T) {
	h := newHarness(t)
	h.Import("spring", ledgertest.Rows(1, 3))
	h.CancelBatch("spring")
	gate, refused := h.Keys.Tag()+":gate", h.Keys.Tag()+":refused:c1"
	h.Must(h.Redis.HSet(t.Context(), gate, "probe", "R-2", "refused", "c1", "row", "R-1\nR-2\nR-3").Err())
	h.Must(h.Redis.HSet(t.Context(), refused, "id", "R-2", "prober", "7").Err())
	h.Erase("R-1") // who is not the probe
	if probe := h.Redis.HGet(t.Context(), gate, "probe").Val() + h.Redis.HGet(t.Context(), refused, "id").Val(); probe != "R-2R-2" {
		t.Errorf("the probes are %q", probe)
	}
	h.Erase("R-2")
	h.Must(h.Redis.Del(t.Context(), h.Keys.Results(), h.Keys.Order(1)).Err())
	h.expectNoTrace("R-1", "R-2")
	if row := h.Redis.HGet(t.Context(), gate, "row").Val(); row != "R-3" {
		t.Errorf("the gate's row of faults is %q", row)
	}
}

// An earlier generation is kept as long as any other end.
func TestEarlierGenerationsAreKept(t *testing.T) {
	h := newHarness(t)
	h.RestoreEnded("spring", 2*time.Hour, 1, 1, request.Created)
	h.RestoreEnded("spring", 50*time.Minute, 2, 1, request.Created)
	for _, id := range []string{"G-1", "G-2"} {
		_, err := h.Stores.Batches.Refresh(t.Context(), 1, []request.Record{h.Record(id)}, time.Time{})
		h.Must(err)
	}
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	_, err := keeper.Erasure.Retire(t.Context(), time.Hour)
	h.Must(err)
	for id, want := range map[string]int{"G-1": 1, "G-2": 2} {
		if story, err := h.Stores.Records.Story(t.Context(), id); err != nil || len(story) != want {
			t.Errorf("of %s %d generations are kept, want %d; %v", id, len(story), want, err)
		}
	}
}

// However long a batch and its list of what is to be fed are, and whatever is
// missing in them, all of it is scrubbed, once.
func TestScrubReachesTheEnd(t *testing.T) {
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
		if taken, err := h.Stores.Erasure.EraseRows(t.Context()); err != nil || taken != want {
			t.Errorf("%d ids were taken, want %d; %v", taken, want, err)
		}
	}
	h.expectNoTrace("GONE-")
	left := 2
	for range 20 { // what is blank takes its time
		left -= len(h.Feed())
	}
	if left != 0 {
		t.Errorf("%d of the others were not fed", left)
	}
}
