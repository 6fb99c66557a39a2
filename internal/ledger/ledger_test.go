package ledger_test

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var server *redistest.Server

func TestMain(m *testing.M) { os.Exit(redistest.Main(m, &server)) }

// bench is one account with a ledger, as a worker and a producer see it.
type bench struct {
	t      testing.TB
	rdb    *redis.Client
	keys   keyspace.Keys
	ledger *ledger.Ledger
	client *tasks.Client
}

func newBench(t testing.TB) *bench { return newBenchAt(t, server) }

func newBenchAt(t testing.TB, server *redistest.Server) *bench {
	account := redistest.Account()
	b := &bench{t: t, rdb: server.Client(t), keys: keyspace.Keys{Account: account}}
	b.ledger = ledger.New(b.rdb, ledger.Config{Account: account, Simulated: true})
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: account})
	b.must(b.ledger.Join(t.Context()))
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) get(id string) (request.Record, bool) {
	b.t.Helper()
	r, ok, err := b.ledger.Get(b.t.Context(), id)
	b.must(err)
	return r, ok
}

func (b *bench) importRow(id string) {
	b.t.Helper()
	rows := tasks.Rows([]tasks.Request{{ApplicationID: id}})
	b.must(b.client.EnqueueAll(b.t.Context(), tasks.Batch{Name: "spring"}, rows, func(r tasks.Result) { b.must(r.Err) }))
}

func (b *bench) feed() []request.Ref {
	b.t.Helper()
	return b.feedUpTo(b.ledger, 1000).Refs
}

func (b *bench) feedUpTo(l *ledger.Ledger, target int) ledger.Fed {
	b.t.Helper()
	fed, err := l.Feed(b.t.Context(), ledger.Feed{AtLeast: target, AtMost: target, Most: 1000, Lease: time.Minute})
	b.must(err)
	return fed
}

// tryMark asks with the gate wide open: when a call may go is admission's, and
// tested there.
func (b *bench) tryMark(l *ledger.Ledger, ref request.Ref) attempt.Answer {
	b.t.Helper()
	b.must(b.rdb.Del(b.t.Context(), b.keys.Tag()+":gate").Err())
	b.must(b.rdb.HSet(b.t.Context(), b.keys.Tag()+":gate", "n", 100_000, "per", 1000, "burst", 1000).Err())
	answer, err := l.Mark(b.t.Context(), attempt.Query{Ref: ref, Defaults: defaults, Nonce: attempt.NewNonce()})
	b.must(err)
	if answer.Admission == attempt.Wait || answer.Admission == attempt.Connect {
		b.t.Fatalf("the open gate says %s: %s", answer.Admission, answer.Reason)
	}
	return answer
}

var (
	defaults = request.Defaults{ExpiryMinutes: 1440}
	link     = request.Link{LinkID: "link-1", URL: "https://simulator.invalid/kycverify/link-1"}
)

// attempt is what a worker holds, or held: for states in which nothing is out
// it is an earlier one.
func (b *bench) attempt(id string) attempt.Attempt {
	r, _ := b.get(id)
	a := attempt.NewAttempt(r)
	a.Nonce = b.nonce(id)
	return a
}

// nonce is that of the grant of the request's call, "" where none is out.
func (b *bench) nonce(id string) string {
	for _, member := range b.rdb.ZRange(b.t.Context(), b.keys.Calls(), 0, -1).Val() {
		if attempt.CallOf(member) == id {
			return member[strings.LastIndex(member, " ")+1:]
		}
	}
	return ""
}

func (b *bench) fault(id string, kind fault.Kind, follows attempt.Action) {
	b.t.Helper()
	_, err := b.ledger.Fault(b.t.Context(), b.attempt(id), &fault.Fault{Kind: kind}, attempt.Next{Action: follows, MaxCharged: 8})
	b.must(err)
}

// transitions are the columns of the state table.
var transitions = map[string]func(b *bench, id string){
	"accept": func(b *bench, id string) { b.importRow(id) },
	"promote": func(b *bench, id string) {
		if _, ok := b.get(id); ok {
			_, err := b.client.Enqueue(b.t.Context(), tasks.Request{ApplicationID: id})
			b.must(err)
		}
	},
	"next": func(b *bench, id string) {
		_, err := b.client.Enqueue(b.t.Context(), tasks.Request{ApplicationID: id, Generation: 2, Lane: tasks.Bulk})
		// There may be a third, and the second be erased.
		if err != nil && tasks.ReasonOf(err) != "generation_gap" && !errors.Is(err, tasks.ErrNotFound) {
			b.t.Fatal(err)
		}
	},
	"feed": func(b *bench, _ string) { b.feed() },
	"mark": func(b *bench, id string) {
		r, _ := b.get(id)
		b.tryMark(b.ledger, r.Ref())
	},
	"created": func(b *bench, id string) {
		_, err := b.ledger.Created(b.t.Context(), b.attempt(id), link)
		b.must(err)
	},
	"retry": func(b *bench, id string) { b.fault(id, fault.ServerError, attempt.Retry) },
	"fail":  func(b *bench, id string) { b.fault(id, fault.BadRequest, attempt.Fail) },
	"hold":  func(b *bench, id string) { b.fault(id, fault.Unusable, attempt.Hold) },
	"dead": func(b *bench, id string) {
		_, err := b.ledger.Hold(b.t.Context(), b.attempt(id).Record)
		b.must(err)
	},
	"back": func(b *bench, id string) { b.fault(id, fault.Interrupted, attempt.Requeue) },
	"cancel": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, err := b.ledger.Cancel(b.t.Context(), r)
		b.must(err)
	},
	"drop": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		if ok, err := b.ledger.Drop(b.t.Context(), r); err != nil || ok != (r.State == request.Held) {
			b.t.Errorf("%s was dropped: %v, %v", r.State, ok, err)
		}
	},
	"expire": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, err := b.ledger.Expire(b.t.Context(), r)
		b.must(err)
	},
	"poison": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, err := b.ledger.Poison(b.t.Context(), r.Ref(), "", "an invented reason")
		b.must(err)
	},
	"pass": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, next, ok, err := b.ledger.Pass(b.t.Context(), r.Ref())
		b.must(err)
		if now, _ := b.get(id); ok && (next != now.Ref() || next.Turn != r.Turn+1) {
			b.t.Errorf("passed on as %v, the record is at %v", next, now.Ref())
		}
	},
	"paused":  func(b *bench, id string) { b.markPaused(id) },
	"calloff": func(b *bench, _ string) { b.callOff("spring") },
	"erase":   func(b *bench, id string) { b.erase(id) },
	"refresh": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, err := b.ledger.Refresh(b.t.Context(), 1, []request.Record{r}, time.Time{})
		b.must(err)
	},
	"again": func(b *bench, id string) {
		r, _ := b.get(id)
		r.ApplicationID = id
		_, _, err := b.ledger.Again(b.t.Context(), r)
		b.must(err)
	},
}

