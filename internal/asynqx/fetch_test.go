package asynqx

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
)

// fleet is several servers of one queue, each with its own connections.
type fleet struct {
	*testing.T

	keys    keyspace.Keys
	rdb     redis.UniversalClient
	client  *asynq.Client
	servers []*waiter
	handled sync.Map // by application id
}

// waiter is a server whose waits a test observes and changes.
type waiter struct {
	server  *Server
	waits   atomic.Int64                  // that have ended
	woken   atomic.Int64                  // that have ended with a task
	queries atomic.Int64                  // for a task, without waiting
	around  func(wait func() error) error // returns the error of a wait; nil: wait
	came    func(*Server)                 // called when a wait has ended with a task; may be nil
}

func newFleet(t *testing.T, rdb redis.UniversalClient, account string) *fleet {
	return &fleet{T: t, keys: keyspace.Keys{Account: account}, rdb: rdb, client: asynq.NewClientFromRedisClient(rdb)}
}

// newSharedFleet returns a fleet on the shared Redis.
func newSharedFleet(t *testing.T) *fleet {
	return newFleet(t, fixture.NewAccount(t).Redis, redistest.Account())
}

func (f *fleet) key(what string) string { return key(f.keys.Queue(request.Interactive), what) }

// start starts a server with clients of its own.
func (f *fleet) start(rdb, blocking redis.UniversalClient, w *waiter) *waiter {
	f.Helper()
	rdb.AddHook(queryHook{w, f.key("pending")})
	blocking.AddHook(waitHook{w})
	w.server = NewServer(rdb, ServerConfig{
		Queue: f.keys.Queue(request.Interactive), Concurrency: 10, Blocking: blocking, Drain: 5 * time.Second,
		Pause: func() time.Duration { return 0 }, Log: zap.NewNop(),
	})
	fixture.Must(f.T, w.server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		f.handled.Store(id, w)
		return nil
	})))
	f.Cleanup(w.server.Shutdown)
	f.servers = append(f.servers, w)
	return w
}

// startOn starts a server with connections to a server.
func (f *fleet) startOn(redis *redistest.Server, w *waiter) *waiter {
	f.Helper()
	return f.start(fixture.NewAccountOn(f.T, redis).Redis, fixture.NewAccountOn(f.T, redis).Redis, w)
}

func (f *fleet) enqueue(id string) request.Ref {
	f.Helper()
	ref := request.Ref{ApplicationID: id, Generation: 1, Run: 1, Turn: 1}
	fixture.Must(f.T, linktask.Enqueue(context.Background(), f.client, f.keys.Account, request.Interactive, ref))
	return ref
}

// handles waits until a request is handled, and returns by which server.
func (f *fleet) handles(ref request.Ref) *waiter {
	f.Helper()
	fixture.Eventually(f.T, ref.ApplicationID+" is handled", func() bool { _, ok := f.handled.Load(ref.String()); return ok })
	w, _ := f.handled.Load(ref.String())
	return w.(*waiter)
}

// waiting waits until all servers wait for a task.
func (f *fleet) waiting() {
	f.Helper()
	for _, w := range f.servers {
		before := w.waits.Load()
		fixture.Eventually(f.T, "a server has waited", func() bool { return w.waits.Load() > before })
	}
}

// queryHook counts the queries for a task that do not wait.
type queryHook struct {
	*waiter

	pending string
}

func (queryHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h queryHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if args := cmd.Args(); cmd.Name() == "evalsha" && len(args) > 3 && args[3] == h.pending {
			h.queries.Add(1)
		}
		return next(ctx, cmd)
	}
}
func (queryHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// waitHook observes and changes waits.
type waitHook struct{ *waiter }

func (waitHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (waitHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h waitHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "blmove" {
			return next(ctx, cmds)
		}
		var err error
		wait := func() error { err = next(ctx, cmds); return err }
		if h.around == nil {
			_ = wait()
		} else if changed := h.around(wait); changed != err { //nolint:errorlint // it is the same or another
			err = changed
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		if id, ok := cmds[0].(*redis.StringCmd); ok && id.Err() == nil {
			h.woken.Add(1)
			if h.came != nil {
				h.came(h.server)
			}
		}
		h.waits.Add(1)
		return err
	}
}

func TestServer_IsWokenByATask(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	f.startOn(fixture.Redis(), &waiter{})
	tasks := int64(0)
	for f.servers[0].woken.Load() < 10 { // some may come in the moment between two waits
		tasks++
		f.handles(f.enqueue(fmt.Sprintf("A-%d", tasks)))
	}
	if n := f.servers[0].woken.Load(); n > tasks {
		t.Errorf("the server was woken %d times by %d tasks", n, tasks)
	}
}

func TestServer_IsNotWokenWithOthers(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	for range 8 {
		f.startOn(fixture.Redis(), &waiter{})
	}
	f.waiting()
	by := map[*waiter]bool{}
	for i := range 24 {
		by[f.handles(f.enqueue(fmt.Sprintf("A-%d", i)))] = true
	}
	woken := int64(0)
	for _, w := range f.servers {
		woken += w.woken.Load()
	}
	if woken == 0 || woken > 24 {
		t.Errorf("24 tasks woke 8 servers %d times", woken)
	}
	if len(by) < 3 {
		t.Errorf("24 tasks went to %d of 8 servers", len(by))
	}
}

// A worker of an earlier version looks for tasks in the same list.
func TestServer_SharesItsQueueWithAServerThatPolls(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	var polled atomic.Int64
	other := asynq.NewServerFromRedisClient(fixture.NewAccountOn(t, fixture.Redis()).Redis, asynq.Config{
		Concurrency: 10, Queues: map[string]int{f.keys.Queue(request.Interactive): 1}, TaskCheckInterval: time.Millisecond,
		LogLevel: asynq.FatalLevel, ShutdownTimeout: time.Second,
	})
	fixture.Must(t, other.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		f.handled.Store(id, (*waiter)(nil))
		polled.Add(1)
		return nil
	})))
	t.Cleanup(other.Shutdown)
	w := f.startOn(fixture.Redis(), &waiter{})
	for i := 0; polled.Load() == 0 || w.woken.Load() == 0; i++ {
		f.enqueue(fmt.Sprintf("first-%d", i))
		f.handles(f.enqueue(fmt.Sprintf("second-%d", i)))
	}
	fixture.Eventually(t, "no task is left", func() bool {
		return f.rdb.Exists(t.Context(), f.key("pending"), f.key("woken"), f.key("active"), f.key("lease")).Val() == 0
	})
}

