package tasks_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func ignore(tasks.Result) {}

// rows returns rows with these numbers; row n has the id R-n.
func rows(numbers ...int) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for _, n := range numbers {
			if !yield(tasks.Row{Number: n, Request: tasks.Request{ApplicationID: fmt.Sprint("R-", n)}}, nil) {
				return
			}
		}
	}
}

// rowsOf returns a sequence of these rows.
func rowsOf(list []tasks.Row) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for _, row := range list {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// oneTo returns the numbers from 1 to n.
func oneTo(n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = i + 1
	}
	return list
}

// importRows imports rows and returns the result of each as "number:status/batch/generation" or "number:reason".
func (h *harness) importRows(batch string, list iter.Seq2[tasks.Row, error]) []string {
	h.Helper()
	var results []string
	last := 0
	h.Must(h.Client.EnqueueAll(h.Context(), tasks.Batch{Name: batch}, list, func(r tasks.Result) {
		row, link, err := r.Row, r.Link, r.Err
		if row.Number <= last || err == nil && link.ApplicationID != row.Request.ApplicationID {
			h.Errorf("got the result %+v of row %d (%s) after that of row %d", link, row.Number, row.Request.ApplicationID, last)
		}
		last = row.Number
		outcome := fmt.Sprintf("%s/%s/%d", link.Status, link.Batch, link.Generation)
		if err != nil {
			outcome = tasks.ReasonOf(err)
		}
		results = append(results, fmt.Sprintf("%d:%s", row.Number, outcome))
	}))
	return results
}

func (h *harness) expectResults(got []string, want string) {
	h.Helper()
	if strings.Join(got, " ") != want {
		h.Errorf("got results\n%s, want\n%s", strings.Join(got, " "), want)
	}
}

// chunks returns the stored list of a batch's rows by the number of each chunk.
func (h *harness) chunks(batch int) map[string]string {
	return h.Redis.HGetAll(h.Context(), h.Keys.Order(batch)).Val()
}

func newRow(number int, id string, change func(*tasks.Request)) tasks.Row {
	row := tasks.Row{Number: number, Request: tasks.Request{ApplicationID: id}}
	if change != nil {
		change(&row.Request)
	}
	return row
}

func TestEnqueueAll_ChangesNothingWhenRepeated(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	if got := h.importRows("spring", rows(oneTo(5000)...)); len(got) != 5000 || got[4999] != "5000:waiting/spring/1" {
		t.Errorf("got %d results, the last one %s", len(got), got[len(got)-1])
	}
	h.expectCounters(1, "waiting 5000")
	if order := h.chunks(1); len(order) != 50 || !strings.HasPrefix(order["49"], "0\n4901 R-4901\n4902 R-4902\n") {
		t.Errorf("got %d chunks, the last one %s", len(order), order["49"])
	}
	h.expectTasks("")
	// The second import changes nothing, and feeds nothing again.
	before, order := h.record("R-4901"), h.chunks(1)
	h.importRows("spring", rows(oneTo(5000)...))
	h.expectCounters(1, "waiting 5000")
	if after := h.record("R-4901"); after.AcceptedAt != before.AcceptedAt || after.Turn != before.Turn {
		t.Errorf("the second import changed %+v to %+v", before, after)
	}
	if n := h.Redis.LLen(t.Context(), h.Keys.Requeued(1)).Val(); n != 0 || fmt.Sprint(h.chunks(1)) != fmt.Sprint(order) {
		t.Errorf("the second import changed the list of rows, or feeds %d again", n)
	}
}

func TestEnqueueAll_ContinuesAnInterruptedImport(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.importRows("winter", rows(7, 150, 151))
	broken := errors.New("the disk is broken")
	err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, func(yield func(tasks.Row, error) bool) {
		for row := range rows(oneTo(120)...) {
			if !yield(row, nil) {
				return
			}
		}
		yield(tasks.Row{}, broken)
	}, ignore)
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	h.expectCounters(2, "waiting 99, joined 1")
	for range 2 {
		h.importRows("spring", rows(oneTo(250)...))
		h.expectCounters(2, "waiting 247, joined 3")
		h.expectCounters(1, "waiting 3")
	}
	// A joined row is removed from its chunk, and added again.
	h.importRows("spring", rows(slices.DeleteFunc(oneTo(250), func(n int) bool { return n == 151 })...))
	h.expectCounters(2, "waiting 247, joined 2")
	h.importRows("spring", rows(oneTo(250)...))
	h.expectCounters(2, "waiting 247, joined 3")
}

func TestEnqueueAll_FeedsARowAgainWhenItsRecordWasErased(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.importRows("spring", rows(1, 2))
	h.Must(h.Redis.Del(t.Context(), h.Keys.Record("R-1")).Err())
	h.Must(h.Redis.HIncrBy(t.Context(), h.Keys.Batch(1), "waiting", -1).Err())
	h.importRows("spring", rows(1, 2))
	h.expectCounters(1, "waiting 2")
	if got := h.Redis.LRange(t.Context(), h.Keys.Requeued(1), 0, -1).Val(); fmt.Sprint(got) != "[R-1]" {
		t.Errorf("got %v to be fed again, want [R-1], whose chunk the feeder may have passed", got)
	}
}

