package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func (b *bench) erase(ids ...string) []ledger.Erasure {
	b.t.Helper()
	all, err := b.ledger.Erase(b.t.Context(), ids)
	b.must(err)
	return all
}

// everything is all that Redis keeps of the account, by key.
func (b *bench) everything() map[string]string {
	b.t.Helper()
	ctx, all := context.Background(), map[string]string{}
	scan := b.rdb.Scan(ctx, 0, "*"+b.keys.Account+"*", 1000).Iterator()
	for scan.Next(ctx) {
		key := scan.Val()
		kind, err := b.rdb.Type(ctx, key).Result()
		b.must(err)
		read := map[string]func() (any, error){
			"string": func() (any, error) { return b.rdb.Get(ctx, key).Result() },
			"hash":   func() (any, error) { return b.rdb.HGetAll(ctx, key).Result() },
			"list":   func() (any, error) { return b.rdb.LRange(ctx, key, 0, -1).Result() },
			"set":    func() (any, error) { return b.rdb.SMembers(ctx, key).Result() },
			"zset":   func() (any, error) { return b.rdb.ZRange(ctx, key, 0, -1).Result() },
			"stream": func() (any, error) { return b.rdb.XRange(ctx, key, "-", "+").Result() },
		}[kind]
		value, err := read()
		b.must(err)
		all[key] = fmt.Sprint(value)
	}
	b.must(scan.Err())
	return all
}

// expectNoTrace looks for ids in every key and value.
func (b *bench) expectNoTrace(ids ...string) {
	b.t.Helper()
	for key, value := range b.everything() {
		for _, id := range ids {
			if strings.Contains(key, id) || strings.Contains(value, id) {
				b.t.Errorf("%s is still in %s: %s", id, key, value)
			}
		}
	}
}

// counts are a batch's counters, joined included, and their sum.
func (b *bench) counts(batch int) (counts map[string]int, rows int) {
	b.t.Helper()
	hash, err := b.rdb.HGetAll(context.Background(), b.keys.Batch(batch)).Result()
	b.must(err)
	counts = map[string]int{}
	for _, name := range []string{"waiting", "queued", "calling", "held", "created", "failed", "cancelled", "erased", "joined"} {
		if hash[name] != "" {
			counts[name], err = strconv.Atoi(hash[name])
			b.must(err)
		}
		rows += counts[name]
	}
	return counts, rows
}

// finish gives each request of a lane one of the ends.
func (b *bench) finish(refs []request.Ref, ends ...string) {
	b.t.Helper()
	for i, ref := range refs {
		b.mark(b.ledger, ref, attempt.Call)
		transitions[ends[i%len(ends)]](b, ref.ApplicationID)
	}
}

// What is erased leaves nothing but counters: with several generations, failed or
// not, in several rows and batches, and among what is to be fed again.
func TestEraseLeavesCountersOnly(t *testing.T) {
	b := newBench(t)
	list := []tasks.Request{{ApplicationID: "N-1"}, {ApplicationID: "E-1"}, {ApplicationID: "E-2"}, {ApplicationID: "E-1"}, {ApplicationID: "E-3"}, {ApplicationID: "N-2"}}
	b.enqueueAll("spring", list)
	b.enqueueAll("autumn", append(rows(1, 150), list...))
	b.finish(b.feed(), "created", "fail", "created")
	_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "E-2", Generation: 2, Lane: tasks.Bulk})
	b.must(err)
	for _, ref := range b.feed() {
		b.finish([]request.Ref{ref}, "fail")
	}
	failed, _ := b.get("E-2")
	_, _, err = b.ledger.Again(t.Context(), failed) // it stays in what is to be fed
	b.must(err)
	waits, _ := b.get("E-2")
	_, err = b.ledger.Cancel(t.Context(), waits)
	b.must(err)
	_, before := b.counts(1)

	for _, e := range b.erase("E-1", "E-2", "E-3", "E-9") {
		if e.Erased != (e.ApplicationID != "E-9") || e.ApplicationID == "E-2" && e.Generations != 2 || e.ApplicationID == "E-1" && e.Rows != 2 {
			t.Errorf("%+v", e)
		}
	}
	taken, err := b.ledger.Scrub(t.Context())
	if err != nil || taken != 5 { // four rows of autumn, and the one to be fed again
		t.Errorf("%d ids were taken out of rows, %v", taken, err)
	}
	gone := map[string]bool{"E-1": true, "E-2": true, "E-3": true}
	if n, err := b.ledger.ForgetEvents(t.Context(), ledger.Whom{IDs: gone}); err != nil || n != 5 {
		t.Errorf("%d events went, %v", n, err)
	}
	b.expectNoTrace("E-1", "E-2", "E-3")
	counts, after := b.counts(1)
	if counts["erased"] != 3 || before != after {
		t.Errorf("%v: %d rows, and %d before", counts, after, before)
	}
	b.expectCounters()
	b.expectShelves(nil)

	// The rows keep their places, and the ids may be asked for anew.
	var places []string
	for page, err := range b.ledger.Order(t.Context(), 1) {
		b.must(err)
		for _, line := range page {
			places = append(places, fmt.Sprint(line.Row, line.ApplicationID))
		}
	}
	if want := []string{"1N-1", "2", "3", "4", "5", "6N-2"}; !slices.Equal(places, want) {
		t.Errorf("the rows are %v, want %v", places, want)
	}
	again, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "E-1"})
	if err != nil || again.Generation != 1 || again.Attempts != 0 || again.Batch != "" {
		t.Errorf("asked for anew: %+v, %v", again, err)
	}
}

