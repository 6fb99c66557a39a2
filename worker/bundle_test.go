package worker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/recovery"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// fed feeds n new bulk requests, prefix-0 and so on, and returns their turns. They have no
// task yet.
func (h *harness) fed(prefix string, n int) []request.Ref {
	h.Helper()
	h.batch(prefix, n)
	k := h.book()
	h.Must(k.Join(h.Context()))
	result, err := k.Feed(h.Context(), ledger.FeedTarget{MinQueued: 1000, MaxQueued: 1000, MaxFed: 1000, Lease: time.Millisecond})
	h.Must(err)
	if len(result.Refs) != n {
		h.Fatalf("%d requests were fed, want %d", len(result.Refs), n)
	}
	h.Must(k.Fleet.Leave(h.Context()))
	return result.Refs
}

// bundle enqueues one task for turns, and further lines.
func (h *harness) bundle(turns []request.Ref, lines ...string) {
	h.Helper()
	for _, turn := range turns {
		lines = append(lines, turn.String())
	}
	_, err := asynq.NewClientFromRedisClient(h.Redis).Enqueue(asynq.NewTask(linktask.BundleType, []byte(strings.Join(lines, "\n"))),
		asynq.Queue(h.Keys.Queue(request.Bundles)), asynq.MaxRetry(1000))
	h.Must(err)
}

// answering is an upstream that makes a link when its test allows it.
type answering struct {
	calls  atomic.Int64
	slow   string        // the request that waits for answer; "": all wait
	answer chan struct{} // closed when they are answered
}

func (a *answering) upstream() Upstream {
	return stub{create: func(_ context.Context, call Attempt) (Link, *Fault) {
		a.calls.Add(1)
		if a.slow == "" || a.slow == call.ApplicationID {
			<-a.answer
		}
		return Link{LinkID: call.ApplicationID, URL: "https://simulator.invalid/" + call.ApplicationID}, nil
	}}
}

func TestBundle_OfEachRequestMakesALinkOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	const rows = 100
	h.batch("row", rows)
	h.start(h.book(), h.faceki)
	h.allCreated("row", rows)
	h.noTasks()
	for i := range rows {
		h.expect(fmt.Sprint("row-", i), request.Created, 1, 0)
	}
	if n := h.sim.State().Links; n != rows {
		t.Errorf("%d links were made, want %d", n, rows)
	}
	bundles, err := h.queue.GetQueueInfo(h.Keys.Queue(request.Bundles))
	h.Must(err)
	if bundles.ProcessedTotal == 0 || bundles.ProcessedTotal > rows/10 {
		t.Errorf("%d bundles for %d requests", bundles.ProcessedTotal, rows)
	}
}

// A call that hangs keeps one place of the lane, and neither its neighbours nor the bundle.
func TestBundle_DoesNotWaitForASlowCall(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.cfg.Calls.Concurrency = 2
	a := &answering{slow: "row-0", answer: make(chan struct{})}
	h.bundle(h.fed("row", 20))
	p := h.start(h.book(), a.upstream())
	h.Eventually("all others have links", func() bool { return h.count("row", 20)[request.Created] == 19 })
	h.noTasks()
	h.expect("row-0", request.Calling, 1, 0)
	p.cancel() // a stopping worker waits for the answer
	<-p.session.Load().life.Draining()
	close(a.answer)
	h.Must(p.wait())
	h.expect("row-0", request.Created, 1, 0)
	if n := a.calls.Load(); n != 20 {
		t.Errorf("%d calls", n)
	}
}

// At most as many requests as the lane has slots are in a call.
func TestBundle_KeepsTheConcurrencyLimit(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.cfg.Calls.Concurrency = 3
	a := &answering{answer: make(chan struct{})}
	turns := h.fed("row", 30)
	h.bundle(turns[:12])
	h.bundle(turns[12:24])
	h.start(h.book(), a.upstream())
	for _, turn := range turns[24:] { // tasks of their own take the same slots
		h.Must(linktask.Enqueue(t.Context(), asynq.NewClientFromRedisClient(h.Redis), h.Keys.Account, request.Bulk, turn))
	}
	h.Eventually("all slots are taken", func() bool { return a.calls.Load() == 3 })
	h.Eventually("the single tasks wait, too", func() bool {
		info, err := h.queue.GetQueueInfo(h.Keys.Queue(request.Bulk))
		return err == nil && info.Active == 3
	})
	if n := h.count("row", 30); n[request.Calling] != 3 || a.calls.Load() != 3 {
		t.Errorf("%d requests are called, with %d calls; want 3", n[request.Calling], a.calls.Load())
	}
	close(a.answer)
	h.Eventually("all have links", func() bool { return h.count("row", 30)[request.Created] == 30 })
	h.noTasks()
}

