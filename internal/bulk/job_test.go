package bulk

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

const done = "https://shop.example/done"

// harness is one account, whose requests the test itself feeds, calls and ends as
// a worker would.
type harness struct {
	*fixture.Account

	server *redistest.Server
	ledger *ledger.Ledger
	work   recorder.Ledger // the ledger, or what wraps it
	out    string
	failed map[string]bool // whose calls fail for good
	calls  map[string]int
}

func newHarness(t *testing.T) *harness { return newHarnessOn(t, fixture.Redis()) }

func newHarnessOn(t *testing.T, server *redistest.Server) *harness {
	h := &harness{
		Account: fixture.NewAccountOn(t, server), server: server,
		out: filepath.Join(t.TempDir(), "out.csv"), failed: map[string]bool{}, calls: map[string]int{},
	}
	h.ledger = ledger.New(h.Redis, ledger.Config{Account: h.Keys.Account, Simulated: true})
	h.work = h.ledger
	h.Must(h.ledger.Join(t.Context()))
	h.open()
	return h
}

// open lets calls go at once: when they may is not the matter here.
func (h *harness) open() {
	h.Helper()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Tag()+":gate", "n", 100_000, "per", 1000, "burst", 1000).Err())
}

// job reads rows of application_id, redirect_url, lane and generation.
func (h *harness) job(batch string, lines ...string) *Job {
	h.Helper()
	in := open(h, file(h, "in.csv", "application_id,redirect_url,lane,generation\n"+strings.Join(lines, "\n")+"\n"))
	return &Job{
		Input: in, Batch: batch, Client: h.Client, Book: h.ledger, Patience: time.Minute,
		Report: func(p Progress) {
			if p.Imported {
				h.finish(h.feed()...)
			}
		},
	}
}

func (h *harness) feed() []request.Ref {
	h.Helper()
	fed, err := h.ledger.Feed(h.Context(), ledger.Feed{AtLeast: 1000, AtMost: 1000, Most: 1000, Lease: time.Minute})
	h.Must(err)
	return fed.Refs
}

func (h *harness) get(id string) request.Record {
	h.Helper()
	r, ok, err := h.ledger.Get(h.Context(), id)
	if h.Must(err); !ok {
		h.Fatalf("%s is not known", id)
	}
	return r
}

func (h *harness) mark(ref request.Ref) attempt.Attempt {
	h.Helper()
	h.open()
	answer, err := h.work.Mark(h.Context(), attempt.Query{Ref: ref, Defaults: request.Defaults{ExpiryMinutes: 60}})
	if h.Must(err); answer.Admission != attempt.Call {
		h.Fatalf("the mark of %v says %s", ref, answer.Admission)
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

func (h *harness) working(j *Job) Progress {
	h.Helper()
	p, err := j.Work(h.Context())
	h.Must(err)
	return p
}

// export gives OUT's rows as "id status link possible-duplicates reason".
func (h *harness) export(j *Job) []string {
	h.Helper()
	summary, err := j.Export(h.Context(), h.out)
	h.Must(err)
	table, err := csv.NewReader(strings.NewReader(read(h, h.out))).ReadAll()
	h.Must(err)
	column := func(row []string, name string) string { return row[slices.Index(table[0], name)] }
	var lines []string
	counts := Summary{}
	for _, row := range table[1:] {
		reason, _, _ := strings.Cut(column(row, "reason"), ":")
		counts[tasks.Status(column(row, "status"))]++
		lines = append(lines, strings.Join(strings.Fields(strings.Join([]string{column(row, "application_id"),
			column(row, "status"), column(row, "link_id"), column(row, "attempts"), column(row, "possible_duplicates"), reason}, " ")), " "))
	}
	if fmt.Sprint(counts) != fmt.Sprint(summary.Summary) {
		h.Errorf("the summary says %v, OUT holds %v", summary, counts)
	}
	return lines
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("row %d: got %q, want %q", i+1, got[i], want[i])
		}
	}
}

// filler is rows from from to to, and what is to become of them.
func filler(from, to int) (rows, want []string) {
	for i := from; i <= to; i++ {
		rows = append(rows, fmt.Sprintf("F-%03d,%s,,", i, done))
		want = append(want, fmt.Sprintf("F-%03d created L-F-%03d-1 1 0", i, i))
	}
	return rows, want
}

