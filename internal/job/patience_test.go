package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kyclink/kyclink/internal/column"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// The context is cancelled before each round trip in turn.
func TestJob_EndsWithTheCauseOfItsContext(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	filled, _ := filler(1, 250)
	h.journal(record("F-001", request.Waiting, 0))
	for _, part := range []string{"work", "write"} {
		n := 1
		for ; ; n++ {
			j := h.job("run", filled...)
			log := h.openJournal()
			j.Journal, j.RetryFailed = log, true
			s := h.trapped(j)
			ctx, stop := context.WithCancelCause(t.Context())
			cause := fmt.Errorf("stopped before round trip %d", n)
			tripped := false
			s.set(n, func() { tripped = true; stop(cause) })
			var err error
			if part == "work" {
				_, err = j.Work(ctx)
			} else {
				_, err = j.Write(ctx, h.out)
			}
			stop(nil)
			h.closeJournal(log)
			if !tripped {
				h.Must(err)
				break
			}
			if err != cause { //nolint:errorlint // the error itself, not one that wraps it
				t.Errorf("%s: got %v, want %v", part, err, cause)
			}
		}
		if n < 3 {
			t.Errorf("%s takes only %d round trips, want at least 3", part, n)
		}
		left, err := filepath.Glob(filepath.Join(filepath.Dir(h.out), ".kyclink-*"))
		if h.Must(err); len(left) > 0 {
			t.Errorf("%s left the files %q", part, left)
		}
	}
}

func TestJob_FailsWhenNothingIsCreated(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "A-1,,,", "A-2,,,")
	drive := j.OnProgress
	j.Patience, j.OnProgress = 0, nil
	p, err := j.Work(t.Context())
	if !errors.Is(err, ErrImpatient) || p.Open() != 2 {
		t.Fatalf("got %+v, %v; want ErrImpatient with 2 open requests", p, err)
	}
	expect(t, h.write(j), "A-1 waiting 0 0", "A-2 waiting 0 0")
	j.Patience, j.OnProgress = time.Minute, drive
	h.do(j)
	expect(t, h.write(j), "A-1 created L-A-1-1 1 0", "A-2 created L-A-2-1 1 0")
}

// Other producers requested the rows. One of them ends at each poll, which counts as
// progress, so that the job waits for longer than its patience.
func TestJob_WaitsForJoinedRequests(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ids := []string{"S-1", "S-2", "S-3"}
	for _, id := range ids {
		_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: id})
		h.Must(err)
	}
	j := h.job("run", "S-1,,,", "S-2,,,", "S-3,,,")
	j.Patience = pollPause / 2
	j.OnProgress = func(Progress) {
		if len(ids) > 0 {
			h.finish(h.get(ids[0]).Ref())
			ids = ids[1:]
		}
	}
	h.do(j)
}

// The job accepts as many rows as the backlog allows, and gives up when none of them
// ends. OUT then says why the others were not accepted.
func TestJob_WaitsForRoomInTheBacklog(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	rows := []string{"A-1,,,", "A-2,,,", "A-3,,,", "A-4,,,", "A-5,,,"}
	j := h.job("spring", rows...)
	j.Patience, j.OnProgress = pollPause, nil
	j.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 2, OnFull: j.OnFull})
	p, err := j.Work(t.Context())
	if !errors.Is(err, ErrImpatient) || p.Open() != 2 || p.AllAccepted {
		t.Fatalf("got %v with %+v, want ErrImpatient with 2 open requests", err, p)
	}
	summary, err := j.Write(t.Context(), h.out)
	if err != nil || summary.Counts[tasks.Waiting] != 2 || summary.Counts[column.Rejected] != 3 {
		t.Errorf("got summary %v, %v; want 2 waiting and 3 rejected", summary, err)
	}
	out, err := os.ReadFile(h.out)
	if h.Must(err); strings.Count(string(out), "backlog_full: the backlog of the bulk lane is full (KYCLINK_MAX_BACKLOG is 2)") != 3 {
		t.Errorf("got OUT\n%s\nwant backlog_full in 3 rows", out)
	}

	// While requests end, the job waits for room.
	j = h.job("spring", rows...)
	j.Patience = time.Minute
	driven := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 2, OnFull: func(full *tasks.BacklogError) {
		j.OnFull(full)
		h.finish(h.feed()...)
	}})
	j.Client = driven
	if p, err := j.Work(t.Context()); err != nil || p.Counts["created"] != 5 {
		t.Errorf("got %v with %+v, want 5 created", err, p)
	}
}