// What one of its lines or records is does not matter to the others.
func TestBundle_QuarantinesOnlyWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	turns := h.fed("row", 6)
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("row-1"), 5, "?").Err())  // no version can read it
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("row-2"), 0, "9").Err())  // a newer version's
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("row-3"), 74, "#").Err()) // its content is no JSON
	h.bundle(turns, "an invented line")
	h.start(h.book(), h.faceki)
	for _, id := range []string{"row-0", "row-4", "row-5"} {
		h.created(id)
	}
	h.Eventually("the row without content has failed", func() bool { return h.stateOf("row-3") == 'F' })
	h.Eventually("the newer one waits for a newer worker", func() bool { return h.taskState(request.Bulk, turns[2]) == "scheduled" })
	var line bool
	for _, entry := range h.quarantined() {
		line = line || string(entry.Raw) == "an invented line" && entry.Type == linktask.BundleType
	}
	if !line {
		t.Errorf("quarantined %+v, without the line", h.quarantined())
	}
	h.Must(h.Redis.SetRange(t.Context(), h.Keys.Record("row-2"), 0, "2").Err())
	h.Must(h.queue.RunTask(h.Keys.Queue(request.Bulk), turns[2].String()))
	h.created("row-2")
}

// stateOf is the letter of a record's state, also of one that cannot be read.
func (h *harness) stateOf(id string) byte {
	raw := h.Redis.GetRange(context.Background(), h.Keys.Record(id), 1, 1).Val()
	if raw == "" {
		return 0
	}
	return raw[0]
}

// A task of another version's type is quarantined, not lost, and its requests get tasks of
// their own.
func TestBundle_OfAnotherTypeIsQuarantined(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.fed("row", 3)
	_, err := asynq.NewClientFromRedisClient(h.Redis).Enqueue(asynq.NewTask("kyclink:other", []byte("row")), asynq.Queue(h.Keys.Queue(request.Bundles)))
	h.Must(err)
	h.run(h.newWorker(h.book(), h.faceki, h.cfg, func(s *stores) {
		s.recovery.Pause, s.recovery.OverdueAfter = 20*time.Millisecond, time.Millisecond
	}))
	h.allCreated("row", 3)
	h.Eventually("it is quarantined", func() bool { return len(h.quarantined()) == 1 })
	h.noTasks()
}

// Requests of a bundle that waits for admission are cancelled, paused and promoted as if
// each had a task of its own.
func TestBundle_IsNotInTheWayOfOperators(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.Must(h.account().Pause(t.Context(), "ann", ""))
	h.bundle(h.fed("row", 12))
	p := h.start(h.book(), h.faceki)
	h.Eventually("it waits for the gate", func() bool { return len(p.handled()) > 1 })
	active := h.Redis.LRange(t.Context(), h.asynqKey(request.Bundles, "active"), 0, -1).Val()
	if len(active) != 1 || !slices.Contains(p.handled(), active[0]) {
		t.Errorf("the heartbeat names %v, and the bundle is %v", p.handled(), active)
	}
	_, err := h.book().Cancel(t.Context(), h.record("row-3"))
	h.Must(err)
	h.expect("row-3", request.Cancelled, 0, 0)
	_, err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "row-5", Lane: tasks.Interactive})
	h.Must(err)
	control := func(c batch.Control) {
		h.Must(h.book().Batches.Control(t.Context(), batch.Batch{Batch: "spring", Number: h.record("row-0").Batch}, c))
	}
	control(batch.Pause)
	h.Must(h.account().Resume(t.Context()))
	h.created("row-5")
	h.Eventually("the others wait again", func() bool { return h.count("row", 12)[request.Waiting] == 10 })
	h.noTasks()
	if n := h.sim.State().LinkCalls; n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
	control(batch.Resume)
	h.Eventually("the others have links", func() bool { return h.count("row", 12)[request.Created] == 11 })
	h.noTasks()
	h.expect("row-5", request.Created, 1, 0)
	h.calls("row-3", 0)
}

