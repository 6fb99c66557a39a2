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

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
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
func (d *desk) trapped(j *Job) *trap {
	d.t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: d.server.Addr, MaxRetries: -1, DialerRetries: 1})
	d.t.Cleanup(func() { _ = rdb.Close() })
	s := &trap{}
	rdb.AddHook(s)
	j.Client = tasks.NewClient(rdb, tasks.Config{})
	book := ledger.New(rdb, ledger.Config{Account: "default", Simulated: true})
	j.Book = book
	var err error
	j.Ledger, err = book.ID(d.t.Context())
	d.must(err)
	return s
}

// durable is a desk whose Redis keeps everything when it is killed: what it wrote
// is the kernel's.
func durable(t *testing.T) *desk { return newDesk(t, "--appendonly", "yes", "--appendfsync", "no") }

// Redis goes away in the middle of each step, and comes back when the job has
// noticed.
func TestJobRidesOutAnAbsentRedis(t *testing.T) {
	t.Parallel()
	filled, made := filler(1, 250)
	for _, c := range []struct {
		step string
		at   int // round trip
		when func(d *desk, j *Job, spring func())
	}{
		{"restore", 1, func(d *desk, j *Job, spring func()) {
			journal := openJournal(d.t, d.out)
			known := snap("F-001", request.Waiting, 0)
			known.Content.RedirectURL = done
			add(d.t, journal, known)
			closeJournal(d.t, journal)
			j.Journal = openJournal(d.t, d.out)
			d.t.Cleanup(func() { closeJournal(d.t, j.Journal) })
			spring()
		}},
		{"retry: look", 2, func(d *desk, j *Job, spring func()) { j.RetryFailed = true; spring() }},
		{"retry: start", 3, func(d *desk, j *Job, spring func()) {
			d.failed["F-001"] = true
			d.working(d.job("run", filled[0]))
			d.failed = nil
			j.RetryFailed = true
			spring()
		}},
		{"accept", 6, func(_ *desk, _ *Job, spring func()) { spring() }},
		{"await", 1, func(_ *desk, j *Job, spring func()) {
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
			d := durable(t)
			j := d.job("run", filled...)
			s := d.trapped(j)
			troubles := 0
			j.Trouble = func(error) {
				troubles++
				d.server.Restart(t)
			}
			spring := func() { s.set(c.at, d.server.Kill) }
			if c.when != nil {
				c.when(d, j, spring)
			}
			p := d.working(j)
			if c.when == nil {
				spring()
			}
			got := d.export(j)
			if troubles != 1 {
				t.Errorf("Redis was away and back %d times", troubles)
			}
			if p.Rows != 250 || p.Rejected != 0 || p.Total() != 250 || p.Settled() != 250 {
				t.Errorf("in the end: %+v", p)
			}
			want := slices.Clone(made)
			if strings.HasPrefix(c.step, "retry: ") && d.calls["F-001"] == 2 {
				want[0] = "F-001 created L-F-001-1 2 0"
			}
			expect(t, got, want...)
		})
	}
}

// A Redis that comes back without its data would have every link made anew.
func TestJobAcceptsNothingAnew(t *testing.T) {
	t.Parallel()
	d := newDesk(t) // keeps nothing
	filled, _ := filler(1, 250)
	j := d.job("run", filled...)
	s := d.trapped(j)
	j.Trouble = func(error) { d.server.Restart(t) }
	s.set(6, d.server.Kill)
	_, err := j.Work(t.Context())
	if !errors.Is(err, errForgotten) {
		t.Fatal(err)
	}
	if n, err := d.rdb.Exists(t.Context(), keyspace.Keys{Account: "default"}.Record("F-001")).Result(); err != nil || n != 0 {
		t.Errorf("the emptied Redis was given a row: %d, %v", n, err)
	}
}

