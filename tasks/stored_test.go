package tasks_test

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// Scripts and workers of other versions read what is stored.
func TestEnqueueAll_StoresRowsShort(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	full := everything
	full.ApplicationID, full.Lane, full.CallbackURL, full.NotAfter, full.Generation = "R-1", tasks.Bulk, "", time.Time{}, 0
	late, next := full, full
	late.ApplicationID, late.NotAfter = "R-2", time.Date(2126, 11, 23, 10, 0, 0, 0, time.UTC)
	next.ApplicationID, next.Lane = "R-3", tasks.Interactive
	list := tasks.Rows([]tasks.Request{full, late, next, {ApplicationID: "R-4"}})
	h.Must(h.Client.EnqueueAll(t.Context(), tasks.Batch{Name: "spring"}, list, func(r tasks.Result) { h.Must(r.Err) }))
	const content = `{"u":"https://shop\.example/done\?a=1&b=2","e":1440,"d":false,"w":"wf-1",`
	for id, want := range map[string]string{
		"R-1": `n000001\d{13}` + content + `"m":{"customer":"42"},"r":1}`,
		"R-2": `2wb-0010010{20}10{10}\d{26}000000d` + content + `"n":"2126-11-23T10:00:00Z","m":{"customer":"42"},"r":2}`,
		"R-3": `2qi-00100100010{16}10{10}\d{26}000000-` + content + `"m":{"customer":"42"},"r":3}`,
		"R-4": `n000001\d{13}{ {47}"r":4}`, // not shorter than a header of version 1
	} {
		raw := h.Redis.Get(t.Context(), h.Keys.Record(id)).Val()
		if !regexp.MustCompile("^" + want + "$").MatchString(raw) {
			t.Errorf("%s is stored as\n%s, want\n%s", id, raw, want)
		}
	}
}

// A request that an earlier version accepted is the same request.
func TestEnqueue_ComparesRepeatsWithRecordsOfEarlierVersions(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	full := everything
	full.CallbackURL, full.NotAfter, full.Generation = "", time.Date(2126, 11, 23, 10, 0, 0, 0, time.UTC), 0
	h.enqueue(full)
	row := full
	row.ApplicationID, row.Lane = "R-1", tasks.Bulk
	list := tasks.Rows([]tasks.Request{row, full, {ApplicationID: "R-3"}})
	const results = "1:waiting/spring/1 2:queued//1 3:waiting/spring/1"
	h.expectResults(h.importRows("spring", list), results)
	chunks := h.chunks(1)
	for _, id := range []string{full.ApplicationID, "R-1", "R-3"} {
		h.StoreAsVersion1(id)
	}
	h.expectResults(h.importRows("spring", list), results)
	h.expectCounters(1, "waiting 2, joined 1")
	if now := h.chunks(1); fmt.Sprint(now) != fmt.Sprint(chunks) {
		t.Errorf("the second import changed the rows from %v to %v", chunks, now)
	}
	h.expectRefusal(tasks.Request{ApplicationID: "R-1", RedirectURL: "https://shop.example/other"}, "conflict", "redirect_url")
	// The batch keeps the row of its own request when another file has another one there.
	h.importRows("spring", rowsOf([]tasks.Row{newRow(1, "S-1", nil)}))
	if got := h.chunks(1)["0"]; got != "0\n1 S-1\n1 R-1\n3 R-3\n" {
		t.Errorf("got chunk %q", got)
	}
}