func TestEnqueueAll_StoresEmptyChunksForMissingRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.expectResults(h.importRows("spring", rows()), "")
	h.expectCounters(1, "")
	if order := h.chunks(1); fmt.Sprint(order) != "map[0:0\n]" {
		t.Errorf("got chunks %q", order)
	}
	// The numbers of rejected rows are missing; feeding skips chunks without rows.
	h.expectResults(h.importRows("gaps", rows(3, 100, 101, 350)),
		"3:waiting/gaps/1 100:waiting/gaps/1 101:waiting/gaps/1 350:waiting/gaps/1")
	if order := h.chunks(2); fmt.Sprint(order) != "map[0:0\n3 R-3\n100 R-100\n 1:0\n101 R-101\n 2:0\n 3:0\n350 R-350\n]" {
		t.Errorf("got chunks %q", order)
	}
}

func TestEnqueueAll_RefusesInvalidNamesAndRowNumbers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, name := range []string{"", "a\nb", "\xff", strings.Repeat("x", 4097)} {
		if err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: name}, rows(1), ignore); tasks.ReasonOf(err) != "invalid" {
			t.Errorf("batch %.20q: got %v, want invalid", name, err)
		}
	}
	for _, numbers := range [][]int{{0}, {-1}, {1, 1}, {2, 1}} {
		if err := h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, rows(numbers...), ignore); err == nil {
			t.Errorf("rows with the numbers %v were imported, want an error", numbers)
		}
	}
	h.importRows(strings.Repeat("/päth to", 400), rows(1))
	srv := newHarness(t)
	h.Must(srv.Redis.Close())
	if err := srv.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, rows(), ignore); err == nil {
		t.Error("an import with a closed connection: got no error")
	}
}

func interactive(r *tasks.Request)   { r.Lane = tasks.Interactive }
func expiry60(r *tasks.Request)      { r.ExpiryMinutes = 60 }
func generation2(r *tasks.Request)   { r.Generation = 2 }
func expiryWrong(r *tasks.Request)   { r.ExpiryMinutes = -1 }
func interactive60(r *tasks.Request) { r.ExpiryMinutes, r.Lane = 60, tasks.Interactive }

func TestEnqueueAll_HandlesRepeatsWithinTheFileAndOfOtherRequests(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.enqueue(tasks.Request{ApplicationID: "K-1", ExpiryMinutes: 60, Lane: tasks.Bulk})
	h.enqueue(tasks.Request{ApplicationID: "K-2", ExpiryMinutes: 60, Lane: tasks.Bulk})
	h.setState("K-2", request.Created)
	list := []tasks.Row{
		newRow(1, "A", expiryWrong), newRow(2, "A", expiry60), newRow(3, "A", nil), newRow(4, "A", func(r *tasks.Request) { r.WorkflowID = "w" }),
		newRow(5, "B", generation2), newRow(6, "B", interactive60), newRow(7, "B", expiry60), // the first one is refused
		newRow(8, "C", nil), newRow(9, "C", interactive), newRow(10, "C", interactive), // the repeat promotes
		newRow(11, "K-1", func(r *tasks.Request) { r.WorkflowID = "w" }), newRow(12, "K-1", expiry60), newRow(13, "K-1", interactive),
		newRow(14, "K-2", nil), newRow(15, "K-2", generation2), newRow(16, "K-2", func(r *tasks.Request) { r.Generation = 1; r.ExpiryMinutes = 61 }),
	}
	h.expectResults(h.importRows("spring", rowsOf(list)),
		"1:invalid 2:waiting/spring/1 3:waiting/spring/1 4:conflict "+
			"5:generation_gap 6:queued/spring/1 7:queued/spring/1 8:waiting/spring/1 9:queued/spring/1 10:queued/spring/1 "+
			"11:conflict 12:waiting//1 13:queued//1 14:created//1 15:waiting//2 16:conflict")
	for range 3 {
		h.expectCounters(1, "waiting 1, queued 2, joined 4")
		h.expectCounters(0, "waiting 1, queued 1")
		h.expectTasks("B:1:1:1 C:1:1:1 K-1:1:1:1")
		if got := h.chunks(1)["0"]; got != "4\n2 A\n3 A\n6 B\n7 B\n8 C\n9 C\n10 C\n12 K-1\n13 K-1\n14 K-2\n15 K-2\n" {
			t.Errorf("got chunk %q", got)
		}
		feeds := h.Redis.LLen(t.Context(), h.Keys.Requeued(1)).Val()
		h.importRows("spring", rowsOf(list))
		if n := h.Redis.LLen(t.Context(), h.Keys.Requeued(1)).Val(); n != feeds {
			t.Errorf("another import feeds %d more, want none", n-feeds)
		}
	}
}

