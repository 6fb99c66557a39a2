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
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func (b *bench) aside() []quarantine.Entry {
	b.t.Helper()
	var all []quarantine.Entry
	for p, err := range b.book().Aside(context.Background()) {
		b.must(err)
		all = append(all, p)
	}
	return all
}

// noTasks waits until asynq has no task left, in whatever state.
func (b *bench) noTasks() {
	b.t.Helper()
	b.eventually("no task is left", func() bool {
		for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
			if len(b.rdb.Keys(context.Background(), "asynq:{"+b.keys.Queue(lane)+"}:t:*").Val()) > 0 {
				return false
			}
		}
		return true
	})
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		for _, set := range []string{"active", "lease", "retry", "scheduled", "archived", "completed", "pending"} {
			if b.rdb.Exists(context.Background(), "asynq:{"+b.keys.Queue(lane)+"}:"+set).Val() > 0 {
				b.t.Errorf("%s of %s is not empty", set, lane)
			}
		}
	}
}

// taken is what becomes of a turn, in a while: a mark that fails is tried again for
// as long as its task is the handler's.
func (b *bench) taken(p *lane, ref request.Ref) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Second)
	defer cancel()
	return p.take(ctx, ref)
}

func TestATaskThatStandsForNoRequestIsPutAside(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	queue := b.keys.Queue(request.Interactive)
	put := func(kind, id, payload string) {
		_, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(asynq.NewTask(kind, []byte(payload)), asynq.TaskID(id), asynq.Queue(queue))
		b.must(err)
	}
	put(tasks.TaskType, "nonsense", "an invented payload")
	put("kyclink:other", "A-9:1:1:1", strings.Repeat("x", quarantine.MaxBytes+1))
	p := b.start(b.book(), b.faceki)
	b.eventually("both are put aside", func() bool { return len(b.aside()) == 2 })
	for _, a := range b.aside() {
		want := quarantine.Entry{At: a.At, Queue: queue, Task: "nonsense", Type: tasks.TaskType, Why: a.Why, Raw: []byte("an invented payload")}
		if a.Task != "nonsense" {
			want.Task, want.Type, want.Raw = "A-9:1:1:1", "kyclink:other", []byte(strings.Repeat("x", quarantine.MaxBytes))
		}
		if fmt.Sprint(a) != fmt.Sprint(want) || a.Why == "" || time.Since(a.At).Abs() > time.Minute {
			t.Errorf("put aside %+v", a)
		}
	}
	b.noTasks()
	b.accept("A-1")
	b.created("A-1")
	b.must(p.stop())
}

// The id says which turn a task stands for; what else it carries is no reason
// not to make the link.
func TestAPayloadIsNotLookedAt(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	queue := b.keys.Queue(request.Interactive)
	b.must(b.queue.DeleteTask(queue, ref.String()))
	_, err := asynq.NewClientFromRedisClient(b.rdb).Enqueue(asynq.NewTask(tasks.TaskType, []byte("\xff\x00{")), asynq.TaskID(ref.String()), asynq.Queue(queue))
	b.must(err)
	b.start(b.book(), b.faceki)
	b.created("A-1")
}

func TestANewerRecordWaitsForANewerWorker(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	core, lines := observer.New(zap.WarnLevel)
	b.cfg.Limited = zap.New(core)
	ref := b.accept("A-1")
	key := b.keys.Record("A-1")
	b.must(b.rdb.SetRange(t.Context(), key, 0, "2").Err())
	before := b.rdb.Get(t.Context(), key).Val()
	p := b.joined(b.book(), b.faceki)
	if delay, again := isLater(b.taken(p, ref)); !again || delay != newerPause {
		t.Errorf("it comes again after %s", delay)
	}
	if after := b.rdb.Get(t.Context(), key).Val(); after != before || lines.Len() != 1 {
		t.Errorf("the record is %q, was %q; %d warnings", after, before, lines.Len())
	}
	b.calls("A-1", 0)
	b.must(b.taken(p, b.accept("A-2"))) // the gate knows nothing of it
	b.created("A-2")
	b.must(b.rdb.SetRange(t.Context(), key, 0, "1").Err()) // as for a newer worker
	b.must(b.taken(p, ref))
	b.created("A-1")
}