// A stopping worker gives its bundles back.
func TestBundle_IsContinuedByAnotherProcessAfterAStop(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.cfg.Calls.Concurrency = 2
	a := &answering{answer: make(chan struct{})}
	h.bundle(h.fed("row", 9))
	p := h.start(h.book(), a.upstream())
	h.Eventually("two are called", func() bool { return a.calls.Load() == 2 })
	p.cancel()
	<-p.session.Load().life.Draining()
	close(a.answer)
	h.Must(p.wait())
	if n := h.count("row", 9); n[request.Created] != 2 || n[request.Queued] != 7 {
		t.Fatalf("the stopped worker left %v", n)
	}
	if left := h.Redis.Keys(t.Context(), h.asynqKey(request.Bundles, "t:*")).Val(); len(left) != 1 {
		t.Fatalf("the stopped worker left the bundles %v", left)
	}
	h.start(h.book(), a.upstream())
	h.Eventually("all have links", func() bool { return h.count("row", 9)[request.Created] == 9 })
	h.noTasks()
	if n := a.calls.Load(); n != 9 {
		t.Errorf("%d calls, want 9", n)
	}
}

// A bundle whose process died has requests that have ended, are called, and wait. Another
// process continues it, and each gets its own treatment.
func TestBundle_IsContinuedAfterItsProcessDied(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	turns := h.fed("row", 8)
	h.bundle(turns)
	h.dequeue(request.Bundles)
	dead := h.book()
	h.Must(dead.Join(t.Context()))
	ended := h.newWorker(dead, h.faceki, h.cfg).session.Load().lanes[request.Bulk]
	for _, turn := range turns[:2] {
		h.Must(ended.process(t.Context(), turn))
	}
	for _, turn := range turns[2:5] {
		h.marked(dead, turn)
	}
	active := h.Redis.LRange(t.Context(), h.asynqKey(request.Bundles, "active"), 0, -1).Val()
	h.Must(dead.Fleet.Heartbeat(t.Context(), append(active, turns[2].String(), turns[3].String(), turns[4].String())))
	if got := h.pass(h.recoveryOf(dead, notOverdue)); len(got) != 0 {
		t.Errorf("repaired %v while the process lives", got)
	}
	s := h.recovery(notOverdue)
	h.silence()
	if got := h.repairs(s); got[recovery.Orphaned] != 1 || got[recovery.Missing] != 0 {
		t.Errorf("repaired %v, want the bundle alone", got)
	}
	h.start(h.judge(), h.faceki)
	h.Eventually("all have links", func() bool { return h.count("row", 8)[request.Created] == 8 })
	h.noTasks()
	for i := range turns {
		called, links := 1, 1
		if 2 <= i && i < 5 {
			called = 2
		}
		id := fmt.Sprint("row-", i)
		h.expect(id, request.Created, called, called-1)
		h.calls(id, links)
	}
}

// Turns of a bundle that waits have a task; those of a bundle that is gone get one each.
func TestRecovery_KnowsTheTurnsOfBundles(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	turns := h.fed("row", 10)
	h.bundle(turns[:4])
	h.bundle(turns[4:7])
	h.dequeue(request.Bundles) // of a process that lives
	s := h.recovery()
	got, err := s.Pass(t.Context())
	h.Must(err)
	if got[recovery.Missing] != 3 || h.pending(request.Bulk) != 3 {
		t.Errorf("repaired %v; %d turns have tasks of their own, want the 3 that are in no bundle", got, h.pending(request.Bulk))
	}
	for _, turn := range turns[7:] {
		if is := h.taskState(request.Bulk, turn); is != "pending" {
			t.Errorf("the task of %s is %q", turn, is)
		}
	}
	_, err = h.queue.DeleteAllPendingTasks(h.Keys.Queue(request.Bundles))
	h.Must(err)
	if got := h.pass(s); got[recovery.Missing] != 3 {
		t.Errorf("repaired %v after the loss of a bundle of 3", got)
	}
}

// A worker of an earlier version takes no bundles: with one in the fleet, none are made.
func TestFeeder_MakesNoBundlesForAnEarlierWorker(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	k := h.book()
	h.Must(k.Join(t.Context()))
	feed := func() bool {
		result, err := k.Feed(t.Context(), ledger.FeedTarget{Lease: time.Minute})
		h.Must(err)
		return result.Bundles
	}
	if !feed() {
		t.Error("no bundles although every worker takes them")
	}
	now := float64(time.Now().UnixMilli())
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: now, Member: "1000001"}).Err()) // as it does
	if feed() {
		t.Error("bundles beside a worker that does not take them")
	}
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Workers(), redis.Z{Score: now - 60_000, Member: "1000001"}).Err())
	if !feed() {
		t.Error("no bundles after that worker has died")
	}
	h.Must(k.Fleet.Heartbeat(t.Context(), nil))
	if !feed() {
		t.Error("no bundles after a heartbeat")
	}
}