func TestServer_SeldomQueriesWhileIdle(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	began := time.Now()
	w := f.startOn(fixture.Redis(), &waiter{})
	fixture.Eventually(t, "it has waited a few times", func() bool { return w.waits.Load() >= 4 })
	queries := w.queries.Load() // first: the server goes on meanwhile
	waits := w.waits.Load()
	took := time.Since(began)
	if queries > waits+1 || took < time.Duration(waits-1)*maxWait {
		t.Errorf("an idle server waited %d times and queried %d times in %s, want one query after each wait of %s", waits, queries, took, maxWait)
	}
}

// A server that is never woken finds tasks by asynq's own query.
func TestServer_FindsTasksWithoutBeingWoken(t *testing.T) {
	t.Parallel()
	lost := map[string]func(func() error) error{
		"no wait reaches Redis": func(func() error) error { <-time.After(time.Millisecond); return redis.Nil },
		"waiting is forbidden":  func(func() error) error { return errNoPermission },
		"no reply arrives":      func(func() error) error { <-time.After(time.Millisecond); return net.ErrClosed },
	}
	for name, around := range lost {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newSharedFleet(t)
			f.startOn(fixture.Redis(), &waiter{around: around})
			for i := range 20 {
				f.handles(f.enqueue(fmt.Sprintf("A-%d", i)))
			}
			if n := f.servers[0].woken.Load(); n != 0 {
				t.Errorf("the server was woken %d times, so that the test proves nothing", n)
			}
		})
	}
}

// permissionError is what Redis answers to a user who may not run the command.
type permissionError struct{}

func (permissionError) Error() string {
	return "NOPERM this user has no permissions to run the 'blmove' command"
}
func (permissionError) RedisError() {}

var errNoPermission = permissionError{}

func TestServer_SurvivesTheLossOfItsConnections(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	f := newFleet(t, server.Client(t), redistest.Account())
	for range 3 {
		f.startOn(server, &waiter{})
	}
	ctx, cancel := context.WithCancel(t.Context())
	var killing sync.WaitGroup
	defer killing.Wait()
	defer cancel()
	killing.Go(func() { // all connections that wait
		for ctx.Err() == nil {
			for client := range strings.Lines(f.rdb.ClientList(ctx).Val()) {
				if id, _, _ := strings.Cut(strings.TrimPrefix(client, "id="), " "); strings.Contains(client, "cmd=blmove") {
					f.rdb.ClientKillByFilter(ctx, "ID", id)
				}
			}
		}
	})
	f.tasksEnd(200)
}

// tasksEnd enqueues tasks and waits until none is left, except those that recovery finds: a
// connection was lost with the reply.
func (f *fleet) tasksEnd(n int) {
	f.Helper()
	for i := range n {
		f.enqueue(fmt.Sprintf("E-%d", i))
	}
	q := NewQueue(f.rdb, f.keys.Account, request.Interactive)
	fixture.Eventually(f.T, "all tasks have ended", func() bool {
		ids, err := q.Active(context.Background())
		if err != nil {
			return false
		}
		for _, id := range ids {
			if _, handled := f.handled.Load(id); !handled {
				_, _ = q.Requeue(context.Background(), id)
			}
		}
		left := 0
		for i := range n {
			if _, ok := f.handled.Load(fmt.Sprintf("E-%d:1:1:1", i)); !ok {
				left++
			}
		}
		return left == 0
	})
}