// A newer row keeps no other row from being fed, and is fed by a newer version.
func TestANewerRowIsFedByANewerWorker(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.batch("row", 3)
	key := b.keys.Record("row-1")
	b.must(b.rdb.SetRange(t.Context(), key, 0, "2").Err())
	b.start(b.book(), b.faceki)
	b.created("row-0")
	b.created("row-2")
	b.eventually("it waits for a newer worker", func() bool { return b.rdb.SCard(t.Context(), b.keys.Newer()).Val() == 1 })
	b.must(b.rdb.SetRange(t.Context(), key, 0, "1").Err())
	b.created("row-1")
}

func TestARecordThatCannotBeReadEndsAsPoison(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	key := b.keys.Record("A-1")
	const content = `{"redirect_url":7}` + "\n" + `{"broken`
	b.must(b.rdb.Set(t.Context(), key, b.rdb.GetRange(t.Context(), key, 0, request.HeaderLen-1).Val()+content, 0).Err())
	b.must(b.taken(b.joined(b.book(), b.faceki), ref))
	r := b.expect("A-1", request.Failed, 0, 0)
	if r.Outcome.Reason != string(fault.Poison) || r.Outcome.Raw != content || r.Outcome.Message == "" {
		t.Errorf("it ended as %+v", r.Outcome)
	}
	b.calls("A-1", 0)
	entries, err := b.rdb.XRange(t.Context(), b.keys.Results(), "-", "+").Result()
	b.must(err)
	if len(entries) != 1 || strings.Contains(fmt.Sprint(entries[0].Values), "broken") {
		t.Errorf("published %v", entries)
	}
	if n := b.rdb.ZCard(t.Context(), b.keys.Calls()).Val(); n != 0 {
		t.Errorf("%d calls are out", n)
	}
}

func TestARecordWithoutAHeaderIsPutAside(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	b.must(b.rdb.Set(t.Context(), b.keys.Record("A-1"), "1q?garbage", 0).Err())
	b.must(b.taken(b.joined(b.book(), b.faceki), ref))
	all := b.aside()
	if len(all) != 1 || string(all[0].Raw) != "1q?garbage" || all[0].Task != ref.String() {
		t.Errorf("put aside %+v", all)
	}
}

// doomed is a ledger that a request brings down each time.
type doomed struct {
	*book
	id    string
	after bool // the mark
	times atomic.Int64
}

func (p *doomed) Mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	if ask.Ref.ApplicationID != p.id {
		return p.book.Mark(ctx, ask)
	}
	p.times.Add(1)
	if p.after {
		if answer, err := p.book.Mark(ctx, ask); err != nil || answer.Admission == attempt.Busy {
			return answer, err
		}
	}
	panic("an invented reason")
}

func TestARequestThatPanicsEndsAsPoison(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before its mark": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, simulator.Script{})
			k := &doomed{book: b.book(), id: "A-1", after: after}
			b.must(k.Join(t.Context()))
			p := newLane(New(b.rdb, k, b.faceki, b.cfg).pipe)
			ref := b.accept("A-1")
			for range mostPanics - 1 {
				if _, again := isLater(p.take(t.Context(), ref)); !again {
					t.Fatal("it does not come again")
				}
			}
			b.must(p.take(t.Context(), ref))
			if r := b.record("A-1"); r.State != request.Failed || r.Outcome.Reason != string(fault.Poison) || r.Outcome.Raw != "{}" {
				t.Errorf("it is %+v", r)
			}
			b.must(p.take(t.Context(), ref)) // stale
			b.must(p.take(t.Context(), b.accept("A-2")))
			b.created("A-2")
		})
	}
}

// asynq hands a message out that it cannot read, loses sight of it, and its
// recoverer stops at it for ever.
func TestAMessageThatAsynqCannotReadIsPutAside(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	prefix := "asynq:{" + b.keys.Queue(request.Interactive) + "}:"
	b.must(b.rdb.HSet(t.Context(), prefix+"t:"+ref.String(), "msg", "\xff\xffgarbage").Err())
	w := New(b.rdb, b.book(), b.faceki, b.cfg)
	w.sweep.overdue, w.sweep.pause, w.sweep.unclaimed = 50*time.Millisecond, 20*time.Millisecond, 100*time.Millisecond
	b.run(w)
	b.eventually("it is put aside", func() bool { return len(b.aside()) == 1 })
	if a := b.aside()[0]; a.Task != ref.String() || string(a.Raw) != "\xff\xffgarbage" {
		t.Errorf("put aside %+v", a)
	}
	b.created("A-1") // by a task of its own
	b.noTasks()
}
