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
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// sweeps is a sweep that a test drives, of a process that soon holds others for
// dead; what is queued is overdue at once.
func (b *bench) sweeps() *sweep {
	b.t.Helper()
	k := b.judge()
	b.must(k.Join(b.t.Context()))
	s := newSweep(b.rdb, k, asynq.NewClientFromRedisClient(b.rdb), b.cfg.withDefaults(), func() bool { return true })
	s.overdue, s.stalledFor, s.unclaimed = -time.Second, -time.Second, time.Hour
	return s
}

func (b *bench) pass(s *sweep) map[string]int {
	b.t.Helper()
	mended, err := s.pass(b.t.Context())
	b.must(err)
	return mended
}

// silence makes all processes that joined so far dead to those that judge.
func (b *bench) silence() {
	b.t.Helper()
	for _, number := range b.workers() {
		b.must(b.rdb.ZAdd(b.t.Context(), b.keys.Workers(), redis.Z{Score: 1e12, Member: number}).Err())
	}
}

// marked is a call that k makes, and whose answer is never heard of.
func (b *bench) marked(k *book, ref request.Ref) {
	b.t.Helper()
	answer, err := k.Mark(b.t.Context(), attempt.Query{Ref: ref})
	b.must(err)
	if answer.Admission != attempt.Call {
		b.t.Fatalf("%s may not be called: %s", ref, answer.Admission)
	}
}

// mends passes until something was mended.
func (b *bench) mends(s *sweep) map[string]int {
	b.t.Helper()
	var mended map[string]int
	b.eventually("something is mended", func() bool { mended = b.pass(s); return len(mended) > 0 })
	return mended
}

func (b *bench) asynqKey(lane request.Lane, what string) string {
	return "asynq:{" + b.keys.Queue(lane) + "}:" + what
}

func (b *bench) taskState(lane request.Lane, ref request.Ref) string {
	return b.rdb.HGet(context.Background(), b.asynqKey(lane, "t:"+ref.String()), "state").Val()
}

// dequeue takes the lane's next task, as asynq does before it begins a handler.
func (b *bench) dequeue(lane request.Lane) {
	b.t.Helper()
	id, err := b.rdb.LMove(b.t.Context(), b.asynqKey(lane, "pending"), b.asynqKey(lane, "active"), "RIGHT", "LEFT").Result()
	b.must(err)
	b.must(b.rdb.HSet(b.t.Context(), b.asynqKey(lane, "t:"+id), "state", "active").Err())
	b.must(b.rdb.ZAdd(b.t.Context(), b.asynqKey(lane, "lease"), redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: id}).Err())
}

func TestATurnThatIsDueHasATask(t *testing.T) {
	t.Parallel()
	now := func(b *bench, ref request.Ref, state string) {
		b.must(b.rdb.ZAdd(t.Context(), b.asynqKey(request.Interactive, state), redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: ref.String()}).Err())
		b.must(b.rdb.LRem(t.Context(), b.asynqKey(request.Interactive, "pending"), 0, ref.String()).Err())
		b.must(b.rdb.HSet(t.Context(), b.asynqKey(request.Interactive, "t:"+ref.String()), "state", state).Err())
	}
	for state, tt := range map[string]struct {
		was    func(*bench, request.Ref)
		mended map[string]int
	}{
		"missing": {func(b *bench, ref request.Ref) {
			b.must(b.queue.DeleteTask(b.keys.Queue(request.Interactive), ref.String()))
		}, map[string]int{missing: 1}},
		"pending":   {func(*bench, request.Ref) {}, map[string]int{}},
		"retry":     {func(b *bench, ref request.Ref) { now(b, ref, "retry") }, map[string]int{late: 1}},
		"scheduled": {func(b *bench, ref request.Ref) { now(b, ref, "scheduled") }, map[string]int{late: 1}},
		"archived":  {func(b *bench, ref request.Ref) { now(b, ref, "archived") }, map[string]int{archived: 1}},
		"completed": {func(b *bench, ref request.Ref) { now(b, ref, "completed") }, map[string]int{missing: 1}},
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, simulator.Script{})
			ref := b.accept("A-1")
			s := b.sweeps()
			tt.was(b, ref)
			if got := b.pass(s); !maps.Equal(got, tt.mended) {
				t.Errorf("mended %v, want %v", got, tt.mended)
			}
			if now := b.taskState(request.Interactive, ref); now != "pending" || b.pending(request.Interactive) != 1 {
				t.Errorf("its task is %s, %d are pending", now, b.pending(request.Interactive))
			}
			for kind, n := range tt.mended {
				if got := b.rdb.HGet(t.Context(), b.keys.State(), "mended:"+kind).Val(); got != fmt.Sprint(n) {
					t.Errorf("the account counts %q %s", got, kind)
				}
			}
			b.start(b.book(), b.faceki)
			b.created("A-1")
			b.noTasks()
		})
	}
}

