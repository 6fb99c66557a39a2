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

// trap is a Redis hook that calls do before the n-th round trip after it was set.
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

// trapped gives the job its own connection with a trap.
func (h *harness) trapped(j *Job) *trap {
	h.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: h.server.Addr, MaxRetries: -1, DialerRetries: 1})
	h.Cleanup(func() { _ = rdb.Close() })
	s := &trap{}
	rdb.AddHook(s)
	j.Client = tasks.NewClient(rdb, tasks.Config{Account: h.Keys.Account})
	stores := storage.New(rdb, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}})
	j.Stores = stores
	var err error
	j.LedgerID, err = stores.Fleet.ID(h.Context())
	h.Must(err)
	return s
}

// newDurableHarness returns a harness with its own Redis, which loses nothing when it is
// killed, because the kernel has what it wrote.
func newDurableHarness(t *testing.T) *harness {
	return newHarnessOn(t, redistest.Start(t, "--appendonly", "yes", "--appendfsync", "no"))
}

// Redis is killed during each step, and restarted when the job reports the error.
func TestJob_WaitsForAnAbsentRedis(t *testing.T) {
	t.Parallel()
	filled, made := filler(1, 250)
	for _, c := range []struct {
		step string
		at   int // round trip
		when func(h *harness, j *Job, setTrap func())
	}{
		{"restore", 1, func(h *harness, j *Job, setTrap func()) {
			known := record("F-001", request.Waiting, 0)
			known.Content.RedirectURL = done
			h.journal(known)
			j.Journal = h.openJournal()
			h.Cleanup(func() { h.closeJournal(j.Journal) })
			setTrap()
		}},
		{"retry: read", 2, func(h *harness, j *Job, setTrap func()) { j.RetryFailed = true; setTrap() }},
		{"retry: start", 3, func(h *harness, j *Job, setTrap func()) {
			h.failed["F-001"] = true
			h.do(h.job("run", filled[0]))
			h.failed = nil
			j.RetryFailed = true
			setTrap()
		}},
		{"accept", 6, func(_ *harness, _ *Job, setTrap func()) { setTrap() }},
		{"await", 1, func(_ *harness, j *Job, setTrap func()) {
			drive, polls := j.OnProgress, 0
			j.OnProgress = func(p Progress) {
				if polls++; polls == 1 {
					setTrap()
					return
				}
				drive(p)
			}
		}},
		{"write", 2, nil},
	} {
		t.Run(c.step, func(t *testing.T) {
			t.Parallel()
			h := newDurableHarness(t)
			j := h.job("run", filled...)
			s := h.trapped(j)
			reported := 0
			j.OnRedisError = func(error) {
				reported++
				h.server.Restart(t)
			}
			setTrap := func() { s.set(c.at, h.server.Kill) }
			if c.when != nil {
				c.when(h, j, setTrap)
			}
			p := h.do(j)
			if c.when == nil {
				setTrap()
			}
			got := h.write(j)
			if reported != 1 {
				t.Errorf("the job reported %d errors of Redis, want 1", reported)
			}
			if p.Rows != 250 || p.Rejected != 0 || p.Total() != 250 || p.Finished() != 250 {
				t.Errorf("got progress %+v at the end, want 250 rows finished", p)
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
	h := newHarnessOn(t, redistest.Start(t)) // loses its data when it is killed
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
		t.Errorf("the emptied Redis has %d records of F-001, %v; want none", n, err)
	}
}

func TestJob_FailsWhenRedisStaysAway(t *testing.T) {
	t.Parallel()
	h := newHarnessOn(t, redistest.Start(t))
	j := h.job("run", "A-1,,,")
	h.trapped(j)
	j.Patience = time.Millisecond
	h.server.Kill()
	began := time.Now()
	_, err := j.Work(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Redis failed for") || !strings.Contains(err.Error(), "run the same command again") {
		t.Errorf("got error %v", err)
	}
	if took := time.Since(began); took < pollPause {
		t.Errorf("the job ended after %v, want it to pause for %v and try again", took, pollPause)
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
		t.Errorf("got error %v", err)
	}
}
