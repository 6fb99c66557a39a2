package ledger_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// model is several workers, producers and operators that act on a few requests in any
// order. Its workers hold tasks and attempts for long, lose them, and answer late.
type model struct {
	*harness
	workers  []*storage.Stores
	refs     []request.Ref              // all turns that were ever enqueued: asynq may run each again
	attempts []attempt.Attempt          // all calls that were ever granted: each may answer late
	owners   map[string]*storage.Stores // of attempts, by nonce
	links    int
	records  map[string]request.Record // as they were after the previous step
	dropped  map[string]bool           // failed, then dropped by an operator
	begun    map[string]bool           // a new run or generation that a person began since the last batch control
}

// In any interleaving, each run has one end and each end one event, the counters equal the
// records, attempts and possible duplicates never decrease, and no link is lost.
func TestLedger_KeepsItsInvariantsInAnyInterleaving(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t) // finding an account's requests scans all keys of a server
	rapid.Check(t, func(rt *rapid.T) {
		f := &model{harness: newHarnessOn(t, own), owners: map[string]*storage.Stores{}, records: map[string]request.Record{}, dropped: map[string]bool{}, begun: map[string]bool{}}
		defer func() { f.Must(f.Redis.FlushDB(t.Context()).Err()) }()
		f.workers = append(f.workers, f.Stores)
		for _, hold := range []bool{false, true} {
			w := storage.New(f.Redis, storage.Config{Fleet: fleet.Config{Account: f.Keys.Account, Simulated: true, DeadAfter: time.Nanosecond}, Ledger: ledger.Config{HoldUncertain: hold}})
			f.Must(w.Fleet.Join(t.Context()))
			f.workers = append(f.workers, w)
		}
		id := rapid.Map(rapid.IntRange(1, 3), func(n int) string { return fmt.Sprintf("A-%d", n) })
		name := rapid.SampledFrom([]string{"spring", "autumn"})
		worker := rapid.Map(rapid.IntRange(0, len(f.workers)-1), func(n int) *storage.Stores { return f.workers[n] })

		rt.Repeat(map[string]func(*rapid.T){
			"import":  func(rt *rapid.T) { f.ImportInto(name.Draw(rt, "batch"), id.Draw(rt, "id")) },
			"signup":  func(rt *rapid.T) { f.signup(tasks.Request{ApplicationID: id.Draw(rt, "id")}) },
			"next":    func(rt *rapid.T) { f.signup(tasks.Request{ApplicationID: id.Draw(rt, "id"), Generation: 2}) },
			"feed":    func(rt *rapid.T) { f.refs = append(f.refs, f.Feed()...) },
			"admit":   func(rt *rapid.T) { f.admit(rt, worker.Draw(rt, "worker")) },
			"created": func(rt *rapid.T) { f.answer(rt, worker.Draw(rt, "worker")) },
			"fault":   f.faulted,
			"cancel": func(rt *rapid.T) {
				if r, ok := f.Get(id.Draw(rt, "id")); ok {
					_, err := f.Stores.Requests.Cancel(t.Context(), r)
					f.Must(err)
				}
			},
			"stored by an earlier version": func(rt *rapid.T) { f.StoreAsVersion1(id.Draw(rt, "id")) },
			"quarantine":                   func(rt *rapid.T) { f.quarantine(rt, worker.Draw(rt, "worker")) },
			"late":                         func(*rapid.T) { f.expireLate() },
			"signup with a short not_after": func(rt *rapid.T) {
				req := tasks.Request{ApplicationID: id.Draw(rt, "id"), NotAfter: time.Now().Add(3 * time.Millisecond)}
				if _, ok := f.Get(req.ApplicationID); !ok {
					f.signup(req)
				}
			},
			"retry": func(rt *rapid.T) {
				if r, ok := f.Get(id.Draw(rt, "id")); ok {
					now, changed, err := f.Stores.Requests.Retry(t.Context(), r)
					f.Must(err)
					f.begun[r.ApplicationID] = f.begun[r.ApplicationID] || changed
					if changed && now.State == request.Queued {
						f.refs = append(f.refs, now.Ref())
					}
				}
			},
			"control": func(rt *rapid.T) {
				clear(f.begun)
				f.Control(name.Draw(rt, "batch"), rapid.SampledFrom([]batch.Control{
					batch.Pause, batch.Resume, batch.Resume, batch.Cancel}).Draw(rt, "control"))
			},
			"cancel batch": func(rt *rapid.T) {
				f.cancelBatch(name.Draw(rt, "batch"), rapid.IntRange(0, 2).Draw(rt, "pages"))
			},
			"drop":        func(rt *rapid.T) { f.drop(id.Draw(rt, "id")) },
			"drop failed": func(rt *rapid.T) { f.dropFailed(id.Draw(rt, "id")) },
			"": func(*rapid.T) {
				f.listAgain()
				f.ExpectCounters()
				f.ExpectOperatorLists(f.dropped)
				f.expectGrowingNumbers()
				f.expectGauges(f.expectEnds())
			},
		})
	})
}

