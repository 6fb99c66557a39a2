package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/recorder"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// The file has requests of other batches, ids that are repeated within a chunk of 100
// rows and in another one, and rows that are refused.
func TestJob_FinishesAFileWithEveryKindOfRow(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.do(h.job("other", "J-1,,,"))
	impatient := h.job("other", "J-1,,,", "J-2,,,")
	impatient.Patience, impatient.OnProgress = 0, nil
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
	drive, polls := j.OnProgress, 0
	j.OnProgress = func(p Progress) {
		if !p.AllAccepted {
			return
		}
		if polls++; polls == 1 && (p.JoinedOpen != 2 || p.Open() != 203+2) {
			t.Errorf("at first: got %d joined and %d open requests, want 2 and 205", p.JoinedOpen, p.Open())
		}
		if polls == 1 {
			refs := slices.DeleteFunc(h.feed(), func(r request.Ref) bool { return r.ApplicationID == "J-2" })
			h.finish(refs...)
			return
		}
		if polls == 2 && p.Open() != p.JoinedOpen {
			t.Errorf("when all of the job's own have ended: got %d joined and %d open requests, want them equal", p.JoinedOpen, p.Open())
		}
		if polls == 2 {
			h.finish(h.get("J-2").Ref(), h.get("S-1").Ref())
		}
		drive(p)
	}
	p := h.do(j)
	if p.Rows != 213 || p.Rejected != 4 || p.Done() != 203+3 || p.Finished() != p.Total() || p.Counts[request.Failed] != 1 || p.Open() != 0 {
		t.Errorf("got progress %+v at the end", p)
	}
	expect(t, h.write(j), slices.Concat([]string{
		"A-1 created L-A-1-1 1 0", "B-1 rejected 0 0 invalid", "J-1 created L-J-1-1 1 0", "A-2 failed 1 0 invalid_request",
		"A-1 created L-A-1-1 1 0", "A-1 rejected L-A-1-1 1 0 conflict", "J-2 created L-J-2-1 1 0", "S-1 created L-S-1-1 1 0", "J-1 rejected L-J-1-1 1 0 conflict",
	}, made, []string{"A-1 created L-A-1-1 1 0", "A-1 rejected L-A-1-1 1 0 conflict", "J-2 created L-J-2-1 1 0"})...)
}

func TestJob_WritesTheGenerationThatARowAsksFor(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.do(h.job("spring", "A-1,,,", "A-2,,,"))
	middle, made := filler(3, 100)
	j := h.job("autumn", slices.Concat([]string{"A-1,,,1", "A-2,,,2"}, middle, []string{"A-1,,,2", "A-2,,,1", "A-2,,,4", "A-3,,,2"})...)
	h.do(j)
	expect(t, h.write(j), slices.Concat([]string{"A-1 created L-A-1-1 1 0", "A-2 created L-A-2-2 1 0"}, made,
		[]string{"A-1 created L-A-1-2 1 0", "A-2 created L-A-2-1 1 0", "A-2 rejected L-A-2-2 1 0 generation_gap", "A-3 rejected 0 0 generation_gap"})...)
}

// The embedded Redis ends with its process. The journal has the links, and the calls that
// were in flight.
func TestJob_ContinuesFromItsJournal(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	filled, made := filler(5, 230)
	lines := slices.Concat([]string{"A-1,,,", "A-2,,,", "A-3,,,", "A-4,,,"}, filled)

	log := h.openJournal()
	h.work = recorder.New(h.ledger.Requests, h.ledger.Records.Get, log)
	first := h.job("run", lines...)
	first.Journal = log
	killed := errors.New("killed")
	ctx, kill := context.WithCancelCause(t.Context())
	first.OnProgress = func(Progress) {
		for _, ref := range h.feed() {
			switch ref.ApplicationID {
			case "A-2": // calling when the job is killed
				h.mark(ref)
			case "A-3": // waiting for a retry, with a possible duplicate
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
		t.Fatalf("the first job ended with %v, want its cause", err)
	}
	h.closeJournal(log)
	h.Must(h.Redis.FlushAll(t.Context()).Err())

	h.ledger = storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	h.Must(h.ledger.Fleet.Join(t.Context()))
	log = h.openJournal()
	defer h.closeJournal(log)
	h.work = recorder.New(h.ledger.Requests, h.ledger.Records.Get, log)
	second := h.job("run", lines...)
	second.Journal = log
	if p := h.do(second); p.Counts[request.Created] != len(lines) || p.JoinedOpen != 0 {
		t.Errorf("got progress %+v at the end", p)
	}
	for id, n := range h.calls {
		if again := id == "A-2" || id == "A-3"; (n == 2) != again || n > 2 {
			t.Errorf("%s was called %d times, want twice only for A-2 and A-3", id, n)
		}
	}
	expect(t, h.write(second), append([]string{
		"A-1 created L-A-1-1 1 0", "A-2 created L-A-2-1 2 1", "A-3 created L-A-3-1 2 1", "A-4 created L-A-4-1 1 0",
	}, made...)...)
}

// Rows that were removed from the file are neither called nor awaited.
func TestJob_RestoresOnlyWhatRowsAskFor(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.journal(record("A-1", request.Waiting, 1), record("A-2", request.Waiting, 0), record("A-3", request.Calling, 1), record("A-4", request.Created, 1))
	log := h.openJournal()
	defer h.closeJournal(log)
	j := h.job("run", "A-1,,,", "A-3,http://shop.example,,", "A-4,,,")
	j.Journal = log
	p := h.do(j)
	if p.Total() != 3 || p.Counts[request.Created] != 2 || p.Rejected != 1 {
		t.Errorf("got progress %+v at the end", p)
	}
	if fmt.Sprint(h.calls) != "map[A-1:1]" {
		t.Errorf("got calls %v, want one of A-1", h.calls)
	}
	if _, known, err := h.ledger.Records.Get(t.Context(), "A-2"); err != nil || known {
		t.Errorf("A-2, which no row requests, is known: %t, %v", known, err)
	}
}

func TestJob_RefusesAChangedInput(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "A-1,,,", "A-2,,,")
	drive := j.OnProgress
	j.OnProgress = func(p Progress) {
		drive(p)
		h.Must(os.WriteFile(h.in, []byte("application_id\nA-3\n"), 0o600))
	}
	h.do(j)
	var changed *input.Error
	if _, err := j.Write(t.Context(), h.out); !errors.As(err, &changed) {
		t.Errorf("Write: got %v, want an input.Error", err)
	}
	if left, err := filepath.Glob(h.out + "*"); err != nil || len(left) > 0 {
		t.Errorf("Write left the files %v, %v", left, err)
	}
	for _, j.RetryFailed = range []bool{false, true} {
		if p, err := j.Work(t.Context()); !errors.As(err, &changed) || p.AllAccepted {
			t.Errorf("Work again: got %+v, %v; want an input.Error", p, err)
		}
	}
}

func TestNewBatchName_IsUniqueAndPrintable(t *testing.T) {
	for out, want := range map[string]string{
		"links.csv": "run:links.csv:", "/srv/kyc/Zoë.csv": "run:Zoë.csv:", "two\nlines.csv": "run:out:", "bad\xff.csv": "run:out:",
		"hidden\u202e.csv": "run:out:", strings.Repeat("x", 200): "run:out:",
	} {
		one, other := NewBatchName(out), NewBatchName(out)
		if !strings.HasPrefix(one, want) || len(one) < len(want)+20 || one == other {
			t.Errorf("batch names of %q: got %q and %q, want them to begin with %q and to differ", out, one, other, want)
		}
	}
}
