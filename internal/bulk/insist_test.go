package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// trap does something before the n-th round trip from when it was set.
type trap struct {
	left atomic.Int64
	do   func()
}

func (s *trap) set(n int, do func()) {
	s.do = do
	s.left.Store(int64(n))
}

func (s *trap) trip() {
	if s.left.Add(-1) == 0 {
		s.do()
	}
}

func (s *trap) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *trap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.trip()
		return next(ctx, cmd)
	}
}

func (s *trap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.trip()
		return next(ctx, cmds)
	}
}

// trapped gives the job a connection of its own, with a trap in it.
func (h *harness) trapped(j *Job) *trap {
	h.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: h.server.Addr, MaxRetries: -1, DialerRetries: 1})
	h.Cleanup(func() { _ = rdb.Close() })
	s := &trap{}
	rdb.AddHook(s)
	j.Client = tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account})
	book := ledger.New(rdb, ledger.Config{Account: h.Keys.Account, Simulated: true})
	j.Book = book
	var err error
	j.Ledger, err = book.ID(h.Context())
	h.Must(err)
	return s
}

// durable is a harness with a Redis of its own, which keeps everything when it is
// killed: what it wrote is the kernel's.
func durable(t *testing.T) *harness {
	return newHarnessOn(t, redistest.Start(t, "--appendonly", "yes", "--appendfsync", "no"))
}

// Redis goes away in the middle of each step, and comes back when the job has
// noticed.
func TestJobRidesOutAnAbsentRedis(t *testing.T) {
	t.Parallel()
	filled, made := filler(1, 250)
	for _, c := range []struct {
		step string
		at   int // round trip
		when func(h *harness, j *Job, spring func())
	}{
		{"restore", 1, func(h *harness, j *Job, spring func()) {
			journal := openJournal(h, h.out)
			known := snap("F-001", request.Waiting, 0)
			known.Content.RedirectURL = done
			add(h, journal, known)
			closeJournal(h, journal)
			j.Journal = openJournal(h, h.out)
			h.Cleanup(func() { closeJournal(h, j.Journal) })
			spring()
		}},
		{"retry: look", 2, func(h *harness, j *Job, spring func()) { j.RetryFailed = true; spring() }},
		{"retry: start", 3, func(h *harness, j *Job, spring func()) {
			h.failed["F-001"] = true
			h.working(h.job("run", filled[0]))
			h.failed = nil
			j.RetryFailed = true
			spring()
		}},
		{"accept", 6, func(_ *harness, _ *Job, spring func()) { spring() }},
		{"await", 1, func(_ *harness, j *Job, spring func()) {
			drive, looks := j.Report, 0
			j.Report = func(p Progress) {
				if looks++; looks == 1 {
					spring()
					return
				}
				drive(p)
			}
		}},
		{"export", 2, nil},
	} {
		t.Run(c.step, func(t *testing.T) {
			t.Parallel()
			h := durable(t)
			j := h.job("run", filled...)
			s := h.trapped(j)
			troubles := 0
			j.Trouble = func(error) {
				troubles++
				h.server.Restart(t)
			}
			spring := func() { s.set(c.at, h.server.Kill) }
			if c.when != nil {
				c.when(h, j, spring)
			}
			p := h.working(j)
			if c.when == nil {
				spring()
			}
			got := h.export(j)
			if troubles != 1 {
				t.Errorf("Redis was away and back %d times", troubles)
			}
			if p.Rows != 250 || p.Rejected != 0 || p.Total() != 250 || p.Settled() != 250 {
				t.Errorf("in the end: %+v", p)
			}
			want := slices.Clone(made)
			if strings.HasPrefix(c.step, "retry: ") && h.calls["F-001"] == 2 {
				want[0] = "F-001 created L-F-001-1 2 0"
			}
			expect(t, got, want...)
		})
	}
}

// A Redis that comes back without its data would have every link made anew.
func TestJobAcceptsNothingAnew(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t)) // keeps nothing
	filled, _ := filler(1, 250)
	j := h.job("run", filled...)
	s := h.trapped(j)
	j.Trouble = func(error) { h.server.Restart(t) }
	s.set(6, h.server.Kill)
	_, err := j.Work(t.Context())
	if !errors.Is(err, errForgotten) {
		t.Fatal(err)
	}
	if n, err := h.Redis.Exists(t.Context(), h.Keys.Record("F-001")).Result(); err != nil || n != 0 {
		t.Errorf("the emptied Redis was given a row: %d, %v", n, err)
	}
}

