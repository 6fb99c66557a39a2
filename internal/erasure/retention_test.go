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
	"github.com/kyclink/kyclink/internal/redistest"
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

// Requests that an earlier version ended are in no list. They are found by scans, until no
// such request can be left.
func TestRetire_FindsRequestsThatAreNotListed(t *testing.T) {
	h := newHarness(t)
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
	h.RestoreEnded("spring", 2*time.Hour, 1, 300, request.Created, request.Failed)
	for key := range h.Dump() {
		if strings.Contains(key, ":ended") {
			h.Must(h.Redis.Del(t.Context(), key).Err())
		}
	}
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "events_indexed", time.Now().UnixMilli()).Err())
	scanned := func() (erased int) {
		for range 100 { // each time a thousand keys at least
			n, err := keeper.Erasure.EraseExpired(t.Context(), 0)
			h.Must(err)
			erased += n
		}
		return erased
	}
	if n := scanned(); n != 300 {
		t.Errorf("%d requests were erased, want 300", n)
	}
	over := func() bool { return h.Redis.HExists(t.Context(), h.Keys.State(), "unlisted_erased").Val() }
	if over() {
		t.Error("the scans end while workers of an earlier version may run")
	}
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "events_indexed", time.Now().Add(-26*time.Hour).UnixMilli()).Err())
	if scanned(); !over() {
		t.Error("the scans do not end")
	}
}

// A retried request leaves no trace in the list of the minute in which it had failed.
func TestErase_RemovesRetriedRequestsFromTheListsOfEnds(t *testing.T) {
	h := newHarness(t)
	h.RestoreEnded("spring", 2*time.Hour, 1, 2, request.Failed)
	r, _ := h.Get("G-1")
	_, _, err := h.Stores.Requests.Retry(t.Context(), r)
	h.Must(err)
	h.Finish(h.Feed(), "created")
	h.Erase("G-1")
	h.expectNoTrace("G-1")
}

// TestRetire_ReadsOnlyWhatExpires erases 20 of 1,000 and of 50,000 ended requests.
func TestRetire_ReadsOnlyWhatExpires(t *testing.T) {
	fill := redis.NewScript(`
for i = ARGV[1], ARGV[2] do
  redis.call('SET', KEYS[1] .. '/F-' .. i, redis.call('GET', KEYS[1] .. '/R-1'))
  redis.call('RPUSH', KEYS[1] .. ':ended:' .. ARGV[3], 'F-' .. i)
  redis.call('ZADD', KEYS[1] .. ':ended', ARGV[3], ARGV[3])
end
return 1`)
	var costs [][2]int
	for _, others := range []int{1000, 50_000} {
		h := &harness{ledgertest.NewOn(t, redistest.Start(t))} // whose counters no other test changes
		keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Hour})
		h.Import("spring", ledgertest.Rows(1, 1))
		h.Finish(h.Feed(), "created")
		for from := 0; from < others; from += 1000 {
			h.Must(fill.Run(t.Context(), h.Redis, []string{h.Keys.Tag()}, from, from+999, time.Now().Unix()/60).Err())
		}
		retire := func(want int) {
			n, err := keeper.Erasure.EraseExpired(t.Context(), time.Hour)
			if h.Must(err); n != want {
				t.Errorf("among %d others, %d requests were erased; want %d", others, n, want)
			}
		}
		for range 100 { // the first scan finds that all are listed
			retire(0)
		}
		h.RestoreEnded("autumn", 2*time.Hour, 1, 20, request.Created)
		commands, bytes := h.Work(func() { retire(20) })
		costs = append(costs, [2]int{commands, bytes})
	}
	t.Logf("commands and bytes: %v", costs)
	if few, many := costs[0], costs[1]; many[0] > few[0] || many[1] > few[1]*11/10 {
		t.Errorf("among 1,000 others it takes %d commands and %d bytes, among 50,000 %d and %d", few[0], few[1], many[0], many[1])
	}
}

// Every end is listed, so that a request is erased without a scan.
func TestRetire_FindsEveryEndInItsMinute(t *testing.T) {
	h := newHarness(t)
	keeper := storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account}, Retention: time.Millisecond})
	h.Must(h.Redis.HSet(t.Context(), h.Keys.State(), "unlisted_erased", 1).Err())
	h.Import("spring", ledgertest.Rows(1, 4))
	refs := h.Feed()
	h.Finish(refs[:1], "created")
	h.Finish(refs[1:2], "fail")
	h.Do("R-3", "cancel")
	h.CancelBatch("spring")
	erased := 0
	h.Eventually("all are erased", func() bool {
		n, err := keeper.Erasure.EraseExpired(t.Context(), time.Hour)
		h.Must(err)
		erased += n
		return erased == 4
	})
	h.Must(h.Redis.Del(t.Context(), h.Keys.Results()).Err()) // which retention does not trim
	h.expectNoTrace("R-1", "R-2", "R-3", "R-4")
}