// In a long outage, thousands wait; each is looked at now and then, not at every
// pass.
func TestWhatWaitsIsLookedAtNowAndThen(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.accept("A-1")
	s := b.sweeps()
	s.overdue = time.Minute
	due := b.rdb.ZScore(t.Context(), b.keys.Queued(request.Interactive), "A-1").Val()
	b.pass(s)
	if now := b.rdb.ZScore(t.Context(), b.keys.Queued(request.Interactive), "A-1").Val(); now != due {
		t.Error("it was looked at at once")
	}
}

func TestATaskWhoseHandlerDiedIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		beats func(b *bench, k *book, ref request.Ref)
		back  bool
	}{
		"its process lives":     {func(b *bench, k *book, ref request.Ref) { b.must(k.Beat(t.Context(), []string{ref.String()})) }, false},
		"nobody has claimed it": {func(b *bench, k *book, _ request.Ref) { b.must(k.Beat(t.Context(), nil)) }, true},
		"its process was silent": {func(b *bench, k *book, ref request.Ref) {
			b.must(k.Beat(t.Context(), []string{ref.String()}))
			b.silence()
		}, true},
		"its process left a call": {func(b *bench, k *book, ref request.Ref) {
			b.must(k.Beat(t.Context(), []string{ref.String()}))
			b.marked(k, ref)
			b.silence()
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, simulator.Script{})
			ref := b.accept("A-1")
			b.dequeue(request.Interactive)
			s, k := b.sweeps(), b.book()
			b.must(k.Join(t.Context()))
			s.overdue = time.Hour
			tt.beats(b, k, ref)
			if name == "nobody has claimed it" {
				if got := b.pass(s); len(got) != 0 {
					t.Errorf("mended %v at the first look", got)
				}
				s.unclaimed = time.Nanosecond
			}
			if !tt.back {
				k := b.book()
				b.must(k.Join(t.Context()))
				s.left = k
				if got := b.pass(s); len(got) != 0 || b.taskState(request.Interactive, ref) != "active" {
					t.Errorf("mended %v", got)
				}
				return
			}
			if got := b.mends(s); !maps.Equal(got, map[string]int{orphaned: 1}) || b.taskState(request.Interactive, ref) != "pending" {
				t.Errorf("mended %v, its task is %s", got, b.taskState(request.Interactive, ref))
			}
			p := b.joined(b.judge(), b.faceki)
			b.eventually("it is taken", func() bool { return p.take(t.Context(), ref) == nil })
			b.created("A-1")
			b.calls("A-1", 1)
		})
	}
}

// Whatever a task stood for that is over meanwhile, nothing of it stays.
func TestNothingIsLeftOfWhatIsOver(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	p := b.joined(b.book(), b.faceki)
	for i := range 4 {
		ref := b.accept(fmt.Sprint("A-", i))
		b.dequeue(request.Interactive)
		b.must(p.take(t.Context(), ref))
	}
	for i := range 3 { // as asynq does with a lease that ran out
		id := b.record(fmt.Sprint("A-", i)).Ref().String()
		b.must(b.rdb.LRem(t.Context(), b.asynqKey(request.Interactive, "active"), 0, id).Err())
		b.must(b.rdb.ZRem(t.Context(), b.asynqKey(request.Interactive, "lease"), id).Err())
		b.must(b.rdb.ZAdd(t.Context(), b.asynqKey(request.Interactive, "archived"), redis.Z{Score: 1, Member: id}).Err())
		b.must(b.rdb.HSet(t.Context(), b.asynqKey(request.Interactive, "t:"+id), "state", "archived").Err())
	}
	b.must(b.rdb.ZAdd(t.Context(), b.keys.Calls(), redis.Z{Score: 1, Member: "7 A-0"}, redis.Z{Score: 1, Member: "7 nobody"}).Err())
	w := New(b.rdb, b.book(), b.faceki, b.cfg)
	w.sweep.pause, w.sweep.unclaimed = 20*time.Millisecond, 100*time.Millisecond
	b.run(w)
	b.noTasks()
	b.eventually("no call is out", func() bool { return b.rdb.Exists(t.Context(), b.keys.Calls()).Val() == 0 })
}

