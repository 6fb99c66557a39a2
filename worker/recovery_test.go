package worker

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/dispatch"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/recovery"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// recovery is a recovery that a test drives, of a process that soon judges others dead;
// queued turns are overdue at once.
func (h *harness) recovery(change ...func(*recovery.Config)) *recovery.Recovery {
	h.Helper()
	k := h.judge()
	h.Must(k.Join(h.Context()))
	return h.recoveryOf(k, change...)
}

// recoveryOf is the same of a process that has joined.
func (h *harness) recoveryOf(k *book, change ...func(*recovery.Config)) *recovery.Recovery {
	h.Helper()
	queue := asynq.NewClientFromRedisClient(h.Redis)
	cfg := storesOf(k.Stores).recovery
	cfg.Redis, cfg.Account, cfg.Leads = h.Redis, h.Keys.Account, func() bool { return true }
	cfg.Enqueue = func(ctx context.Context, lane request.Lane, turn request.Ref) error {
		return linktask.Enqueue(ctx, queue, h.Keys.Account, lane, turn)
	}
	cfg.EnqueueDelivery = func(ctx context.Context, d delivery.Task) error {
		_, err := dispatch.Enqueue(ctx, queue, h.Keys.Account, d)
		return err
	}
	cfg.OverdueAfter, cfg.StalledAfter, cfg.Unclaimed = -time.Second, -time.Second, time.Hour
	cfg.Log, cfg.Limited, cfg.Meter = zap.NewNop(), zap.NewNop(), noMeter{}
	for _, c := range change {
		c(&cfg)
	}
	return recovery.New(cfg)
}

// notOverdue leaves queued turns alone.
func notOverdue(c *recovery.Config) { c.OverdueAfter = time.Hour }

// unclaimedAtOnce takes every active task without a handler for orphaned.
func unclaimedAtOnce(c *recovery.Config) { c.Unclaimed = time.Nanosecond }

func (h *harness) pass(r *recovery.Recovery) recovery.Counts {
	h.Helper()
	counts, err := r.Pass(h.Context())
	h.Must(err)
	return counts
}

// silence makes all processes that have joined dead to those that judge.
func (h *harness) silence() {
	h.Helper()
	for _, number := range h.workers() {
		h.Must(h.Redis.ZAdd(h.Context(), h.Keys.Workers(), redis.Z{Score: 1e12, Member: number}).Err())
	}
}

// marked is a call that k makes, and whose answer is lost.
func (h *harness) marked(k *book, ref request.Ref) {
	h.Helper()
	answer, err := k.Admit(h.Context(), attempt.Query{Ref: ref})
	h.Must(err)
	if answer.Verdict != attempt.Call {
		h.Fatalf("%s may not be called: %s", ref, answer.Verdict)
	}
}

// repairs passes until something was repaired.
func (h *harness) repairs(s *recovery.Recovery) recovery.Counts {
	h.Helper()
	var repaired recovery.Counts
	h.Eventually("something is repaired", func() bool { repaired = h.pass(s); return len(repaired) > 0 })
	return repaired
}

func (h *harness) asynqKey(lane request.Lane, what string) string {
	return "asynq:{" + h.Keys.Queue(lane) + "}:" + what
}

func (h *harness) taskState(lane request.Lane, ref request.Ref) string {
	return h.Redis.HGet(context.Background(), h.asynqKey(lane, "t:"+ref.String()), "state").Val()
}

// dequeue activates the lane's next task, as asynq does before it starts a handler.
func (h *harness) dequeue(lane request.Lane) {
	h.Helper()
	id, err := h.Redis.LMove(h.Context(), h.asynqKey(lane, "pending"), h.asynqKey(lane, "active"), "RIGHT", "LEFT").Result()
	h.Must(err)
	h.Must(h.Redis.HSet(h.Context(), h.asynqKey(lane, "t:"+id), "state", "active").Err())
	h.Must(h.Redis.ZAdd(h.Context(), h.asynqKey(lane, "lease"), redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: id}).Err())
}