func (f *model) signup(req tasks.Request) {
	link, err := f.Client.Enqueue(f.Context(), req)
	late := tasks.ReasonOf(err) == "invalid" && !req.NotAfter.IsZero() && time.Now().After(req.NotAfter) // its not_after has passed meanwhile
	if err != nil && !late && tasks.ReasonOf(err) != "generation_gap" {
		f.Fatal(err)
	}
	f.begun[req.ApplicationID] = f.begun[req.ApplicationID] || err == nil && req.Generation > 1
	if r, ok := f.Get(req.ApplicationID); ok && link.Status == tasks.Queued {
		f.refs = append(f.refs, r.Ref())
	}
}

func (f *model) admit(rt *rapid.T, w *storage.Stores) {
	if len(f.refs) == 0 {
		return
	}
	ref := rapid.SampledFrom(f.refs).Draw(rt, "ref")
	before, _ := f.Get(ref.ApplicationID)
	answer := f.TryAdmit(w, ref)
	if answer.Verdict == attempt.Dead {
		if after, _ := f.Get(ref.ApplicationID); !reflect.DeepEqual(before, after) {
			f.Fatalf("finding its attempt dead changed %+v to %+v", before, after)
		}
		if answers := rapid.Bool().Draw(rt, "the dead attempt answers"); answers {
			f.answer(rt, w)
		}
		_, err := w.Requests.Hold(f.Context(), answer.Attempt.Record)
		f.Must(err)
		return
	}
	if a := answer.Attempt; answer.Verdict == attempt.Call {
		superseded := 0
		if before.State == request.Calling {
			superseded = 1
		}
		if a.Attempts != before.Attempts+1 || a.PossibleDuplicates != before.PossibleDuplicates+superseded {
			f.Fatalf("admission changed\n%+v to\n%+v", a.Record, before)
		}
		f.attempts = append(f.attempts, a)
		f.owners[a.Nonce] = w
	}
}

// cancelBatch cancels the requests of a batch, or only some pages of them. When all are
// cancelled, no run that began before the batch was cancelled may still be called.
func (f *model) cancelBatch(batch string, pages int) {
	number := f.BatchNumber(batch)
	if number == 0 {
		return
	}
	if pages > 0 {
		f.CancelPages(batch, pages)
		return
	}
	far, err := f.Stores.Batches.Cancelling(f.Context())
	f.Must(err)
	f.Must(f.Stores.Batches.CancelRequests(f.Context(), number, func(int) {}))
	if _, cancelling := far[number]; !cancelling {
		return
	}
	for _, r := range f.Records() {
		if r.Batch == number && !f.begun[r.ApplicationID] && !r.State.Ended() && (r.State != request.Calling || !r.CancelAsked) {
			f.Fatalf("%+v is left in a cancelled batch", r)
		}
	}
}

func (f *model) drop(id string) {
	before, ok := f.Get(id)
	if !ok {
		return
	}
	done, err := f.Stores.Requests.Drop(f.Context(), before)
	f.Must(err)
	after, _ := f.Get(id)
	if held := before.State == request.Held; done != held || held != (after.State != before.State) {
		f.Fatalf("dropped: %v; %+v became %+v", done, before, after)
	}
}

func (f *model) dropFailed(id string) {
	r, ok := f.Get(id)
	if !ok {
		return
	}
	done, err := f.Stores.DeadLetters.DropRequest(f.Context(), r)
	f.Must(err)
	if want := r.State == request.Failed && !f.dropped[id]; done != want {
		f.Fatalf("dropped from the failed requests: %v; the request was %s, and dropped before: %v", done, r.State, f.dropped[id])
	}
	f.dropped[id] = f.dropped[id] || done
}

// listAgain forgets that a request was dropped once it has another run or generation.
func (f *model) listAgain() {
	for id := range f.dropped {
		before := f.records[id]
		if after, _ := f.Get(id); before.Run != after.Run || before.Generation != after.Generation {
			delete(f.dropped, id)
		}
	}
}

// quarantine ends a turn that a worker has, whether its call was granted or not.
func (f *model) quarantine(rt *rapid.T, w *storage.Stores) {
	if len(f.refs) == 0 {
		return
	}
	ref := rapid.SampledFrom(f.refs).Draw(rt, "ref")
	before, _ := f.Get(ref.ApplicationID)
	// With the nonce the numbers would decrease, as for a call that was not sent.
	state, err := w.Requests.Quarantine(f.Context(), ref, "", "an invented reason")
	f.Must(err)
	if after, _ := f.Get(ref.ApplicationID); state == "" && !reflect.DeepEqual(before, after) {
		f.Fatalf("the stale turn %v changed %+v to %+v", ref, before, after)
	}
}

func (f *model) expireLate() {
	_, _, err := f.Stores.Requests.ExpireDue(f.Context(), "")
	f.Must(err)
}