// Random files are imported repeatedly in random order. A batch counts each request that
// it was the first to accept once as waiting, and each row of another's request as joined.
func TestEnqueueAll_KeepsCountersOfRandomImports(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := newHarness(t)
		owner, files := map[string]string{}, map[string][]tasks.Row{}
		for _, batch := range []string{"spring", "summer"} {
			number := 0
			for range rapid.IntRange(0, 8).Draw(rt, "rows") {
				number += rapid.IntRange(1, 120).Draw(rt, "gap")
				id := rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}).Draw(rt, "id")
				files[batch] = append(files[batch], newRow(number, id, nil))
			}
		}
		for range rapid.IntRange(1, 4).Draw(rt, "imports") {
			batch := rapid.SampledFrom([]string{"spring", "summer"}).Draw(rt, "batch")
			h.importRows(batch, rowsOf(files[batch]))
			joined, own := 0, 0
			for _, row := range files[batch] {
				id := row.Request.ApplicationID
				if owner[id] == "" {
					owner[id] = batch
				}
				if owner[id] != batch {
					joined++
				}
			}
			for _, by := range owner {
				if by == batch {
					own++
				}
			}
			number := h.Redis.HGet(t.Context(), h.Keys.Batches(), batch).Val()
			counts := h.Redis.HMGet(t.Context(), h.Keys.Tag()+":batch:"+number, "waiting", "joined").Val()
			want := []any{fmt.Sprint(own), fmt.Sprint(joined)}
			for i, n := range want {
				if n == "0" && counts[i] == nil {
					counts[i] = "0"
				}
			}
			if fmt.Sprint(counts) != fmt.Sprint(want) {
				rt.Fatalf("batch %s counts %v waiting and joined, want %v", batch, counts, want)
			}
		}
	})
}

// Accepted rows stay in the list of the batch when a shorter, a changed or another file
// is imported under its name.
func TestEnqueueAll_KeepsAcceptedRowsWhenTheFileChanges(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.enqueue(tasks.Request{ApplicationID: "R-3"})
	h.importRows("spring", rows(oneTo(250)...))
	file := func(list ...tasks.Row) {
		t.Helper()
		for range 2 { // the second import changes nothing
			h.importRows("spring", rowsOf(list))
		}
	}
	expect := func(chunk, want string) {
		t.Helper()
		if got := h.chunks(1)[chunk]; !strings.HasPrefix(got, want) {
			t.Errorf("chunk %s: got %.60q, want %q", chunk, got, want)
		}
	}
	// A shorter file, in which a row has changed and a joined one is missing.
	file(newRow(1, "R-1", nil), newRow(2, "R-2", expiry60), newRow(4, "R-4", nil))
	expect("0", "0\n1 R-1\n2 R-2\n4 R-4\n5 R-5\n")
	// Another file.
	file(newRow(1, "S-1", nil), newRow(2, "R-1", nil))
	expect("0", "0\n1 S-1\n2 R-1\n2 R-2\n4 R-4\n5 R-5\n")
	// R-1 moves to another row than the one that it was accepted as, and back.
	file(newRow(1, "R-1", nil))
	expect("0", "0\n1 R-1\n1 S-1\n2 R-2\n4 R-4\n")
	file(newRow(1, "S-1", nil), newRow(101, "R-1", nil))
	expect("0", "0\n1 S-1\n1 R-1\n2 R-2\n4 R-4\n")
	expect("1", "0\n101 R-1\n101 R-101\n102 R-102\n")
	file(newRow(1, "S-1", nil), newRow(101, "R-101", nil))
	expect("1", "0\n101 R-101\n102 R-102\n")
	file(newRow(1, "S-1", nil), newRow(2, "R-1", nil))
	expect("2", "0\n201 R-201\n202 R-202\n")
	h.expectCounters(1, "waiting 250")
	feeds := h.Redis.LLen(t.Context(), h.Keys.Requeued(1)).Val()
	h.importRows("spring", rowsOf([]tasks.Row{newRow(1, "S-1", nil), newRow(2, "R-1", nil)}))
	if n := h.Redis.LLen(t.Context(), h.Keys.Requeued(1)).Val(); n != feeds {
		t.Errorf("the same file feeds %d more rows, want none", n-feeds)
	}
}

// For rows that are marked as validated, only what depends on the client is checked:
// here, that callbacks are off.
func TestEnqueueAll_ChecksOnlyClientLimitsOfValidatedRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	results := func(validated bool) []string {
		return h.importRows("spring", func(yield func(tasks.Row, error) bool) {
			for i, r := range []tasks.Request{
				{ApplicationID: "V-1"}, {ApplicationID: "V-2", CallbackURL: "https://shop.example/hooks"}, {ApplicationID: "V-3", WorkflowID: "a b"},
			} {
				if !yield(tasks.Row{Number: i + 1, Request: r, Validated: validated}, nil) {
					return
				}
			}
		})
	}
	if got := fmt.Sprint(results(false)); got != "[1:waiting/spring/1 2:invalid 3:invalid]" {
		t.Errorf("rows that were not validated: got %s", got)
	}
	if got := fmt.Sprint(results(true)); got != "[1:waiting/spring/1 2:invalid 3:waiting/spring/1]" {
		t.Errorf("rows that were validated: got %s", got)
	}
}