func TestWhatHasNotEndedIsNotErased(t *testing.T) {
	for state, path := range paths {
		if state == "none" || request.State(state).Ended() {
			continue
		}
		b := newBench(t)
		for _, step := range path {
			transitions[step](b, "A-1")
		}
		if e := b.erase("A-1")[0]; e.Erased || e.State != request.State(state) || time.Since(e.Since).Abs() > time.Minute {
			t.Errorf("%s: %+v", state, e)
		}
		b.expectState("A-1", state)
	}
}

// aged puts requests into a batch that ended so long ago.
func (b *bench) aged(batch string, ago time.Duration, from, n int, states ...request.State) {
	b.t.Helper()
	at := time.Now().Add(-ago).Truncate(time.Millisecond)
	var list []request.Record
	for i := range n {
		r := request.Record{
			ApplicationID: fmt.Sprintf("G-%d", from+i), State: states[i%len(states)], Lane: request.Bulk, Generation: 1, Run: 1,
			AcceptedAt: at, ChangedAt: at, Content: request.Content{Row: from + i},
		}
		if r.State.Ended() {
			r.Outcome = request.Outcome{Run: 1, Status: r.State, EndedAt: at}
		}
		list = append(list, r)
	}
	b.must(b.ledger.Restore(b.t.Context(), batch, list))
}

func TestRetention(t *testing.T) {
	b := newBench(t)
	keeper := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Retention: time.Hour})
	b.aged("spring", 2*time.Hour, 1, 1200, request.Created, request.Failed, request.Cancelled, request.Held, request.Waiting)
	b.aged("spring", 50*time.Minute, 2001, 300, request.Created, request.Failed)
	// An earlier generation goes by its own end, while the latest one waits.
	b.aged("spring", 2*time.Hour, 3001, 1, request.Created)
	r, _ := b.get("G-3001")
	_, err := b.ledger.Refresh(t.Context(), 1, []request.Record{r}, time.Time{})
	b.must(err)
	_, before := b.counts(1)

	erased := 0
	for range 100 { // a thousand keys a time at least: one round is enough
		n, err := keeper.Retire(t.Context(), 0)
		b.must(err)
		erased += n
	}
	counts, after := b.counts(1)
	if erased != 720 || counts["erased"] != 720 || before != after {
		t.Errorf("%d were erased, of %d rows there are %d: %v", erased, before, after, counts)
	}
	if counts["created"] != 150 || counts["failed"] != 150 || counts["held"] != 240 || counts["waiting"] != 241 || counts["cancelled"] != 0 {
		t.Errorf("%v", counts)
	}
	b.expectCounters()
	b.expectShelves(nil)
	story, err := b.ledger.Story(t.Context(), "G-3001")
	if err != nil || len(story) != 1 || story[0].Generation != 2 {
		t.Errorf("of what was refreshed there is %+v, %v", story, err)
	}
	if n, err := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account}).Retire(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("without a retention: %d, %v", n, err)
	}
}

// Rows of other batches forget what is not kept, too.
func TestRetentionScrubsRows(t *testing.T) {
	b := newBench(t)
	b.enqueueAll("spring", rows(1, 250))
	b.enqueueAll("autumn", append(rows(101, 350), tasks.Request{ApplicationID: "N-1"}))
	refs := b.feed()
	b.finish(refs, "created")
	keeper := ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Retention: time.Millisecond})
	b.must(b.rdb.Del(t.Context(), b.keys.Results()).Err()) // whose age is another matter
	ids := make([]string, len(refs))
	for i, ref := range refs {
		ids[i] = ref.ApplicationID
	}
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := keeper.Retire(t.Context(), 0)
		b.must(err)
		all := fmt.Sprint(b.everything())
		if !slices.ContainsFunc(ids, func(id string) bool { return strings.Contains(all, id+"\n") || strings.Contains(all, id+" ") }) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left:\n%s", all)
		}
	}
	if counts, _ := b.counts(1); counts["erased"] != 250 {
		t.Errorf("%v", counts)
	}
}