// A call whose process died has no task where asynq was faster, or lost it.
func TestACallThatDiedHasATask(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	ref := b.accept("A-1")
	b.must(b.queue.DeleteTask(b.keys.Queue(request.Interactive), ref.String()))
	s, k := b.sweeps(), b.book()
	s.overdue = time.Hour
	b.must(k.Join(t.Context()))
	b.marked(k, ref)
	judge := s.left
	s.left = k // to which it lives
	if got := b.pass(s); len(got) != 0 {
		t.Errorf("mended %v while its process lives", got)
	}
	s.left = judge
	b.silence()
	b.eventually("it has a task", func() bool { b.pass(s); return b.taskState(request.Interactive, ref) == "pending" })
	b.start(b.judge(), b.faceki)
	b.created("A-1")
	b.expect("A-1", request.Created, 2, 1)
}

// While the gate is closed, and of rows that are not fed as well.
func TestNotAfterEndsWhatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{Rules: []simulator.Rule{{Match: "held", Fault: simulator.Fault{Name: "no_url"}}}})
	soon := time.Now().Add(2 * time.Second)
	for id, lane := range map[string]tasks.Lane{"queued": tasks.Interactive, "held": tasks.Interactive, "waiting": tasks.Bulk} {
		_, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: id, Lane: lane, NotAfter: soon})
		b.must(err)
	}
	b.accept("unhurried")
	b.must(b.joined(b.book(), b.faceki).take(t.Context(), b.record("held").Ref()))
	b.expect("held", request.Held, 1, 1)
	b.must(b.account().Pause(t.Context()))
	s := b.sweeps()
	s.overdue = time.Hour
	ended := 0
	b.eventually("all three have ended", func() bool { ended += b.pass(s)[expired]; return ended == 3 })
	for _, id := range []string{"queued", "held", "waiting"} {
		if r := b.record(id); r.State != request.Failed || r.Outcome.Reason != string(fault.NotAfter) || time.Now().Before(soon) {
			t.Errorf("%s is %s: %s", id, r.State, r.Outcome.Reason)
		}
	}
	b.expect("unhurried", request.Queued, 0, 0)
	if left := b.rdb.ZCard(t.Context(), b.keys.Deadlines()).Val(); left != 0 {
		t.Errorf("%d deadlines are left", left)
	}
	b.must(b.account().Resume(t.Context()))
	b.start(b.book(), b.faceki)
	b.created("unhurried")
	b.noTasks()
	b.calls("waiting", 0)
}

// A pause is by Redis' clock: a worker whose own is ahead brings tasks early.
func TestAPauseIsKeptWhateverClocksSay(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		due   time.Duration
		again bool
	}{
		"soon":       {earlyMost - time.Second, true},
		"in an hour": {time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, simulator.Script{Rules: []simulator.Rule{{Match: "*", Fault: simulator.Fault{Name: "http_503"}, Times: 1}}})
			p := b.joined(b.book(), b.faceki)
			ref := b.accept("A-1")
			if _, again := isLater(p.take(t.Context(), ref)); !again {
				t.Fatal("it does not come again")
			}
			due := float64(time.Now().Add(tt.due).UnixMilli())
			b.must(b.rdb.ZAdd(t.Context(), b.keys.Queued(request.Interactive), redis.Z{Score: due, Member: "A-1"}).Err())
			err := p.take(t.Context(), ref)
			if delay, again := isLater(err); again != tt.again || delay > tt.due || again && delay < tt.due-2*time.Second {
				t.Errorf("it ends with %v, to come after %s", err, delay)
			}
			b.expect("A-1", request.Queued, 1, 0)
			if again := b.rdb.ZScore(t.Context(), b.keys.Queued(request.Interactive), "A-1").Val(); again != due {
				t.Error("its pause was changed")
			}
			b.must(b.rdb.ZAdd(t.Context(), b.keys.Queued(request.Interactive), redis.Z{Score: 1, Member: "A-1"}).Err())
			b.must(p.take(t.Context(), ref))
			b.created("A-1")
		})
	}
}

func TestAClockThatIsOffIsNamed(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	for ahead, want := range map[time.Duration]string{4 * time.Second: "", 10 * time.Minute: "ahead_by 10m0", -10 * time.Minute: "ahead_by -10m0"} {
		core, lines := observer.New(zap.WarnLevel)
		compareClocks(t.Context(), b.rdb, b.keys.Account, func() time.Time { return time.Now().Add(ahead) }, zap.New(core))
		var got strings.Builder
		for _, line := range lines.All() {
			fmt.Fprint(&got, "ahead_by ", line.ContextMap()["ahead_by"].(time.Duration).Round(time.Second))
		}
		if (want == "") != (got.String() == "") || !strings.HasPrefix(got.String(), want) {
			t.Errorf("%s ahead: %q", ahead, got.String())
		}
	}
}