func TestJobWhoseRedisStaysAway(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	j := d.job("run", "A-1,,,")
	d.trapped(j)
	j.Patience = time.Millisecond
	d.server.Kill()
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
	d := newDesk(t)
	j := d.job("run", "A-1,,,")
	d.working(j)
	d.must(d.rdb.FlushAll(t.Context()).Err())
	_, err := j.Export(t.Context(), d.out)
	if err == nil || !strings.HasPrefix(err.Error(), "row 1, A-1: what was accepted is not known to Redis any more: was it emptied") {
		t.Errorf("it ended with %v", err)
	}
}

// Whatever a stop interrupts, it is what the job ends with.
func TestJobStopsForItsCause(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	filled, _ := filler(1, 250)
	journal := openJournal(t, d.out)
	add(t, journal, snap("F-001", request.Waiting, 0))
	closeJournal(t, journal)
	for _, part := range []string{"work", "export"} {
		n := 1
		for ; ; n++ {
			j := d.job("run", filled...)
			journal = openJournal(t, d.out)
			j.Journal, j.RetryFailed = journal, true
			s := d.trapped(j)
			ctx, stop := context.WithCancelCause(t.Context())
			cause := fmt.Errorf("stopped before round trip %d", n)
			tripped := false
			s.set(n, func() { tripped = true; stop(cause) })
			var err error
			if part == "work" {
				_, err = j.Work(ctx)
			} else {
				_, err = j.Export(ctx, d.out)
			}
			stop(nil)
			closeJournal(t, journal)
			if !tripped {
				d.must(err)
				break
			}
			if err != cause { //nolint:errorlint // it and nothing else
				t.Errorf("%s: got %v, want %v", part, err, cause)
			}
		}
		if n < 3 {
			t.Errorf("%s takes %d round trips only", part, n)
		}
		if left := beside(t, strings.TrimSuffix(d.out, "/out.csv")); len(left) > 0 {
			t.Errorf("it left %q", left)
		}
	}
}

// What was taken out of the file since is not called any more, nor waited for.
func TestJobRestoresWhatRowsAskFor(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	journal := openJournal(t, d.out)
	add(t, journal, snap("A-1", request.Waiting, 1), snap("A-2", request.Waiting, 0), calling("A-3"), snap("A-4", request.Created, 1))
	closeJournal(t, journal)
	journal = openJournal(t, d.out)
	defer closeJournal(t, journal)
	j := d.job("run", "A-1,,,", "A-3,http://shop.example,,", "A-4,,,")
	j.Journal = journal
	p := d.working(j)
	if p.Total() != 3 || p.Counts[request.Created] != 2 || p.Rejected != 1 {
		t.Errorf("in the end: %+v", p)
	}
	if fmt.Sprint(d.calls) != "map[A-1:1]" {
		t.Errorf("called: %v", d.calls)
	}
	if _, known, err := d.ledger.Get(t.Context(), "A-2"); err != nil || known {
		t.Errorf("A-2, which no row asks for, is known: %v", err)
	}
}

func TestJobLosesPatience(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	j := d.job("run", "A-1,,,", "A-2,,,")
	drive := j.Report
	j.Patience, j.Report = 0, nil
	p, err := j.Work(t.Context())
	if !errors.Is(err, ErrImpatient) || p.Open() != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	expect(t, d.export(j), "A-1 waiting 0 0", "A-2 waiting 0 0")
	j.Patience, j.Report = time.Minute, drive
	d.working(j)
	expect(t, d.export(j), "A-1 created L-A-1-1 1 0", "A-2 created L-A-2-1 1 0")
}

// What others asked for is progress as well: one of it ends at every look, and
// the job waits for longer than it would for nothing.
func TestJobIsPatientWithOthers(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	ids := []string{"S-1", "S-2", "S-3"}
	for _, id := range ids {
		_, err := d.client.Enqueue(t.Context(), tasks.Request{ApplicationID: id})
		d.must(err)
	}
	j := d.job("run", "S-1,,,", "S-2,,,", "S-3,,,")
	j.Patience = lookPause / 2
	j.Report = func(Progress) {
		if len(ids) > 0 {
			d.finish(d.get(ids[0]).Ref())
			ids = ids[1:]
		}
	}
	d.working(j)
}
