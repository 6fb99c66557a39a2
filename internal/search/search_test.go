package search

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// various is an account with requests in all states, some of them in batches.
func various(t *testing.T) (*ledgertest.Harness, []request.Record) {
	h := ledgertest.New(t)
	paths, ids := ledgertest.Paths(), []string{}
	states := []string{}
	for state := range paths {
		states = append(states, state)
	}
	slices.Sort(states)
	for i := range 60 {
		id := fmt.Sprintf("A-%02d", i)
		if i%7 == 0 {
			id = fmt.Sprintf("x*[%d]", i)
		}
		h.Do(id, paths[states[i%len(states)]]...)
		ids = append(ids, id)
	}
	for _, name := range []string{"one", "two"} {
		var rows []tasks.Request
		for i := range 250 {
			id := fmt.Sprintf("%s-%03d", name, i)
			rows, ids = append(rows, tasks.Request{ApplicationID: id}), append(ids, id)
		}
		h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: name}, tasks.Rows(rows), func(r tasks.Result) { h.Must(r.Err) }))
	}
	all, err := h.Stores.Records.Read(t.Context(), ids)
	h.Must(err)
	return h, all
}

// collect returns the IDs of all pages.
func collect(t rapid.TB, h *ledgertest.Harness, f Filter, limit func() int) (ids []string) {
	s := New(h.Redis, h.Keys)
	for cursor := ""; ; {
		p, err := s.Page(h.Context(), f, cursor, limit())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range p.Records {
			ids = append(ids, r.ApplicationID)
		}
		if cursor = p.Next; cursor == "" {
			return ids
		}
	}
}

func TestPage_ReturnsEachMatchOnce(t *testing.T) {
	h, all := various(t)
	times := []time.Time{{}}
	for _, r := range all {
		times = append(times, r.ChangedAt)
	}
	batches := []int{0, 0, h.BatchNumber("one"), h.BatchNumber("two")}
	rapid.Check(t, func(t *rapid.T) {
		f := Filter{
			Status:   rapid.SampledFrom(append([]request.State{"", ""}, request.States[:]...)).Draw(t, "status"),
			Reason:   rapid.SampledFrom([]string{"", "", "", "upstream_error", "unknown_outcome", "no such reason"}).Draw(t, "reason"),
			Lane:     rapid.SampledFrom([]request.Lane{"", "", request.Interactive, request.Bulk}).Draw(t, "lane"),
			Batch:    rapid.SampledFrom(batches).Draw(t, "batch"),
			Since:    rapid.SampledFrom(times).Draw(t, "since"),
			Before:   rapid.SampledFrom(times).Draw(t, "before"),
			IDPrefix: rapid.SampledFrom([]string{"", "", "A-", "A-1", "x*[", "one-0", "?"}).Draw(t, "prefix"),
		}
		var want []string
		for _, r := range all {
			if f.matches(r) {
				want = append(want, r.ApplicationID)
			}
		}
		got := collect(t, h, f, func() int { return rapid.IntRange(1, 100).Draw(t, "limit") })
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v: got %d %v, want %d %v", f, len(got), got, len(want), want)
		}
	})
}

func TestPage_HasTheNewestFailureFirst(t *testing.T) {
	h := ledgertest.New(t)
	for _, id := range []string{"A-1", "A-2", "A-3"} { // entries of the same time are sorted by ID as well
		h.Do(id, ledgertest.Paths()["failed"]...)
	}
	if got := collect(t, h, Filter{Status: request.Failed}, func() int { return 2 }); !slices.Equal(got, []string{"A-3", "A-2", "A-1"}) {
		t.Errorf("got %v", got)
	}
}

func TestPage_HasTheRowsOfABatchInOrder(t *testing.T) {
	h, _ := various(t)
	got := collect(t, h, Filter{Batch: h.BatchNumber("one")}, func() int { return 7 })
	if len(got) != 250 || !slices.IsSorted(got) {
		t.Errorf("got %d rows: %v", len(got), got)
	}
}

