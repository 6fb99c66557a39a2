package worker

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
)

func (h *harness) quarantined() []quarantine.Entry {
	h.Helper()
	var all []quarantine.Entry
	for p, err := range h.book().Stores.Quarantine.All(context.Background()) {
		h.Must(err)
		all = append(all, p)
	}
	return all
}

// noTasks waits until asynq has no task left, in any state.
func (h *harness) noTasks() {
	h.Helper()
	h.Eventually("no task is left", func() bool {
		for _, lane := range []request.Lane{request.Interactive, request.Bulk, request.Bundles} {
			if len(h.Redis.Keys(context.Background(), "asynq:{"+h.Keys.Queue(lane)+"}:t:*").Val()) > 0 {
				return false
			}
		}
		return true
	})
	for _, lane := range []request.Lane{request.Interactive, request.Bulk, request.Bundles} {
		for _, set := range []string{"active", "lease", "retry", "scheduled", "archived", "completed", "pending"} {
			if h.Redis.Exists(context.Background(), "asynq:{"+h.Keys.Queue(lane)+"}:"+set).Val() > 0 {
				h.Errorf("%s of %s is not empty", set, lane)
			}
		}
	}
}

// taken processes a turn with a time limit: a query that fails is retried while the task
// belongs to the handler.
func (h *harness) taken(p *pipeline, ref request.Ref) error {
	ctx, cancel := context.WithTimeout(h.Context(), time.Minute)
	defer cancel()
	return p.process(ctx, ref)
}

func TestQuarantine_KeepsUndecodableTasks(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	queue := h.Keys.Queue(request.Interactive)
	put := func(kind, id, payload string) {
		_, err := asynq.NewClientFromRedisClient(h.Redis).Enqueue(asynq.NewTask(kind, []byte(payload)), asynq.TaskID(id), asynq.Queue(queue))
		h.Must(err)
	}
	put(linktask.Type, "nonsense", "an invented payload")
	put("kyclink:other", "A-9:1:1:1", strings.Repeat("x", quarantine.MaxBytes+1))
	p := h.start(h.book(), h.faceki)
	h.Eventually("both are quarantined", func() bool { return len(h.quarantined()) == 2 })
	for _, a := range h.quarantined() {
		want := quarantine.Entry{At: a.At, Queue: queue, Task: "nonsense", Type: linktask.Type, Why: a.Why, Raw: []byte("an invented payload")}
		if a.Task != "nonsense" {
			want.Task, want.Type, want.Raw = "A-9:1:1:1", "kyclink:other", []byte(strings.Repeat("x", quarantine.MaxBytes))
		}
		if fmt.Sprint(a) != fmt.Sprint(want) || a.Why == "" || time.Since(a.At).Abs() > time.Minute {
			t.Errorf("quarantined %+v", a)
		}
	}
	h.noTasks()
	h.accept("A-1")
	h.created("A-1")
	h.Must(p.stop())
}

// The id of a task names its turn; its payload is ignored.
func TestPipeline_IgnoresThePayloadOfATask(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	queue := h.Keys.Queue(request.Interactive)
	h.Must(h.queue.DeleteTask(queue, ref.String()))
	_, err := asynq.NewClientFromRedisClient(h.Redis).Enqueue(asynq.NewTask(linktask.Type, []byte("\xff\x00{")), asynq.TaskID(ref.String()), asynq.Queue(queue))
	h.Must(err)
	h.start(h.book(), h.faceki)
	h.created("A-1")
}

func TestPipeline_LeavesANewerRecordToANewerWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	core, lines := observer.New(zap.WarnLevel)
	h.cfg.Telemetry.Limited = zap.New(core)
	ref := h.accept("A-1")
	key := h.Keys.Record("A-1")
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "9").Err())
	before := h.Redis.Get(t.Context(), key).Val()
	p := h.joined(h.book(), h.faceki)
	if delay, again := isLater(h.taken(p, ref)); !again || delay != newerDelay {
		t.Errorf("it runs again after %s", delay)
	}
	if after := h.Redis.Get(t.Context(), key).Val(); after != before || lines.Len() != 1 {
		t.Errorf("the record is %q, was %q; %d warnings", after, before, lines.Len())
	}
	h.calls("A-1", 0)
	h.Must(h.taken(p, h.accept("A-2"))) // the gate is not affected
	h.created("A-2")
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "2").Err()) // as a newer worker would read it
	h.Must(h.taken(p, ref))
	h.created("A-1")
}

// A row of a newer version delays no other row, and is fed by a newer worker.
func TestFeeder_LeavesANewerRowToANewerWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.batch("row", 3)
	key := h.Keys.Record("row-1")
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "9").Err())
	h.start(h.book(), h.faceki)
	h.created("row-0")
	h.created("row-2")
	h.Eventually("it waits for a newer worker", func() bool { return h.Redis.SCard(t.Context(), h.Keys.Newer()).Val() == 1 })
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "n").Err())
	h.created("row-1")
}