func TestRecovery_GivesEachDueTurnATask(t *testing.T) {
	t.Parallel()
	now := func(h *harness, ref request.Ref, state string) {
		h.Must(h.Redis.ZAdd(t.Context(), h.asynqKey(request.Interactive, state), redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: ref.String()}).Err())
		h.Must(h.Redis.LRem(t.Context(), h.asynqKey(request.Interactive, "pending"), 0, ref.String()).Err())
		h.Must(h.Redis.HSet(t.Context(), h.asynqKey(request.Interactive, "t:"+ref.String()), "state", state).Err())
	}
	for state, tt := range map[string]struct {
		was      func(*harness, request.Ref)
		repaired recovery.Counts
	}{
		"missing": {func(h *harness, ref request.Ref) {
			h.Must(h.queue.DeleteTask(h.Keys.Queue(request.Interactive), ref.String()))
		}, recovery.Counts{recovery.Missing: 1}},
		"pending":   {func(*harness, request.Ref) {}, recovery.Counts{}},
		"retry":     {func(h *harness, ref request.Ref) { now(h, ref, "retry") }, recovery.Counts{recovery.Late: 1}},
		"scheduled": {func(h *harness, ref request.Ref) { now(h, ref, "scheduled") }, recovery.Counts{recovery.Late: 1}},
		"archived":  {func(h *harness, ref request.Ref) { now(h, ref, "archived") }, recovery.Counts{recovery.Archived: 1}},
		"completed": {func(h *harness, ref request.Ref) { now(h, ref, "completed") }, recovery.Counts{recovery.Missing: 1}},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{})
			ref := h.accept("A-1")
			s := h.recovery()
			tt.was(h, ref)
			if got := h.pass(s); !maps.Equal(got, tt.repaired) {
				t.Errorf("repaired %v, want %v", got, tt.repaired)
			}
			if now := h.taskState(request.Interactive, ref); now != "pending" || h.pending(request.Interactive) != 1 {
				t.Errorf("its task is %s, %d are pending", now, h.pending(request.Interactive))
			}
			for kind, n := range tt.repaired {
				if got := h.Redis.HGet(t.Context(), h.Keys.State(), "mended:"+kind).Val(); got != fmt.Sprint(n) {
					t.Errorf("the account counts %q %s", got, kind)
				}
			}
			h.start(h.book(), h.faceki)
			h.created("A-1")
			h.noTasks()
		})
	}
}

// In a long outage thousands of turns wait; a pass examines only the overdue ones.
func TestRecovery_ExaminesWaitingTurnsOnlyWhenOverdue(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.accept("A-1")
	s := h.recovery(func(c *recovery.Config) { c.OverdueAfter = time.Minute })
	due := h.Redis.ZScore(t.Context(), h.Keys.Queued(request.Interactive), "A-1").Val()
	h.pass(s)
	if now := h.Redis.ZScore(t.Context(), h.Keys.Queued(request.Interactive), "A-1").Val(); now != due {
		t.Error("it was looked at at once")
	}
}

func TestRecovery_RequeuesTheTaskOfADeadHandler(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		beats func(h *harness, k *book, ref request.Ref)
		back  bool
	}{
		"its process lives": {func(h *harness, k *book, ref request.Ref) {
			h.Must(k.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
		}, false},
		"nobody has claimed it": {func(h *harness, k *book, _ request.Ref) { h.Must(k.Fleet.Heartbeat(t.Context(), nil)) }, true},
		"its process was silent": {func(h *harness, k *book, ref request.Ref) {
			h.Must(k.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
			h.silence()
		}, true},
		"its process left a call": {func(h *harness, k *book, ref request.Ref) {
			h.Must(k.Fleet.Heartbeat(t.Context(), []string{ref.String()}))
			h.marked(k, ref)
			h.silence()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{})
			ref := h.accept("A-1")
			h.dequeue(request.Interactive)
			s, k := h.recovery(notOverdue), h.book()
			h.Must(k.Join(t.Context()))
			tt.beats(h, k, ref)
			if name == "nobody has claimed it" {
				if got := h.pass(s); len(got) != 0 {
					t.Errorf("repaired %v at the first look", got)
				}
				s = h.recovery(notOverdue, unclaimedAtOnce)
			}
			if !tt.back {
				k := h.book()
				h.Must(k.Join(t.Context()))
				s = h.recoveryOf(k, notOverdue)
				if got := h.pass(s); len(got) != 0 || h.taskState(request.Interactive, ref) != "active" {
					t.Errorf("repaired %v", got)
				}
				return
			}
			if got := h.repairs(s); !maps.Equal(got, recovery.Counts{recovery.Orphaned: 1}) || h.taskState(request.Interactive, ref) != "pending" {
				t.Errorf("repaired %v, its task is %s", got, h.taskState(request.Interactive, ref))
			}
			p := h.joined(h.judge(), h.faceki)
			h.Eventually("it is taken", func() bool { return p.process(t.Context(), ref) == nil })
			h.created("A-1")
			h.calls("A-1", 1)
		})
	}
}

// No task remains of a request that has ended.
func TestRecovery_LeavesNoTaskOfEndedRequests(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	p := h.joined(h.book(), h.faceki)
	for i := range 4 {
		ref := h.accept(fmt.Sprint("A-", i))
		h.dequeue(request.Interactive)
		h.Must(p.process(t.Context(), ref))
	}
	for i := range 3 { // as asynq does with an expired lease
		id := h.record(fmt.Sprint("A-", i)).Ref().String()
		h.Must(h.Redis.LRem(t.Context(), h.asynqKey(request.Interactive, "active"), 0, id).Err())
		h.Must(h.Redis.ZRem(t.Context(), h.asynqKey(request.Interactive, "lease"), id).Err())
		h.Must(h.Redis.ZAdd(t.Context(), h.asynqKey(request.Interactive, "archived"), redis.Z{Score: 1, Member: id}).Err())
		h.Must(h.Redis.HSet(t.Context(), h.asynqKey(request.Interactive, "t:"+id), "state", "archived").Err())
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Calls(), redis.Z{Score: 1, Member: "7 A-0"}, redis.Z{Score: 1, Member: "7 nobody"}).Err())
	h.run(h.newWorker(h.book(), h.faceki, h.cfg, func(s *stores) {
		s.recovery.Pause, s.recovery.Unclaimed = 20*time.Millisecond, 100*time.Millisecond
	}))
	h.noTasks()
	h.Eventually("no call is out", func() bool { return h.Redis.Exists(t.Context(), h.Keys.Calls()).Val() == 0 })
}

