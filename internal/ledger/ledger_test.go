package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/account"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is one account with a ledger, as a worker and a producer see it.
type harness struct {
	*fixture.Account

	ledger *storage.Stores
}

func newHarness(t testing.TB) *harness { return newHarnessOn(t, fixture.Redis()) }

func newHarnessOn(t testing.TB, server *redistest.Server) *harness {
	h := &harness{Account: fixture.NewAccountOn(t, server)}
	h.ledger = storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Must(h.ledger.Fleet.Join(t.Context()))
	return h
}

func (h *harness) get(id string) (request.Record, bool) {
	h.Helper()
	r, ok, err := h.ledger.Records.Get(h.Context(), id)
	h.Must(err)
	return r, ok
}

func (h *harness) importRow(id string) {
	h.Helper()
	rows := tasks.Rows([]tasks.Request{{ApplicationID: id}})
	h.Must(h.Client.EnqueueAll(h.Context(), tasks.Batch{Name: "spring"}, rows, func(r tasks.Result) { h.Must(r.Err) }))
}

func (h *harness) feed() []request.Ref {
	h.Helper()
	return h.feedUpTo(h.ledger, 1000).Refs
}

func (h *harness) feedUpTo(l *storage.Stores, target int) ledger.Fed {
	h.Helper()
	fed, err := l.Requests.Feed(h.Context(), ledger.Feed{AtLeast: target, AtMost: target, Most: 1000, Lease: time.Minute})
	h.Must(err)
	return fed
}

// tryMark asks with the gate wide open: when a call may go is admission's, and
// tested there.
func (h *harness) tryMark(l *storage.Stores, ref request.Ref) attempt.Answer {
	h.Helper()
	h.Must(h.Redis.Del(h.Context(), h.Keys.Tag()+":gate").Err())
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Tag()+":gate", "n", 100_000, "per", 1000, "burst", 1000).Err())
	answer, err := l.Requests.Admit(h.Context(), attempt.Query{Ref: ref, Defaults: defaults, Nonce: attempt.NewNonce()})
	h.Must(err)
	if answer.Admission == attempt.Wait || answer.Admission == attempt.Connect {
		h.Fatalf("the open gate says %s: %s", answer.Admission, answer.Reason)
	}
	return answer
}

var (
	defaults = request.Defaults{ExpiryMinutes: 1440}
	link     = request.Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}
)

// attempt is what a worker holds, or held: for states in which nothing is out
// it is an earlier one.
func (h *harness) attempt(id string) attempt.Attempt {
	r, _ := h.get(id)
	a := attempt.NewAttempt(r)
	a.Nonce = h.nonce(id)
	return a
}

// nonce is that of the grant of the request's call, "" where none is out.
func (h *harness) nonce(id string) string {
	for _, member := range h.Redis.ZRange(h.Context(), h.Keys.Calls(), 0, -1).Val() {
		if attempt.CallOf(member) == id {
			return member[strings.LastIndex(member, " ")+1:]
		}
	}
	return ""
}

func (h *harness) fault(id string, kind fault.Kind, follows attempt.Action) {
	h.Helper()
	_, err := h.ledger.Requests.Fault(h.Context(), h.attempt(id), &fault.Fault{Kind: kind}, attempt.Next{Action: follows, MaxCharged: 8})
	h.Must(err)
}