// A newer worker feeds such a row also beside an older one that leads.
func TestFeeder_FeedsANewerRowBesideAnOlderLeader(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.batch("row", 1)
	key := h.Keys.Record("row-0")
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "9").Err())
	h.feeds(nil) // the older worker
	h.Eventually("the row waits for a newer worker", func() bool { return h.Redis.SCard(t.Context(), h.Keys.Newer()).Val() == 1 })
	h.Must(h.Redis.SetRange(t.Context(), key, 0, "n").Err())
	h.start(h.book(), h.faceki)
	h.created("row-0")
}

func TestQuarantine_EndsAnUndecodableRequest(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	key := h.Keys.Record("A-1")
	const content = `{"u":7}` + "\n" + `{"broken`
	h.Must(h.Redis.Set(t.Context(), key, h.Redis.GetRange(t.Context(), key, 0, request.HeaderLen-1).Val()+content, 0).Err())
	h.Must(h.taken(h.joined(h.book(), h.faceki), ref))
	r := h.expect("A-1", request.Failed, 0, 0)
	if r.Outcome.Reason != string(fault.Quarantined) || r.Outcome.Raw != content || r.Outcome.Message == "" {
		t.Errorf("it ended as %+v", r.Outcome)
	}
	h.calls("A-1", 0)
	entries, err := h.Redis.XRange(t.Context(), h.Keys.Results(), "-", "+").Result()
	h.Must(err)
	if len(entries) != 1 || strings.Contains(fmt.Sprint(entries[0].Values), "broken") {
		t.Errorf("published %v", entries)
	}
	if n := h.Redis.ZCard(t.Context(), h.Keys.Calls()).Val(); n != 0 {
		t.Errorf("%d calls are out", n)
	}
}

func TestQuarantine_KeepsARecordWithoutAHeader(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("A-1"), "1q?garbage", 0).Err())
	h.Must(h.taken(h.joined(h.book(), h.faceki), ref))
	all := h.quarantined()
	if len(all) != 1 || string(all[0].Raw) != "1q?garbage" || all[0].Task != ref.String() {
		t.Errorf("quarantined %+v", all)
	}
}

// doomed is a ledger that panics for one request.
type doomed struct {
	*book
	id    string
	after bool // the mark
	times atomic.Int64
}

func (p *doomed) Admit(ctx context.Context, ask attempt.Query) (attempt.Decision, error) {
	if ask.Ref.ApplicationID != p.id {
		return p.book.Admit(ctx, ask)
	}
	p.times.Add(1)
	if p.after {
		if answer, err := p.book.Admit(ctx, ask); err != nil || answer.Verdict == attempt.Busy {
			return answer, err
		}
	}
	panic("an invented reason")
}

func TestQuarantine_EndsARequestThatPanicsEachTime(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before its mark": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHarness(t, simulator.Script{})
			k := &doomed{book: h.book(), id: "A-1", after: after}
			h.Must(k.Join(t.Context()))
			p := h.newWorker(k, h.faceki, h.cfg).session.Load().lanes[request.Interactive]
			ref := h.accept("A-1")
			for range mostPanics - 1 {
				if _, again := isLater(p.process(t.Context(), ref)); !again {
					t.Fatal("it does not run again")
				}
			}
			h.Must(p.process(t.Context(), ref))
			if r := h.record("A-1"); r.State != request.Failed || r.Outcome.Reason != string(fault.Quarantined) || r.Outcome.Raw != "{}" {
				t.Errorf("it is %+v", r)
			}
			h.Must(p.process(t.Context(), ref)) // stale
			h.Must(p.process(t.Context(), h.accept("A-2")))
			h.created("A-2")
		})
	}
}

// asynq activates a message that it cannot decode, loses track of it, and its recoverer
// fails at it for ever.
func TestRecovery_QuarantinesAnUndecodableMessage(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	ref := h.accept("A-1")
	prefix := "asynq:{" + h.Keys.Queue(request.Interactive) + "}:"
	h.Must(h.Redis.HSet(t.Context(), prefix+"t:"+ref.String(), "msg", "\xff\xffgarbage").Err())
	h.run(h.newWorker(h.book(), h.faceki, h.cfg, func(s *stores) {
		s.recovery.OverdueAfter, s.recovery.Pause, s.recovery.Unclaimed = 50*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	}))
	h.Eventually("it is quarantined", func() bool { return len(h.quarantined()) == 1 })
	if a := h.quarantined()[0]; a.Task != ref.String() || string(a.Raw) != "\xff\xffgarbage" {
		t.Errorf("quarantined %+v", a)
	}
	h.created("A-1") // by a task of its own
	h.noTasks()
}