// A lost reply leaves the task as that of asynq's own query does: active, with a lease.
func TestServer_LeasesATaskWhoseReplyIsLost(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	var lossy atomic.Bool
	lost := make(chan struct{})
	f.startOn(fixture.Redis(), &waiter{around: func(wait func() error) error {
		if err := wait(); err != nil || !lossy.CompareAndSwap(true, false) {
			return err
		}
		close(lost)
		return net.ErrClosed
	}})
	f.handles(f.enqueue("A-0")) // asynq has loaded its script
	f.waiting()
	lossy.Store(true)
	var id string
	for i := 1; lossy.Load(); i++ { // a task that comes between two waits is handled
		id = f.enqueue(fmt.Sprintf("A-%d", i)).String()
		fixture.Eventually(t, "the task is handled, or the reply with it is lost", func() bool {
			_, handled := f.handled.Load(id)
			return handled || !lossy.Load()
		})
	}
	<-lost
	if score, err := f.rdb.ZScore(t.Context(), f.key("lease"), id).Result(); err != nil || time.Unix(int64(score), 0).Before(time.Now().Add(20*time.Second)) {
		t.Errorf("lease: got %v, %v; want 30 s", score, err)
	}
	ids, err := NewQueue(f.rdb, f.keys.Account, request.Interactive).Active(t.Context())
	if fixture.Must(t, err); len(ids) != 1 || ids[0] != id {
		t.Errorf("got active tasks %v, want %s", ids, id)
	}
}

func TestServer_TakesATaskThatWasLeftBetweenTheLists(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]*waiter{
		"it waits":       {},
		"it cannot wait": {around: func(func() error) error { return errNoPermission }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newSharedFleet(t)
			ref := f.enqueue("A-1")
			fixture.Must(t, f.rdb.LMove(t.Context(), f.key("pending"), f.key("woken"), "RIGHT", "LEFT").Err())
			f.startOn(fixture.Redis(), w)
			f.handles(ref)
		})
	}
}

func TestServer_TakesNothingFromAPausedQueue(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	fixture.Must(t, f.rdb.Set(t.Context(), PauseKey(f.keys.Queue(request.Interactive)), 1, 0).Err())
	w := f.startOn(fixture.Redis(), &waiter{})
	first, second := f.enqueue("A-1"), f.enqueue("A-2")
	fixture.Eventually(t, "it has been woken several times", func() bool { return w.woken.Load() >= 3 })
	fixture.Eventually(t, "both tasks are pending", func() bool { return f.rdb.LLen(t.Context(), f.key("pending")).Val() == 2 })
	if _, ok := f.handled.Load(first.String()); ok {
		t.Error("a task of a paused queue was handled")
	}
	fixture.Must(t, f.rdb.Del(t.Context(), PauseKey(f.keys.Queue(request.Interactive))).Err())
	f.handles(first)
	f.handles(second)
}

// A task that comes when a server has begun to stop goes to another one.
func TestServer_ReturnsATaskThatComesWhileItStops(t *testing.T) {
	t.Parallel()
	f := newSharedFleet(t)
	var stop atomic.Bool
	stopped := make(chan struct{})
	f.startOn(fixture.Redis(), &waiter{came: func(server *Server) {
		if stop.CompareAndSwap(true, false) {
			go func() { defer close(stopped); server.Shutdown() }()
			fixture.Eventually(t, "it stops", server.fetcher.stopping.Load)
		}
	}})
	f.handles(f.enqueue("A-0")) // asynq has loaded its script
	f.waiting()
	stop.Store(true)
	var ref request.Ref
	for i := 1; stop.Load(); i++ { // a task that comes between two waits is handled
		ref = f.enqueue(fmt.Sprintf("A-%d", i))
		fixture.Eventually(t, "the task is handled, or the server begins to stop with it", func() bool {
			_, handled := f.handled.Load(ref.String())
			return handled || !stop.Load()
		})
	}
	<-stopped
	if ids := f.rdb.LRange(t.Context(), f.key("pending"), 0, -1).Val(); len(ids) != 1 || ids[0] != ref.String() {
		t.Errorf("got pending tasks %v, want %s", ids, ref)
	}
	if other := f.startOn(fixture.Redis(), &waiter{}); f.handles(ref) != other {
		t.Error("the server that stops has handled the task")
	}
}

// A wait that took longer than the client waits for an answer would always fail.
func TestServer_WaitsLessThanTheReadTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ timeout, want time.Duration }{
		{0, maxWait}, {-1, maxWait}, {time.Second, maxWait}, {100 * time.Millisecond, 50 * time.Millisecond},
	} {
		single := redis.NewClient(&redis.Options{ReadTimeout: c.timeout})
		cluster := redis.NewClusterClient(&redis.ClusterOptions{ReadTimeout: c.timeout})
		for _, rdb := range []redis.UniversalClient{single, cluster} {
			if got := newFetcher(rdb, rdb, "q").wait; got != c.want {
				t.Errorf("read timeout %s of a %T: got a wait of %s, want %s", c.timeout, rdb, got, c.want)
			}
			fixture.Must(t, rdb.Close())
		}
	}
}