// transitions are the columns of the state table.
var transitions = map[string]func(h *harness, id string){
	"accept": func(h *harness, id string) { h.importRow(id) },
	"promote": func(h *harness, id string) {
		if _, ok := h.get(id); ok {
			_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: id})
			h.Must(err)
		}
	},
	"next": func(h *harness, id string) {
		_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: id, Generation: 2, Lane: tasks.Bulk})
		// There may be a third, and the second be erased.
		if err != nil && tasks.ReasonOf(err) != "generation_gap" && !errors.Is(err, tasks.ErrNotFound) {
			h.Fatal(err)
		}
	},
	"feed": func(h *harness, _ string) { h.feed() },
	"admit": func(h *harness, id string) {
		r, _ := h.get(id)
		h.tryMark(h.ledger, r.Ref())
	},
	"created": func(h *harness, id string) {
		_, err := h.ledger.Requests.Created(h.Context(), h.attempt(id), link)
		h.Must(err)
	},
	"retry": func(h *harness, id string) { h.fault(id, fault.ServerError, attempt.Retry) },
	"fail":  func(h *harness, id string) { h.fault(id, fault.BadRequest, attempt.Fail) },
	"hold":  func(h *harness, id string) { h.fault(id, fault.Unusable, attempt.Hold) },
	"lost": func(h *harness, id string) {
		_, err := h.ledger.Requests.Hold(h.Context(), h.attempt(id).Record)
		h.Must(err)
	},
	"requeue": func(h *harness, id string) { h.fault(id, fault.Interrupted, attempt.Requeue) },
	"cancel": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, err := h.ledger.Requests.Cancel(h.Context(), r)
		h.Must(err)
	},
	"drop": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		if ok, err := h.ledger.Requests.Drop(h.Context(), r); err != nil || ok != (r.State == request.Held) {
			h.Errorf("%s was dropped: %v, %v", r.State, ok, err)
		}
	},
	"expire": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, err := h.ledger.Requests.Expire(h.Context(), r)
		h.Must(err)
	},
	"quarantine": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, err := h.ledger.Requests.Quarantine(h.Context(), r.Ref(), "", "an invented reason")
		h.Must(err)
	},
	"release": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, next, ok, err := h.ledger.Requests.Release(h.Context(), r.Ref())
		h.Must(err)
		if now, _ := h.get(id); ok && (next != now.Ref() || next.Turn != r.Turn+1) {
			h.Errorf("passed on as %v, the record is at %v", next, now.Ref())
		}
	},
	"paused":    func(h *harness, id string) { h.markPaused(id) },
	"cancelall": func(h *harness, _ string) { h.callOff("spring") },
	"erase":     func(h *harness, id string) { h.erase(id) },
	"refresh": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, err := h.ledger.Batches.Refresh(h.Context(), 1, []request.Record{r}, time.Time{})
		h.Must(err)
	},
	"reopen": func(h *harness, id string) {
		r, _ := h.get(id)
		r.ApplicationID = id
		_, _, err := h.ledger.Requests.Retry(h.Context(), r)
		h.Must(err)
	},
}

// paths lead to each state, the rows of the table.
var paths = map[string][]string{
	"none":      nil,
	"waiting":   {"accept"},
	"queued":    {"accept", "feed"},
	"calling":   {"accept", "feed", "admit"},
	"held":      {"accept", "feed", "admit", "hold"},
	"created":   {"accept", "feed", "admit", "created"},
	"failed":    {"accept", "feed", "admit", "fail"},
	"cancelled": {"accept", "cancel"},
}

// stateTable reads the table out of the package's comment.
func stateTable(t *testing.T) (columns []string, rows [][]string) {
	file, err := parser.ParseFile(token.NewFileSet(), "ledger.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(file.Doc.Text()) {
		cells, isTable := strings.CutPrefix(line, "\t")
		if !isTable {
			continue
		}
		words := strings.Fields(cells)
		if columns == nil {
			columns = words
			continue
		}
		rows = append(rows, words)
	}
	if len(columns) != len(transitions) || len(rows) != len(paths) {
		t.Fatalf("the comment's table has %d columns and %d rows, the test knows %d and %d",
			len(columns), len(rows), len(transitions), len(paths))
	}
	return columns, rows
}

func TestStateTable(t *testing.T) {
	columns, rows := stateTable(t)
	for _, row := range rows {
		for i, column := range columns {
			from, want := row[0], row[i+1]
			t.Run(from+"/"+column, func(t *testing.T) {
				h := newHarness(t)
				for _, step := range paths[from] {
					transitions[step](h, "A-1")
				}
				h.expectState("A-1", from)
				events := h.events()
				transitions[column](h, "A-1")

				state, publishes := strings.CutSuffix(want, "*")
				if state == "-" {
					state = from
				}
				h.expectState("A-1", state)
				if got := h.events() - events; (got == 1) != publishes || got > 1 {
					t.Errorf("published %d events, the table says %q", got, want)
				}
				h.expectCounters()
				h.expectShelves(nil)
			})
		}
	}
}

