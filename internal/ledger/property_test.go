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

// model is a model of several workers and people who act on a few requests in
// any order: workers that hold tasks and attempts for long, lose them, and come
// back late with an answer.
type model struct {
	*harness
	workers  []*storage.Stores
	refs     []request.Ref              // tasks that were enqueued, never taken away: asynq may run any again
	attempts []attempt.Attempt          // calls that were marked, never taken away: any may answer late
	owners   map[string]*storage.Stores // of attempts, by their nonces
	links    int
	numbers  map[string]request.Record
	hidden   map[string]bool // failed, and dropped by a person since
	begun    map[string]bool // by a person, as another run or generation, since a batch was steered
}

// TestLedger_KeepsItsInvariantsInAnyInterleaving keeps, whatever happens in whatever order: one end per
// run and one event per end, counters equal to the records, numbers that never
// fall, and no answer that is lost.
func TestLedger_KeepsItsInvariantsInAnyInterleaving(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t) // to look for an account's requests is to walk over all that a server has
	rapid.Check(t, func(rt *rapid.T) {
		f := &model{harness: newHarnessOn(t, own), owners: map[string]*storage.Stores{}, numbers: map[string]request.Record{}, hidden: map[string]bool{}, begun: map[string]bool{}}
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
			"mark":    func(rt *rapid.T) { f.mark(rt, worker.Draw(rt, "worker")) },
			"created": func(rt *rapid.T) { f.answer(rt, worker.Draw(rt, "worker")) },
			"fault":   f.faulted,
			"cancel": func(rt *rapid.T) {
				if r, ok := f.Get(id.Draw(rt, "id")); ok {
					_, err := f.Stores.Requests.Cancel(t.Context(), r)
					f.Must(err)
				}
			},
			"poison": func(rt *rapid.T) { f.poison(rt, worker.Draw(rt, "worker")) },
			"late":   func(*rapid.T) { f.expireLate() },
			"brief": func(rt *rapid.T) {
				brief := tasks.Request{ApplicationID: id.Draw(rt, "id"), NotAfter: time.Now().Add(3 * time.Millisecond)}
				if _, ok := f.Get(brief.ApplicationID); !ok {
					f.signup(brief)
				}
			},
			"again": func(rt *rapid.T) {
				if r, ok := f.Get(id.Draw(rt, "id")); ok {
					now, changed, err := f.Stores.Requests.Retry(t.Context(), r)
					f.Must(err)
					f.begun[r.ApplicationID] = f.begun[r.ApplicationID] || changed
					if changed && now.State == request.Queued {
						f.refs = append(f.refs, now.Ref())
					}
				}
			},
			"steer": func(rt *rapid.T) {
				clear(f.begun)
				f.Control(name.Draw(rt, "batch"), rapid.SampledFrom([]batch.Control{
					batch.Pause, batch.Resume, batch.Resume, batch.Cancel}).Draw(rt, "control"))
			},
			"call off": func(rt *rapid.T) {
				f.callsOff(name.Draw(rt, "batch"), rapid.IntRange(0, 2).Draw(rt, "broken off after"))
			},
			"drop": func(rt *rapid.T) { f.drop(id.Draw(rt, "id")) },
			"hide": func(rt *rapid.T) { f.hide(id.Draw(rt, "id")) },
			"": func(*rapid.T) {
				f.reappear()
				f.ExpectCounters()
				f.ExpectOperatorLists(f.hidden)
				f.expectNumbers()
				f.expectGauges(f.expectEnds())
			},
		})
	})
}

func (f *model) signup(req tasks.Request) {
	link, err := f.Client.Enqueue(f.Context(), req)
	over := tasks.ReasonOf(err) == "invalid" && !req.NotAfter.IsZero() && time.Now().After(req.NotAfter) // it was brief
	if err != nil && !over && tasks.ReasonOf(err) != "generation_gap" {
		f.Fatal(err)
	}
	f.begun[req.ApplicationID] = f.begun[req.ApplicationID] || err == nil && req.Generation > 1
	if r, ok := f.Get(req.ApplicationID); ok && link.Status == tasks.Queued {
		f.refs = append(f.refs, r.Ref())
	}
}