// A file with everything in it: what others own, the same person twice in one
// chunk of 100 and in two, and rows that are refused.
func TestJob(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.working(h.job("other", "J-1,,,"))
	impatient := h.job("other", "J-1,,,", "J-2,,,")
	impatient.Patience, impatient.Report = 0, nil
	if _, err := impatient.Work(t.Context()); !errors.Is(err, ErrImpatient) {
		t.Fatal(err)
	}
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "S-1"})
	h.Must(err)
	h.failed["A-2"] = true

	head := []string{"A-1," + done + ",,", "B-1,http://shop.example,,", "J-1,,,", "A-2,,,", "A-1,,,", "A-1,https://other.example,,", "J-2,,,", "S-1,,bulk,", "J-1," + done + ",,"}
	tail := []string{"A-1," + done + ",,", "A-1,https://other.example,,", "J-2,,,"}
	middle, made := filler(10, 210)
	j := h.job("mine", slices.Concat(head, middle, tail)...)
	drive, looks := j.Report, 0
	j.Report = func(p Progress) {
		if !p.Imported {
			return
		}
		if looks++; looks == 1 && (p.Elsewhere != 2 || p.Open() != 203+2) {
			t.Errorf("open at first: %d elsewhere, %d in all", p.Elsewhere, p.Open())
		}
		if looks == 1 {
			refs := slices.DeleteFunc(h.feed(), func(r request.Ref) bool { return r.ApplicationID == "J-2" })
			h.finish(refs...)
			return
		}
		if looks == 2 && p.Open() != p.Elsewhere {
			t.Errorf("when all of its own have ended: %d elsewhere, %d in all", p.Elsewhere, p.Open())
		}
		if looks == 2 {
			h.finish(h.get("J-2").Ref(), h.get("S-1").Ref())
		}
		drive(p)
	}
	p := h.working(j)
	if p.Rows != 213 || p.Rejected != 4 || p.Done() != 203+3 || p.Settled() != p.Total() || p.Counts[request.Failed] != 1 || p.Open() != 0 {
		t.Errorf("in the end: %+v", p)
	}
	expect(t, h.export(j), slices.Concat([]string{
		"A-1 created L-A-1-1 1 0", "B-1 rejected 0 0 invalid", "J-1 created L-J-1-1 1 0", "A-2 failed 1 0 invalid_request",
		"A-1 created L-A-1-1 1 0", "A-1 rejected L-A-1-1 1 0 conflict", "J-2 created L-J-2-1 1 0", "S-1 created L-S-1-1 1 0", "J-1 rejected L-J-1-1 1 0 conflict",
	}, made, []string{"A-1 created L-A-1-1 1 0", "A-1 rejected L-A-1-1 1 0 conflict", "J-2 created L-J-2-1 1 0"})...)
}

func TestJobWithGenerations(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.working(h.job("spring", "A-1,,,", "A-2,,,"))
	middle, made := filler(3, 100)
	j := h.job("autumn", slices.Concat([]string{"A-1,,,1", "A-2,,,2"}, middle, []string{"A-1,,,2", "A-2,,,1", "A-2,,,4", "A-3,,,2"})...)
	h.working(j)
	expect(t, h.export(j), slices.Concat([]string{"A-1 created L-A-1-1 1 0", "A-2 created L-A-2-2 1 0"}, made,
		[]string{"A-1 created L-A-1-2 1 0", "A-2 created L-A-2-1 1 0", "A-2 rejected L-A-2-2 1 0 generation_gap", "A-3 rejected 0 0 generation_gap"})...)
}

// The embedded Redis is gone with its process: the journal knows what was made,
// and what was being called.
func TestJobGoesOnFromItsJournal(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	filled, made := filler(5, 230)
	lines := slices.Concat([]string{"A-1,,,", "A-2,,,", "A-3,,,", "A-4,,,"}, filled)

	journal := openJournal(t, h.out)
	h.work = recorder.New(h.ledger, h.ledger.Get, journal)
	first := h.job("run", lines...)
	first.Journal = journal
	killed := errors.New("killed")
	ctx, kill := context.WithCancelCause(t.Context())
	first.Report = func(Progress) {
		for _, ref := range h.feed() {
			switch ref.ApplicationID {
			case "A-2": // being called when it ends
				h.mark(ref)
			case "A-3": // to be tried again, with a possible duplicate already
				_, err := h.work.Fault(t.Context(), h.mark(ref), &fault.Fault{Kind: fault.ServerError}, attempt.Next{Action: attempt.Retry, MaxCharged: 8})
				h.Must(err)
			case "A-4": // never called
			default:
				h.finish(ref)
			}
		}
		kill(killed)
	}
	if _, err := first.Work(ctx); !errors.Is(err, killed) {
		t.Fatalf("the first run ended with %v", err)
	}
	closeJournal(t, journal)
	h.Must(h.Redis.FlushAll(t.Context()).Err())

	h.ledger = ledger.New(h.Redis, ledger.Config{Account: h.Keys.Account, Simulated: true})
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	h.Must(h.ledger.Join(t.Context()))
	journal = openJournal(t, h.out)
	defer closeJournal(t, journal)
	h.work = recorder.New(h.ledger, h.ledger.Get, journal)
	second := h.job("run", lines...)
	second.Journal = journal
	if p := h.working(second); p.Counts[request.Created] != len(lines) || p.Elsewhere != 0 {
		t.Errorf("in the end: %+v", p)
	}
	for id, n := range h.calls {
		if again := id == "A-2" || id == "A-3"; (n == 2) != again || n > 2 {
			t.Errorf("%s was called %d times", id, n)
		}
	}
	expect(t, h.export(second), append([]string{
		"A-1 created L-A-1-1 1 0", "A-2 created L-A-2-1 2 1", "A-3 created L-A-3-1 2 1", "A-4 created L-A-4-1 1 0",
	}, made...)...)
}

func TestJobRetriesFailedRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, id := range []string{"A-1", "A-2", "A-3", "G-1", "G-2"} {
		h.failed[id] = true
	}
	before := h.job("run", "A-1,"+done+",,", "A-2,,,", "A-3,,,", "C-1,,,", "G-1,,,", "G-2,,,")
	h.working(before)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "I-1"})
	h.Must(err)
	h.failed["I-1"] = true
	h.finish(h.get("I-1").Ref())
	h.failed = nil

	// A-2 is in the file no more; A-3 is refused, G-1 asks for another generation.
	lines := []string{"A-1," + done + ",,", "A-1,,,", "N-1,,,", "A-3,https://other.example,,", "C-1,,,", "G-1,,,2", "G-2,,,1", "I-1,,interactive,"}
	j := h.job("run", lines...)
	h.working(j)
	expect(t, h.export(j), "A-1 failed 1 0 invalid_request", "A-1 failed 1 0 invalid_request", "N-1 created L-N-1-1 1 0", "A-3 rejected 0 0 conflict",
		"C-1 created L-C-1-1 1 0", "G-1 created L-G-1-2 1 0", "G-2 failed 1 0 invalid_request", "I-1 failed 1 0 invalid_request")

	j = h.job("run", lines...)
	j.RetryFailed = true
	drive := j.Report
	j.Report = func(p Progress) {
		if r := h.get("I-1"); p.Imported && r.State == request.Queued {
			task := "asynq:{" + h.Keys.Queue(request.Interactive) + "}:t:" + r.Ref().String()
			if n, err := h.Redis.Exists(t.Context(), task).Result(); err != nil || n != 1 {
				t.Errorf("an interactive row that is tried again has no task: %v", err)
			}
			h.finish(r.Ref())
		}
		drive(p)
	}
	h.working(j)
	expect(t, h.export(j), "A-1 created L-A-1-1 2 0", "A-1 created L-A-1-1 2 0", "N-1 created L-N-1-1 1 0", "A-3 rejected 0 0 conflict",
		"C-1 created L-C-1-1 1 0", "G-1 created L-G-1-2 1 0", "G-2 created L-G-2-1 2 0", "I-1 created L-I-1-1 2 0")
	for _, id := range []string{"A-2", "A-3"} {
		if r := h.get(id); r.State != request.Failed || r.Run != 1 {
			t.Errorf("%s, which no row asks for, is %s in run %d", id, r.State, r.Run)
		}
	}
}

// A row means its own generation: neither the one before nor the one after is
// tried again for it.
func TestJobRetriesNoOtherGeneration(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	retry := func(line string) []string {
		t.Helper()
		j := h.job("run", line)
		j.RetryFailed = true
		h.working(j)
		return h.export(j)
	}
	h.failed["A-1"] = true
	h.working(h.job("run", "A-1,,,"))
	expect(t, retry("A-1,,,2"), "A-1 failed 1 0 invalid_request")
	expect(t, retry("A-1,,,1"), "A-1 failed 1 0 invalid_request")
	if h.calls["A-1"] != 2 {
		t.Errorf("called %d times, once for each generation is right", h.calls["A-1"])
	}
}

func TestJobWhoseInputChanges(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "A-1,,,", "A-2,,,")
	drive := j.Report
	j.Report = func(p Progress) {
		drive(p)
		h.Must(os.WriteFile(j.Input.path, []byte("application_id\nA-3\n"), 0o600))
	}
	h.working(j)
	var changed *InputError
	if _, err := j.Export(t.Context(), h.out); !errors.As(err, &changed) {
		t.Errorf("the export: %v", err)
	}
	if left, err := filepath.Glob(h.out + "*"); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	for _, j.RetryFailed = range []bool{false, true} {
		if p, err := j.Work(t.Context()); !errors.As(err, &changed) || p.Imported {
			t.Errorf("the job, once more: %+v, %v", p, err)
		}
	}
}