func (h *harness) expectState(id, want string) {
	h.Helper()
	got := "none"
	if r, ok := h.get(id); ok {
		got = string(r.State)
	}
	if got != want {
		h.Fatalf("state is %s, want %s", got, want)
	}
}

func (h *harness) events() int64 {
	h.Helper()
	n, err := h.Redis.XLen(h.Context(), h.Keys.Results()).Result()
	h.Must(err)
	return n
}

// records reads the latest generation of every request of the account.
func (h *harness) records() []request.Record {
	h.Helper()
	var all []request.Record
	scan := h.Redis.Scan(context.Background(), 0, h.Keys.Tag()+"/*", 1000).Iterator()
	for scan.Next(context.Background()) {
		r, ok := h.get(strings.TrimPrefix(scan.Val(), h.Keys.Tag()+"/"))
		if ok {
			all = append(all, r)
		}
	}
	h.Must(scan.Err())
	return all
}

// expectShelves holds what a person looks through against the records. hidden
// are those that a person has dropped.
func (h *harness) expectShelves(hidden map[string]bool) {
	h.Helper()
	want := map[request.State]map[string]bool{request.Failed: {}, request.Held: {}}
	for _, r := range h.records() {
		if want[r.State] != nil && !hidden[r.ApplicationID] {
			want[r.State][r.ApplicationID] = true
		}
	}
	for state, ids := range want {
		got, err := h.Redis.ZRangeWithScores(context.Background(), h.Keys.OperatorList(state), 0, -1).Result()
		h.Must(err)
		for _, z := range got {
			id := z.Member.(string)
			if r, _ := h.get(id); !ids[id] || int64(z.Score) != r.ChangedAt.UnixMilli() {
				h.Errorf("%s is among what is %s, since %.0f; its record: %+v", id, state, z.Score, r)
			}
		}
		if len(got) != len(ids) {
			h.Errorf("%d are to be looked through as %s, the records say %d", len(got), state, len(ids))
		}
	}
}

// expectCounters recounts the records of every batch.
func (h *harness) expectCounters() {
	h.Helper()
	want := map[int]map[string]int{}
	var waits account.Backlog
	for _, r := range h.records() {
		switch open := r.State == request.Waiting || r.State == request.Queued; {
		case open && r.Lane == request.Bulk:
			waits.Bulk++
		case open:
			waits.Interactive++
		}
		if want[r.Batch] == nil {
			want[r.Batch] = map[string]int{}
		}
		want[r.Batch][string(r.State)]++
		story := []request.Record{r}
		if r.Generation > 1 {
			var err error
			story, err = h.ledger.Records.Story(context.Background(), r.ApplicationID)
			h.Must(err)
		}
		for _, generation := range story {
			want[r.Batch]["possible_duplicates"] += generation.PossibleDuplicates
		}
	}
	if _, got, _, err := h.ledger.Account.Basics(context.Background()); err != nil || got != waits {
		h.Errorf("the backlog is %+v, the records say %+v (%v)", got, waits, err)
	}
	for batch := range 3 {
		got, err := h.Redis.HGetAll(context.Background(), h.Keys.Batch(batch)).Result()
		h.Must(err)
		for _, state := range []string{"waiting", "queued", "calling", "held", "created", "failed", "cancelled", "possible_duplicates"} {
			counted := got[state]
			if counted == "" {
				counted = "0"
			}
			if counted != fmt.Sprint(want[batch][state]) {
				h.Errorf("batch %d counts %s %s, the records say %d", batch, counted, state, want[batch][state])
			}
		}
	}
}

func TestID(t *testing.T) {
	srv := redistest.Start(t)
	id := func(account string) string {
		id, err := storage.Of(srv.Client(t), account).Fleet.ID(t.Context())
		if err != nil || id == "" {
			t.Fatalf("id %q, %v", id, err)
		}
		return id
	}
	first := id("a")
	if again, other := id("a"), id("b"); again != first || other == first {
		t.Errorf("%s, then %s, and %s of another account", first, again, other)
	}
	if err := srv.Client(t).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if emptied := id("a"); emptied == first {
		t.Error("a Redis that was emptied is taken for the one before")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if id, err := storage.Of(srv.Client(t), "a").Fleet.ID(over); err == nil {
		t.Errorf("id %q of a Redis that does not answer", id)
	}
}
