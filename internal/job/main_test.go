package job

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/journal"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/output"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

const done = "https://shop.example/done"

// harness is an account whose requests the test itself feeds, calls and ends, as
// a worker would.
type harness struct {
	*fixture.Account

	server *redistest.Server
	ledger *storage.Stores
	work   transitions // of the ledger, or of what wraps it
	in     string      // the last job's input file
	out    string
	failed map[string]bool // ids whose calls fail without a retry
	calls  map[string]int
}

// transitions are the transitions of a worker that the harness makes.
type transitions interface {
	Admit(ctx context.Context, query attempt.Query) (attempt.Decision, error)
	Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error)
	Fault(ctx context.Context, a attempt.Attempt, f *fault.Fault, next attempt.Next) (request.State, error)
}

func newHarness(t *testing.T) *harness { return newHarnessOn(t, fixture.Redis()) }

func newHarnessOn(t *testing.T, server *redistest.Server) *harness {
	h := &harness{
		Account: fixture.NewAccountOn(t, server), server: server,
		out: filepath.Join(t.TempDir(), "out.csv"), failed: map[string]bool{}, calls: map[string]int{},
	}
	h.ledger = storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.work = h.ledger.Requests
	h.Must(h.ledger.Fleet.Join(t.Context()))
	h.open()
	return h
}

// open sets a rate that admits every call at once.
func (h *harness) open() {
	h.Helper()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Tag()+":gate", "n", 100_000, "per", 1000, "burst", 1000).Err())
}

// job returns a job of rows with application_id, redirect_url, lane and generation.
func (h *harness) job(batch string, lines ...string) *Job {
	h.Helper()
	h.in = fixture.File(h, "in.csv", "application_id,redirect_url,lane,generation\n"+strings.Join(lines, "\n")+"\n")
	return &Job{
		Input: open(h, h.in), Batch: batch, Client: h.Client, Stores: h.ledger, Patience: time.Minute,
		OnProgress: func(p Progress) {
			if p.AllAccepted {
				h.finish(h.feed()...)
			}
		},
	}
}

func (h *harness) feed() []request.Ref {
	h.Helper()
	fed, err := h.ledger.Requests.Feed(h.Context(), ledger.FeedTarget{MinQueued: 1000, MaxQueued: 1000, MaxFed: 1000, Lease: time.Minute})
	h.Must(err)
	return fed.Refs
}

func (h *harness) get(id string) request.Record {
	h.Helper()
	r, ok, err := h.ledger.Records.Get(h.Context(), id)
	if h.Must(err); !ok {
		h.Fatalf("%s has no record", id)
	}
	return r
}

func (h *harness) mark(ref request.Ref) attempt.Attempt {
	h.Helper()
	h.open()
	answer, err := h.work.Admit(h.Context(), attempt.Query{Ref: ref, Defaults: request.Defaults{ExpiryMinutes: 60}})
	if h.Must(err); answer.Verdict != attempt.Call {
		h.Fatalf("admit %v: got %s, want call", ref, answer.Verdict)
	}
	h.calls[ref.ApplicationID]++
	return answer.Attempt
}

func (h *harness) finish(refs ...request.Ref) {
	h.Helper()
	for _, ref := range refs {
		a := h.mark(ref)
		var err error
		if h.failed[ref.ApplicationID] {
			_, err = h.work.Fault(h.Context(), a, &fault.Fault{Kind: fault.BadRequest}, attempt.Next{Action: attempt.Fail, MaxCharged: 8})
		} else {
			id := fmt.Sprintf("L-%s-%d", a.ApplicationID, a.Generation)
			_, err = h.work.Created(h.Context(), a, request.Link{LinkID: id, URL: "https://simulator.invalid/" + id})
		}
		h.Must(err)
	}
}

func (h *harness) do(j *Job) Progress {
	h.Helper()
	p, err := j.Work(h.Context())
	h.Must(err)
	return p
}

// write writes OUT and returns its rows as "id status link attempts possible-duplicates reason".
func (h *harness) write(j *Job) []string {
	h.Helper()
	summary, err := j.Write(h.Context(), h.out)
	h.Must(err)
	table, err := csv.NewReader(strings.NewReader(fixture.Read(h, h.out))).ReadAll()
	h.Must(err)
	column := func(row []string, name string) string { return row[slices.Index(table[0], name)] }
	var lines []string
	counts := output.Counts{}
	for _, row := range table[1:] {
		reason, _, _ := strings.Cut(column(row, "reason"), ":")
		counts[tasks.Status(column(row, "status"))]++
		lines = append(lines, strings.Join(strings.Fields(strings.Join([]string{column(row, "application_id"),
			column(row, "status"), column(row, "link_id"), column(row, "attempts"), column(row, "possible_duplicates"), reason}, " ")), " "))
	}
	if fmt.Sprint(counts) != fmt.Sprint(summary.Counts) {
		h.Errorf("got summary %v, but OUT has %v", summary, counts)
	}
	return lines
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d: got %q, want %q", i+1, got[i], want[i])
		}
	}
}

// filler returns the rows from one number to another, and their rows in OUT.
func filler(from, to int) (rows, want []string) {
	for i := from; i <= to; i++ {
		rows = append(rows, fmt.Sprintf("F-%03d,%s,,", i, done))
		want = append(want, fmt.Sprintf("F-%03d created L-F-%03d-1 1 0", i, i))
	}
	return rows, want
}

func open(t testing.TB, path string) *input.File {
	t.Helper()
	in, err := input.Open(path, input.Options{})
	return fixture.Opened(t, in, err)
}

func TestMain(m *testing.M) { fixture.Main(m) }

// openJournal opens the journal of the harness's output file.
func (h *harness) openJournal() *journal.Journal {
	h.Helper()
	header := journal.Header{Upstream: "simulated", Account: h.Keys.Account, Batch: "run", Ledger: "embedded"}
	log, err := journal.Open(h.out, header, false)
	h.Must(err)
	return log
}

func (h *harness) closeJournal(log *journal.Journal) {
	h.Helper()
	h.Must(log.Close())
}

// journal writes records to the journal.
func (h *harness) journal(records ...request.Record) {
	h.Helper()
	log := h.openJournal()
	for _, r := range records {
		raw, err := json.Marshal(r.Snapshot())
		h.Must(err)
		h.Must(log.Write(h.Context(), raw))
	}
	h.closeJournal(log)
}

// record returns a record of generation 1.
func record(id string, s request.State, attempts int) request.Record {
	noon := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	return request.Record{ApplicationID: id, State: s, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: attempts, AcceptedAt: noon, ChangedAt: noon}
}
