package job

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
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
	book := storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	j.Stores = book
	var err error
	j.LedgerID, err = book.Fleet.ID(h.Context())
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
func TestJob_WaitsForAnAbsentRedis(t *testing.T) {
	t.Parallel()
	filled, made := filler(1, 250)
	for _, c := range []struct {
		step string
		at   int // round trip
		when func(h *harness, j *Job, spring func())
	}{
		{"restore", 1, func(h *harness, j *Job, spring func()) {
			known := record("F-001", request.Waiting, 0)
			known.Content.RedirectURL = done
			h.journal(known)
			j.Journal = h.openJournal()
			h.Cleanup(func() { h.closeJournal(j.Journal) })
			spring()
		}},
		{"retry: look", 2, func(h *harness, j *Job, spring func()) { j.RetryFailed = true; spring() }},
		{"retry: start", 3, func(h *harness, j *Job, spring func()) {
			h.failed["F-001"] = true
			h.do(h.job("run", filled[0]))
			h.failed = nil
			j.RetryFailed = true
			spring()
		}},
		{"accept", 6, func(_ *harness, _ *Job, spring func()) { spring() }},
		{"await", 1, func(_ *harness, j *Job, spring func()) {
			drive, looks := j.OnProgress, 0
			j.OnProgress = func(p Progress) {
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
			j.OnRedisError = func(error) {
				troubles++
				h.server.Restart(t)
			}
			spring := func() { s.set(c.at, h.server.Kill) }
			if c.when != nil {
				c.when(h, j, spring)
			}
			p := h.do(j)
			if c.when == nil {
				spring()
			}
			got := h.write(j)
			if troubles != 1 {
				t.Errorf("Redis was away and back %d times", troubles)
			}
			if p.Rows != 250 || p.Rejected != 0 || p.Total() != 250 || p.Finished() != 250 {
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

// If Redis came back without its data, every link would be created again.
func TestJob_AcceptsNothingInAnEmptiedRedis(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t)) // keeps nothing
	filled, _ := filler(1, 250)
	j := h.job("run", filled...)
	s := h.trapped(j)
	j.OnRedisError = func(error) { h.server.Restart(t) }
	s.set(6, h.server.Kill)
	_, err := j.Work(t.Context())
	if !errors.Is(err, errDataLost) {
		t.Fatal(err)
	}
	if n, err := h.Redis.Exists(t.Context(), h.Keys.Record("F-001")).Result(); err != nil || n != 0 {
		t.Errorf("the emptied Redis was given a row: %d, %v", n, err)
	}
}

func TestJob_FailsWhenRedisStaysAway(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	j := h.job("run", "A-1,,,")
	h.trapped(j)
	j.Patience = time.Millisecond
	h.server.Kill()
	begun := time.Now()
	_, err := j.Work(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Redis failed for") || !strings.Contains(err.Error(), "run the same command again") {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(begun); took < pollPause {
		t.Errorf("it tried once more after %v", took)
	}
}

func TestJob_WritesNothingWhenRedisWasEmptied(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	j := h.job("run", "A-1,,,")
	h.do(j)
	h.Must(h.Redis.FlushAll(t.Context()).Err())
	_, err := j.Write(t.Context(), h.out)
	if err == nil || !strings.HasPrefix(err.Error(), "row 1, A-1: Redis no longer knows what was accepted: was it emptied") {
		t.Errorf("it ended with %v", err)
	}
}