// What the batch accepted for rows that were edited since is no part of how far the
// file is.
func TestProgressCountsRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.working(h.job("run", "A-1,,,", "A-2,,,", "A-3,,,"))
	j := h.job("run", "A-1,"+done+",,", "B-2,,,", "B-2,,,", "A-3,,,") // the first is in conflict
	if s, err := j.Survey(t.TempDir()); err != nil || s.Rows != 4 || s.Repeated != 1 {
		t.Errorf("the survey says %+v, %v", s, err)
	}
	drive := j.Report
	j.Report = func(p Progress) {
		if p.Settled() > 4 || p.Total() != 4 || p.Imported && p.Open() > 0 && p.Settled() != 3 {
			t.Errorf("%d of %d at %+v", p.Settled(), p.Total(), p)
		}
		drive(p)
	}
	if p := h.working(j); p.Settled() != 4 || p.Total() != 4 || p.Counts[request.Created] != 4 {
		t.Errorf("in the end %d of %d at %+v", p.Settled(), p.Total(), p)
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	const own = "application_id,name,status,url,link_id\n"
	for _, c := range []struct {
		name, text string
		change     func(*Job)
		want       string
	}{
		{"a.csv", own + "A-1,Ann,created,https://faceki.example/1,1\nA-2,Bob,failed,,\n", nil, "2 rows, 1 linked"},
		{"a.csv", own + "A-1,Ann,created,https://faceki.example/1,1\n", func(j *Job) { j.Again = true }, "1 rows, 0 linked"},
		{"a.csv", own + "A-1,Ann,created,https://simulator.invalid/1,1\n", nil, "1 rows, 0 linked"},
		{"a.csv", own + "A-1,Ann,created,https://simulator.invalid/1,1\n", func(j *Job) { j.Simulated = true }, "1 rows, 1 linked"},
		{"a.csv", "application_id,status,url\nA-1,created,https://crm.example/1\n", nil, "1 rows, 0 linked"}, // somebody else's
		{"a.csv", own + "A-1,Ann,rejected,https://faceki.example/1,1\nA-2,Bob,created,,\n", nil, "2 rows, 0 linked"},
		{"a.csv", "application_id,name\nA-1,Ann\nA-2,Bob\nA-1,Cid\nA-1,Ann\n", nil,
			"4 rows, 0 linked, row 3 has the id of row 1, A-1, but another name, row 4 has the id of row 1, A-1"},
		{"a.ndjson", `{"application_id":"A-1","metadata":{"n":1}}` + "\n" + `{"application_id":"A-1","metadata":{"n":2}}`, nil,
			"2 rows, 0 linked, row 2 has the id of row 1, A-1, but another metadata"},
	} {
		j := &Job{Input: open(t, file(t, c.name, c.text))}
		if c.change != nil {
			c.change(j)
		}
		s, err := j.Survey(t.TempDir())
		got := fmt.Sprintf("%d rows, %d linked", s.Rows, s.Linked)
		for _, r := range s.Repeats {
			got += ", " + r.String()
		}
		if err != nil || got != c.want || s.Repeated != len(s.Repeats) {
			t.Errorf("%s: %s, %v", c.text, got, err)
		}
	}
}

// A row that repeats the id of one with a link does not get a second link.
func TestJobWithLinkedRows(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "X,,,")
	j.Input = open(t, file(t, "in.csv", "application_id,status,url,link_id,attempts,possible_duplicates,expires_at,reason\n"+
		"A-1,created,https://faceki.example/1,L-1,2,1,2026-12-01T00:00:00Z,\nA-2,failed,,,1,0,,timeout: late\nA-1,rejected,,,0,0,,conflict: x\n"))
	if _, err := j.Survey(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if p := h.working(j); p.Settled() != 3 || p.Rejected != 1 {
		t.Errorf("in the end %+v", p)
	}
	expect(t, h.export(j), "A-1 created L-1 2 1", "A-2 created L-A-2-1 1 0", "A-1 rejected 0 0 invalid")
	if !strings.Contains(read(t, h.out), "https://faceki.example/1,2026-12-01T00:00:00Z,,2,1\n") || h.calls["A-1"] != 0 {
		t.Errorf("OUT is\n%s", read(t, h.out))
	}
}