func TestJobWhoseRedisStaysAway(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	j := h.job("run", "A-1,,,")
	h.trapped(j)
	j.Patience = time.Millisecond
	h.server.Kill()
	begun := time.Now()
	_, err := j.Work(t.Context())
	if err == nil || !strings.Contains(err.Error(), "nothing could be done with Redis for") || !strings.Contains(err.Error(), "run the same command again") {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(begun); took < lookPause {
		t.Errorf("it tried once more after %v", took)
	}
}

func TestJobWhoseRedisIsEmptied(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	j := h.job("run", "A-1,,,")
	h.working(j)
	h.Must(h.Redis.FlushAll(t.Context()).Err())
	_, err := j.Export(t.Context(), h.out)
	if err == nil || !strings.HasPrefix(err.Error(), "row 1, A-1: what was accepted is not known to Redis any more: was it emptied") {
		t.Errorf("it ended with %v", err)
	}
}

// Whatever a stop interrupts, it is what the job ends with.
func TestJobStopsForItsCause(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	filled, _ := filler(1, 250)
	journal := openJournal(t, h.out)
	add(t, journal, snap("F-001", request.Waiting, 0))
	closeJournal(t, journal)
	for _, part := range []string{"work", "export"} {
		n := 1
		for ; ; n++ {
			j := h.job("run", filled...)
			journal = openJournal(t, h.out)
			j.Journal, j.RetryFailed = journal, true
			s := h.trapped(j)
			ctx, stop := context.WithCancelCause(t.Context())
			cause := fmt.Errorf("stopped before round trip %d", n)
			tripped := false
			s.set(n, func() { tripped = true; stop(cause) })
			var err error
			if part == "work" {
				_, err = j.Work(ctx)
			} else {
				_, err = j.Export(ctx, h.out)
			}
			stop(nil)
			closeJournal(t, journal)
			if !tripped {
				h.Must(err)
				break
			}
			if err != cause { //nolint:errorlint // it and nothing else
				t.Errorf("%s: got %v, want %v", part, err, cause)
			}
		}
		if n < 3 {
			t.Errorf("%s takes %d round trips only", part, n)
		}
		if left := beside(t, strings.TrimSuffix(h.out, "/out.csv")); len(left) > 0 {
			t.Errorf("it left %q", left)
		}
	}
}

// What was taken out of the file since is not called any more, nor waited for.
func TestJobRestoresWhatRowsAskFor(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	journal := openJournal(t, h.out)
	add(t, journal, snap("A-1", request.Waiting, 1), snap("A-2", request.Waiting, 0), calling("A-3"), snap("A-4", request.Created, 1))
	closeJournal(t, journal)
	journal = openJournal(t, h.out)
	defer closeJournal(t, journal)
	j := h.job("run", "A-1,,,", "A-3,http://shop.example,,", "A-4,,,")
	j.Journal = journal
	p := h.working(j)
	if p.Total() != 3 || p.Counts[request.Created] != 2 || p.Rejected != 1 {
		t.Errorf("in the end: %+v", p)
	}
	if fmt.Sprint(h.calls) != "map[A-1:1]" {
		t.Errorf("called: %v", h.calls)
	}
	if _, known, err := h.ledger.Get(t.Context(), "A-2"); err != nil || known {
		t.Errorf("A-2, which no row asks for, is known: %v", err)
	}
}

func TestJobLosesPatience(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	j := h.job("run", "A-1,,,", "A-2,,,")
	drive := j.Report
	j.Patience, j.Report = 0, nil
	p, err := j.Work(t.Context())
	if !errors.Is(err, ErrImpatient) || p.Open() != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	expect(t, h.export(j), "A-1 waiting 0 0", "A-2 waiting 0 0")
	j.Patience, j.Report = time.Minute, drive
	h.working(j)
	expect(t, h.export(j), "A-1 created L-A-1-1 1 0", "A-2 created L-A-2-1 1 0")
}

// What others asked for is progress as well: one of it ends at every look, and
// the job waits for longer than it would for nothing.
func TestJobIsPatientWithOthers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ids := []string{"S-1", "S-2", "S-3"}
	for _, id := range ids {
		_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: id})
		h.Must(err)
	}
	j := h.job("run", "S-1,,,", "S-2,,,", "S-3,,,")
	j.Patience = lookPause / 2
	j.Report = func(Progress) {
		if len(ids) > 0 {
			h.finish(h.get(ids[0]).Ref())
			ids = ids[1:]
		}
	}
	h.working(j)
}