// paths lead to each state, the rows of the table.
var paths = map[string][]string{
	"none":      nil,
	"waiting":   {"accept"},
	"queued":    {"accept", "feed"},
	"calling":   {"accept", "feed", "mark"},
	"held":      {"accept", "feed", "mark", "hold"},
	"created":   {"accept", "feed", "mark", "created"},
	"failed":    {"accept", "feed", "mark", "fail"},
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
				b := newBench(t)
				for _, step := range paths[from] {
					transitions[step](b, "A-1")
				}
				b.expectState("A-1", from)
				events := b.events()
				transitions[column](b, "A-1")

				state, publishes := strings.CutSuffix(want, "*")
				if state == "-" {
					state = from
				}
				b.expectState("A-1", state)
				if got := b.events() - events; (got == 1) != publishes || got > 1 {
					t.Errorf("published %d events, the table says %q", got, want)
				}
				b.expectCounters()
				b.expectShelves(nil)
			})
		}
	}
}

func (b *bench) expectState(id, want string) {
	b.t.Helper()
	got := "none"
	if r, ok := b.get(id); ok {
		got = string(r.State)
	}
	if got != want {
		b.t.Fatalf("state is %s, want %s", got, want)
	}
}

func (b *bench) events() int64 {
	b.t.Helper()
	n, err := b.rdb.XLen(b.t.Context(), b.keys.Results()).Result()
	b.must(err)
	return n
}

// records reads the latest generation of every request of the account.
func (b *bench) records() []request.Record {
	b.t.Helper()
	var all []request.Record
	scan := b.rdb.Scan(context.Background(), 0, b.keys.Tag()+"/*", 1000).Iterator()
	for scan.Next(context.Background()) {
		r, ok := b.get(strings.TrimPrefix(scan.Val(), b.keys.Tag()+"/"))
		if ok {
			all = append(all, r)
		}
	}
	b.must(scan.Err())
	return all
}

// expectShelves holds what a person looks through against the records. hidden
// are those that a person has dropped.
func (b *bench) expectShelves(hidden map[string]bool) {
	b.t.Helper()
	want := map[request.State]map[string]bool{request.Failed: {}, request.Held: {}}
	for _, r := range b.records() {
		if want[r.State] != nil && !hidden[r.ApplicationID] {
			want[r.State][r.ApplicationID] = true
		}
	}
	for state, ids := range want {
		got, err := b.rdb.ZRangeWithScores(context.Background(), b.keys.Shelf(state), 0, -1).Result()
		b.must(err)
		for _, z := range got {
			id := z.Member.(string)
			if r, _ := b.get(id); !ids[id] || int64(z.Score) != r.ChangedAt.UnixMilli() {
				b.t.Errorf("%s is among what is %s, since %.0f; its record: %+v", id, state, z.Score, r)
			}
		}
		if len(got) != len(ids) {
			b.t.Errorf("%d are to be looked through as %s, the records say %d", len(got), state, len(ids))
		}
	}
}

// expectCounters recounts the records of every batch.
func (b *bench) expectCounters() {
	b.t.Helper()
	want := map[int]map[string]int{}
	var waits ledger.Backlog
	for _, r := range b.records() {
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
			story, err = b.ledger.Story(context.Background(), r.ApplicationID)
			b.must(err)
		}
		for _, generation := range story {
			want[r.Batch]["possible_duplicates"] += generation.PossibleDuplicates
		}
	}
	if _, got, _, err := b.ledger.Account(context.Background()); err != nil || got != waits {
		b.t.Errorf("the backlog is %+v, the records say %+v (%v)", got, waits, err)
	}
	for batch := range 3 {
		got, err := b.rdb.HGetAll(context.Background(), b.keys.Batch(batch)).Result()
		b.must(err)
		for _, state := range []string{"waiting", "queued", "calling", "held", "created", "failed", "cancelled", "possible_duplicates"} {
			counted := got[state]
			if counted == "" {
				counted = "0"
			}
			if counted != fmt.Sprint(want[batch][state]) {
				b.t.Errorf("batch %d counts %s %s, the records say %d", batch, counted, state, want[batch][state])
			}
		}
	}
}

func TestID(t *testing.T) {
	srv := redistest.Start(t)
	id := func(account string) string {
		id, err := ledger.New(srv.Client(t), ledger.Config{Account: account}).ID(t.Context())
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
	if id, err := ledger.New(srv.Client(t), ledger.Config{Account: "a"}).ID(over); err == nil {
		t.Errorf("id %q of a Redis that does not answer", id)
	}
}