// The task of a call whose process died may be gone.
func TestRecovery_EnqueuesATaskForADeadCall(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	h.Must(h.queue.DeleteTask(h.Keys.Queue(request.Interactive), ref.String()))
	s, k := h.recovery(notOverdue), h.book()
	h.Must(k.Join(t.Context()))
	h.marked(k, ref)
	if got := h.pass(h.recoveryOf(k, notOverdue)); len(got) != 0 {
		t.Errorf("repaired %v while its process lives", got)
	}
	h.silence()
	h.Eventually("it has a task", func() bool { h.pass(s); return h.taskState(request.Interactive, ref) == "pending" })
	h.start(h.judge(), h.faceki)
	h.created("A-1")
	h.expect("A-1", request.Created, 2, 1)
}

// Requests expire while the gate is closed, and before they are fed.
func TestRecovery_EndsWaitingRequestsPastTheirNotAfter(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{Rules: []simulator.Rule{{Match: "held", Fault: simulator.Fault{Name: "no_url"}}}})
	soon := time.Now().Add(5 * time.Second) // until then they are accepted, and one is called
	for id, lane := range map[string]tasks.Lane{"queued": tasks.Interactive, "held": tasks.Interactive, "waiting": tasks.Bulk} {
		_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: id, Lane: lane, NotAfter: soon})
		h.Must(err)
	}
	h.accept("unhurried")
	h.Must(h.joined(h.book(), h.faceki).process(t.Context(), h.record("held").Ref()))
	h.expect("held", request.Held, 1, 1)
	h.Must(h.account().Pause(t.Context(), "ann", ""))
	s := h.recovery(notOverdue)
	ended := 0
	h.Eventually("all three have ended", func() bool { ended += h.pass(s)[recovery.Expired]; return ended == 3 })
	for _, id := range []string{"queued", "held", "waiting"} {
		if r := h.record(id); r.State != request.Failed || r.Outcome.Reason != string(fault.NotAfter) || time.Now().Before(soon) {
			t.Errorf("%s is %s: %s", id, r.State, r.Outcome.Reason)
		}
	}
	h.expect("unhurried", request.Queued, 0, 0)
	if left := h.Redis.ZCard(t.Context(), h.Keys.Deadlines()).Val(); left != 0 {
		t.Errorf("%d deadlines are left", left)
	}
	h.Must(h.account().Resume(t.Context()))
	h.start(h.book(), h.faceki)
	h.created("unhurried")
	h.noTasks()
	h.calls("waiting", 0)
}

// Pauses follow Redis' clock: a worker whose own clock is ahead runs tasks early.
func TestPipeline_KeepsAPauseByRedisClock(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		due   time.Duration
		again bool
	}{
		"soon":       {mostEarly - time.Second, true},
		"in an hour": {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_503"}, Times: 1}}})
			p := h.joined(h.book(), h.faceki)
			ref := h.accept("A-1")
			if _, again := isLater(p.process(t.Context(), ref)); !again {
				t.Fatal("it does not run again")
			}
			begun := time.Now()
			due := float64(begun.Add(tt.due).UnixMilli())
			h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Interactive), redis.Z{Score: due, Member: "A-1"}).Err())
			err := p.process(t.Context(), ref)
			if delay, again := isLater(err); again != tt.again || delay > tt.due || again && delay < tt.due-time.Since(begun)-time.Second {
				t.Errorf("it ends with %v, to run after %s", err, delay)
			}
			h.expect("A-1", request.Queued, 1, 0)
			if again := h.Redis.ZScore(t.Context(), h.Keys.Queued(request.Interactive), "A-1").Val(); again != due {
				t.Error("its pause was changed")
			}
			h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Interactive), redis.Z{Score: 1, Member: "A-1"}).Err())
			h.Must(p.process(t.Context(), ref))
			h.created("A-1")
		})
	}
}

func TestWorker_WarnsOfAClockThatDiffers(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	for ahead, want := range map[time.Duration]string{4 * time.Second: "", 10 * time.Minute: "ahead_by 10m0", -10 * time.Minute: "ahead_by -10m0"} {
		core, lines := observer.New(zap.WarnLevel)
		compareClocks(t.Context(), h.Redis, h.Keys.Account, func() time.Time { return time.Now().Add(ahead) }, zap.New(core))
		var got strings.Builder
		for _, line := range lines.All() {
			fmt.Fprint(&got, "ahead_by ", line.ContextMap()["ahead_by"].(time.Duration).Round(time.Second))
		}
		if (want == "") != (got.String() == "") || !strings.HasPrefix(got.String(), want) {
			t.Errorf("%s ahead: %q", ahead, got.String())
		}
	}
}