func (f *model) answer(rt *rapid.T, w *storage.Stores) {
	if len(f.attempts) == 0 {
		return
	}
	f.links++
	made := request.Link{LinkID: fmt.Sprint("link-", f.links), URL: fmt.Sprint("https://simulator.invalid/", f.links)}
	a := rapid.SampledFrom(f.attempts).Draw(rt, "attempt")
	_, err := w.Requests.Created(f.Context(), a, made)
	f.Must(err)
	if !f.hasLink(a, made) {
		f.Fatalf("link %s of %s was lost", made.LinkID, a.ApplicationID)
	}
}

// hasLink reports whether a record has the link, as outcome or as a late link.
func (f *model) hasLink(a attempt.Attempt, made request.Link) bool {
	r, _ := f.Get(a.ApplicationID)
	if r.Generation != a.Generation {
		raw, err := f.Redis.Get(f.Context(), f.Keys.Old(a.ApplicationID, a.Generation)).Bytes()
		f.Must(err)
		r, err = request.Parse(a.ApplicationID, raw)
		f.Must(err)
	}
	for _, o := range append(r.Past, r.Outcome) {
		if o.LinkID == made.LinkID && o.URL == made.URL {
			return true
		}
	}
	return false
}

func (f *model) faulted(rt *rapid.T) {
	if len(f.attempts) == 0 {
		return
	}
	a := rapid.SampledFrom(f.attempts).Draw(rt, "attempt")
	kind := rapid.SampledFrom([]fault.Kind{fault.ServerError, fault.Unavailable, fault.BadRequest}).Draw(rt, "kind")
	follows := rapid.SampledFrom([]attempt.Action{attempt.Retry, attempt.Fail, attempt.Hold}).Draw(rt, "follows")
	before, _ := f.Get(a.ApplicationID)
	_, err := f.owners[a.Nonce].Requests.Fault(f.Context(), a, &fault.Fault{Kind: kind}, attempt.Next{Action: follows, MaxCharged: 2})
	f.Must(err)
	current := before.State == request.Calling && before.Generation == a.Generation && before.Run == a.Run && before.Attempts == a.Attempts
	after, _ := f.Get(a.ApplicationID)
	if changed := !reflect.DeepEqual(before, after); changed != current {
		f.Fatalf("a fault of the current attempt (%v) changed %+v to %+v", current, before, after)
	}
}

func (f *model) expectGrowingNumbers() {
	for _, r := range f.Records() {
		before, ok := f.records[r.ApplicationID]
		if ok && before.Generation == r.Generation &&
			(r.Attempts < before.Attempts || r.PossibleDuplicates < before.PossibleDuplicates || r.Run < before.Run) {
			f.Fatalf("the numbers of %s decreased: %+v, then %+v", r.ApplicationID, before, r)
		}
		f.records[r.ApplicationID] = r
	}
}

// expectEnds reads the whole stream: each run has at most one end, each ended record has
// the end of its run, and its event has the record's event id. It returns the number of
// events of each type.
func (f *model) expectEnds() (kinds map[string]int) {
	entries, err := f.Redis.XRange(f.Context(), f.Keys.Results(), "-", "+").Result()
	f.Must(err)
	ends, kinds := map[string]tasks.Event{}, map[string]int{}
	for _, entry := range entries {
		e, err := tasks.ParseEvent(entry.Values)
		f.Must(err)
		kinds[e.Type]++
		if e.Type == tasks.EventHeld {
			continue
		}
		run := fmt.Sprint(e.Data.ApplicationID, e.Data.Generation, e.Data.Run)
		if _, twice := ends[run]; twice {
			f.Fatalf("run %s has two ends", run)
		}
		ends[run] = e
	}
	for _, r := range f.Records() {
		e, ended := ends[fmt.Sprint(r.ApplicationID, r.Generation, r.Run)]
		if ended != r.State.Ended() {
			f.Fatalf("%s is %s, and the end of its run is published: %v", r.ApplicationID, r.State, ended)
		}
		if ended && (e.ID != r.EventID(f.Keys.Account).String() || e.Type != "link."+string(r.State)) {
			f.Fatalf("%s is %s, its event is %+v", r.ApplicationID, r.State, e)
		}
	}
	return kinds
}

// expectGauges compares the counters of the account with its records, and with the number
// of events of each type.
func (f *model) expectGauges(events map[string]int) {
	g, duplicates := f.Gauges(), 0
	for _, r := range f.Records() {
		story, err := f.Stores.Records.History(f.Context(), r.ApplicationID)
		f.Must(err)
		for _, generation := range story {
			duplicates += generation.PossibleDuplicates
		}
	}
	if g.PossibleDuplicates != duplicates {
		f.Fatalf("the account counts %d possible duplicates, its records have %d", g.PossibleDuplicates, duplicates)
	}
	for kind, n := range map[string]int{tasks.EventCreated: g.Created, tasks.EventFailed: g.EndedFailed, tasks.EventCancelled: g.EndedCancelled} {
		if n != events[kind] {
			f.Fatalf("the account counts %d ends of type %s, and has %d events of them", n, kind, events[kind])
		}
	}
}