func TestForgetAside(t *testing.T) {
	b := newBench(t)
	for _, p := range []quarantine.Entry{
		{Task: "A-1:1:1:1", Why: "asynq cannot read the task"}, {Task: "A-10:1:1:1"}, {Task: "x", Raw: []byte("\n.A-1:1:1:1\x00")},
		{Task: "y", Raw: []byte(`{"application_id":"A-10"}`)}, {Task: "z", Raw: []byte(`{"application_id":"A-1"}`)},
	} {
		b.must(b.ledger.PutAside(t.Context(), p))
	}
	names, err := b.ledger.AsideNames(t.Context())
	if err != nil || len(names) != 2 || !names["A-1"] {
		t.Errorf("%v, %v", names, err)
	}
	n, err := b.ledger.ForgetAside(t.Context(), map[string]bool{"A-1": true})
	var left []quarantine.Entry
	for p, err := range b.ledger.Aside(t.Context()) {
		b.must(err)
		left = append(left, p)
	}
	if n != 3 || err != nil || len(left) != 2 || left[0].Task != "y" || left[1].Task != "A-10:1:1:1" {
		t.Errorf("%d went, %v; left are %+v", n, err, left)
	}
}

// Only what has expired is refreshed, once, and stays in its batch and row.
func TestRefresh(t *testing.T) {
	b := newBench(t)
	list := append(rows(1, 120), tasks.Request{ApplicationID: "S-1", ExpiryMinutes: 1, NotAfter: time.Now().Add(time.Hour)})
	b.enqueueAll("spring", list)
	refs := b.feed()
	for _, ref := range refs {
		a := b.mark(b.ledger, ref, attempt.Call)
		a.At = a.At.Add(-2 * time.Minute) // so that a link of one minute has expired
		if ref.ApplicationID == "R-7" {
			_, err := b.ledger.Fault(t.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail})
			b.must(err)
			continue
		}
		_, err := b.ledger.Created(t.Context(), a, link)
		b.must(err)
	}
	refresh := func() (refreshed []string) {
		for page, err := range b.ledger.Own(t.Context(), 1) {
			b.must(err)
			page = slices.DeleteFunc(page, func(r request.Record) bool { return !ledger.ExpiredAt(r, time.Now()) })
			ids, err := b.ledger.Refresh(t.Context(), 1, page, time.Time{})
			b.must(err)
			refreshed = append(refreshed, ids...)
		}
		return refreshed
	}
	if got := refresh(); !slices.Equal(got, []string{"S-1"}) {
		t.Fatalf("refreshed %v", got)
	}
	if got := refresh(); len(got) != 0 {
		t.Errorf("refreshed %v once more", got)
	}
	r, _ := b.get("S-1")
	if !r.AcceptedAt.After(b.record("R-1").AcceptedAt) {
		t.Errorf("it was accepted at %v", r.AcceptedAt)
	}
	if r.State != request.Waiting || r.Generation != 2 || r.Run != 1 || r.Attempts != 0 || r.Batch != 1 || r.Content.Row != 121 ||
		!r.Content.NotAfter.IsZero() || r.Deadline || r.Outcome.URL != "" || r.Content.ExpiryMinutes != 1 {
		t.Errorf("%+v", r)
	}
	b.expectCounters()
	fed := b.feed()
	if len(fed) != 1 || fed[0].ApplicationID != "S-1" {
		t.Fatalf("fed %v", fed)
	}
	b.finish(fed, "created")
	story, err := b.ledger.Story(t.Context(), "S-1")
	if err != nil || len(story) != 2 || story[1].Outcome.URL != link.URL {
		t.Errorf("%+v, %v", story, err)
	}
	soon := time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	ids, err := b.ledger.Refresh(t.Context(), 1, story[:1], soon)
	r, _ = b.get("S-1")
	if err != nil || len(ids) != 1 || !r.Deadline || !r.Content.NotAfter.Equal(soon) {
		t.Errorf("%v, %v: %+v", ids, err, r)
	}
	if due, err := b.rdb.ZScore(t.Context(), b.keys.Deadlines(), "S-1").Result(); err != nil || int64(due) != soon.UnixMilli() {
		t.Errorf("due %f, %v", due, err)
	}
}