// The failed requests of a small batch are not searched for among all that failed, and those
// that an operator dropped are not found.
func TestPage_ReadsOnlyTheFailedRequestsOfABatch(t *testing.T) {
	h := ledgertest.New(t)
	h.RestoreEnded("other", time.Hour, 1, 400, request.Failed)
	h.Import("spring", ledgertest.Rows(1, 250))
	h.Feed()
	want := []string{}
	for n := 3; n <= 250; n += 40 { // also in the second and the third chunk
		id := fmt.Sprint("R-", n)
		h.Do(id, "admit", "fail")
		want = append(want, id)
	}
	_, err := h.Stores.DeadLetters.DropRequest(t.Context(), h.Record(want[2]))
	h.Must(err)
	want = slices.Delete(want, 2, 3)
	s, f := New(h.Redis, h.Keys), Filter{Status: request.Failed, Batch: h.BatchNumber("spring")}
	for _, limit := range []int{1, 2, 100} {
		var got []string
		examined := 0
		for cursor := ""; ; {
			p, err := s.Page(t.Context(), f, cursor, limit)
			h.Must(err)
			for _, r := range p.Records {
				got = append(got, r.ApplicationID)
			}
			examined += p.Examined
			if cursor = p.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(got, want) || examined != len(want) {
			t.Errorf("%d on a page: got %v of %d that were read, want %v of as many", limit, got, examined, want)
		}
	}
	p, err := s.Page(t.Context(), Filter{Status: request.Held, Batch: f.Batch}, "", 100)
	if h.Must(err); len(p.Records) > 0 || p.Examined > 0 || p.Next != "" {
		t.Errorf("the held requests of a batch that has none: got %+v", p)
	}
	// The rows of a restored batch are not known.
	h.RestoreEnded("restored", time.Hour, 1001, 3, request.Failed)
	if got := collect(t, h, Filter{Status: request.Failed, Batch: h.BatchNumber("restored")}, func() int { return 2 }); len(got) != 3 {
		t.Errorf("the failed requests of a restored batch: got %v, want 3", got)
	}
}

func TestPage_RefusesACursorOfAnotherFilter(t *testing.T) {
	h, _ := various(t)
	s := New(h.Redis, h.Keys)
	first, err := s.Page(t.Context(), Filter{Status: request.Waiting}, "", 5)
	h.Must(err)
	for _, c := range []struct {
		cursor string
		Filter
	}{
		{first.Next, Filter{Status: request.Failed}},
		{"", Filter{}},
		{"nonsense!", Filter{}},
		{"zzz", Filter{}},
		{encode("nonsense", Filter{}), Filter{}},
		{encode("-1", Filter{Batch: 1}), Filter{Batch: 1}},
		{encode("then A-1", Filter{Status: request.Held}), Filter{Status: request.Held}},
	} {
		_, err := s.Page(t.Context(), c.Filter, c.cursor, 5)
		if _, refused := errors.AsType[*CursorError](err); refused != (c.cursor != "") {
			t.Errorf("%q with %+v: %v", c.cursor, c.Filter, err)
		}
		if another := fmt.Sprint(err) == "the cursor belongs to another filter: repeat the filter of the first page, or begin without a cursor"; another != (c.cursor == first.Next) {
			t.Errorf("%q with %+v: %v", c.cursor, c.Filter, err)
		}
	}
	_, err = s.Deliveries(t.Context(), DeliveryFilter{}, "zzz", 5)
	if fmt.Sprint(err) != "the cursor is not one that was returned by this list" {
		t.Errorf("a cursor of no list: %v", err)
	}
}

// A page on a slow machine ends after it has read a part of what it may read. It does not end
// sooner, however slow the machine is, and a fast one reads all of that.
func TestPage_EndsSoonerOnASlowMachine(t *testing.T) {
	h := ledgertest.New(t)
	for i := range 12 {
		h.RestoreEnded("spring", time.Hour, 1+i*timelineStep, timelineStep, request.Failed)
	}
	s, f := New(h.Redis, h.Keys), Filter{Status: request.Failed, Reason: "none"}
	for step, most := range map[time.Duration]int{0: mostExamined, pageTime + 1: mostExamined / slowPart} {
		at := time.Now()
		s.now = func() time.Time {
			at = at.Add(step)
			return at
		}
		p, err := s.Page(t.Context(), f, "", 50)
		if h.Must(err); p.Examined < most || p.Examined > most+timelineStep || p.Next == "" {
			t.Errorf("with %v for each part, a page has examined %d, want about %d", step, p.Examined, most)
		}
	}
}

func TestPage_ReadsABoundedNumberOfErasedRows(t *testing.T) {
	h := ledgertest.New(t)
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows([]tasks.Request{{ApplicationID: "A-1"}}), func(r tasks.Result) { h.Must(r.Err) }))
	const chunks = mostVisited/order.ChunkRows + 100
	fields := make([]any, 0, 2*chunks)
	for chunk := range chunks {
		text := "0"
		for row := range order.ChunkRows {
			text += fmt.Sprintf("\n%d", chunk*order.ChunkRows+row+1)
		}
		fields = append(fields, chunk, text)
	}
	number := h.BatchNumber("spring")
	h.Must(h.Redis.HSet(t.Context(), h.Keys.Order(number), fields...).Err())
	s, f := New(h.Redis, h.Keys), Filter{Batch: number}
	first, err := s.Page(t.Context(), f, "", 50)
	h.Must(err)
	if first.Next == "" || len(first.Records) > 0 {
		t.Errorf("the first page of %d erased rows has %d requests, next %q; want none, and a cursor", chunks*order.ChunkRows, len(first.Records), first.Next)
	}
	if ids := collect(t, h, f, func() int { return 50 }); len(ids) > 0 {
		t.Errorf("all pages have %v, want nothing", ids)
	}
	at := time.Now()
	s.now = func() time.Time { // a slow machine reads an eighth of that
		at = at.Add(pageTime + 1)
		return at
	}
	first, err = s.Page(t.Context(), f, "", 50)
	h.Must(err)
	place, err := decode(first.Next, f)
	h.Must(err)
	if row, err := strconv.Atoi(place); err != nil || row < mostVisited/slowPart || row > mostVisited/2 {
		t.Errorf("on a slow machine, the first page ends at row %s; want it after about %d", place, mostVisited/slowPart)
	}
}