func (f *model) mark(rt *rapid.T, w *storage.Stores) {
	if len(f.refs) == 0 {
		return
	}
	ref := rapid.SampledFrom(f.refs).Draw(rt, "ref")
	before, _ := f.Get(ref.ApplicationID)
	answer := f.TryAdmit(w, ref)
	if answer.Verdict == attempt.Dead {
		if after, _ := f.Get(ref.ApplicationID); !reflect.DeepEqual(before, after) {
			f.Fatalf("that its attempt is dead changed %+v to %+v", before, after)
		}
		if late := rapid.Bool().Draw(rt, "it answers all the same"); late {
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
			f.Fatalf("mark made %+v of %+v", a.Record, before)
		}
		f.attempts = append(f.attempts, a)
		f.owners[a.Nonce] = w
	}
}

// callsOff may be broken off. Once it is through, no run of the batch is left that
// was begun before and may be called.
func (f *model) callsOff(batch string, pages int) {
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
			f.Fatalf("%+v is left of a batch that was cancelled", r)
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
		f.Fatalf("drop: %v; %+v became %+v", done, before, after)
	}
}

func (f *model) hide(id string) {
	r, ok := f.Get(id)
	if !ok {
		return
	}
	done, err := f.Stores.DeadLetters.DropRequest(f.Context(), r)
	f.Must(err)
	if want := r.State == request.Failed && !f.hidden[id]; done != want {
		f.Fatalf("hidden: %v; it was %s, and hidden before: %v", done, r.State, f.hidden[id])
	}
	f.hidden[id] = f.hidden[id] || done
}

// reappear forgets what was hidden as another run, or another generation.
func (f *model) reappear() {
	for id := range f.hidden {
		before := f.numbers[id]
		if after, _ := f.Get(id); before.Run != after.Run || before.Generation != after.Generation {
			delete(f.hidden, id)
		}
	}
}

// poison is of a turn that a worker has, and has or has not marked.
func (f *model) poison(rt *rapid.T, w *storage.Stores) {
	if len(f.refs) == 0 {
		return
	}
	ref := rapid.SampledFrom(f.refs).Draw(rt, "ref")
	before, _ := f.Get(ref.ApplicationID)
	// With the nonce numbers fall, as they do for what was not sent after all.
	state, err := w.Requests.Quarantine(f.Context(), ref, "", "an invented reason")
	f.Must(err)
	if after, _ := f.Get(ref.ApplicationID); state == "" && !reflect.DeepEqual(before, after) {
		f.Fatalf("%v stands for nothing, and changed %+v to %+v", ref, before, after)
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
	if !f.keeps(a, made) {
		f.Fatalf("link %s of %s was thrown away", made.LinkID, a.ApplicationID)
	}
}

// keeps says whether the link is on the record, as outcome or as a late link.
func (f *model) keeps(a attempt.Attempt, made request.Link) bool {
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
		f.Fatalf("a fault of the current attempt: %v; it changed %+v to %+v", current, before, after)
	}
}

func (f *model) expectNumbers() {
	for _, r := range f.Records() {
		before, ok := f.numbers[r.ApplicationID]
		if ok && before.Generation == r.Generation &&
			(r.Attempts < before.Attempts || r.PossibleDuplicates < before.PossibleDuplicates || r.Run < before.Run) {
			f.Fatalf("numbers of %s fell: %+v then %+v", r.ApplicationID, before, r)
		}
		f.numbers[r.ApplicationID] = r
	}
}

// expectEnds reads the whole stream: each run has one end at most, an ended
// record has that of its run, and the ids of events are its record's.
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
			f.Fatalf("%s is %s, and its run's end is published: %v", r.ApplicationID, r.State, ended)
		}
		if ended && (e.ID != r.EventID(f.Keys.Account).String() || e.Type != "link."+string(r.State)) {
			f.Fatalf("%s is %s, its event is %+v", r.ApplicationID, r.State, e)
		}
	}
	return kinds
}

// expectGauges holds what is counted for the account against its records and its
// events, which are so many of each type.
func (f *model) expectGauges(events map[string]int) {
	g, doubts := f.Gauges(), 0
	for _, r := range f.Records() {
		story, err := f.Stores.Records.History(f.Context(), r.ApplicationID)
		f.Must(err)
		for _, generation := range story {
			doubts += generation.PossibleDuplicates
		}
	}
	if g.PossibleDuplicates != doubts {
		f.Fatalf("the account counts %d possible duplicates, its records %d", g.PossibleDuplicates, doubts)
	}
	for kind, n := range map[string]int{tasks.EventCreated: g.Created, tasks.EventFailed: g.EndedFailed, tasks.EventCancelled: g.EndedCancelled} {
		if n != events[kind] {
			f.Fatalf("the account counts %d ends of %s, of which there are %d events", n, kind, events[kind])
		}
	}
}
