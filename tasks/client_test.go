package tasks_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var server *redistest.Server

func TestMain(m *testing.M) { os.Exit(redistest.Main(m, &server)) }

// bench is one account, as its producers see it, and what a test needs to play
// the workers' part.
type bench struct {
	testing.TB
	rdb       *redis.Client
	account   string
	keys      keyspace.Keys
	client    *tasks.Client
	inspector *asynq.Inspector
}

func newBench(t testing.TB) *bench {
	b := &bench{TB: t, rdb: server.Client(t), account: redistest.Account()}
	b.keys = keyspace.Keys{Account: b.account}
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.account})
	b.inspector = asynq.NewInspectorFromRedisClient(b.rdb)
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) enqueue(req tasks.Request) tasks.Link {
	b.Helper()
	link, err := b.client.Enqueue(b.Context(), req)
	b.must(err)
	return link
}

// refuse is enqueue where the reason for a refusal is expected.
func (b *bench) refuse(req tasks.Request, reason, text string) {
	b.Helper()
	link, err := b.client.Enqueue(b.Context(), req)
	if tasks.ReasonOf(err) != reason || err == nil || !strings.Contains(err.Error(), text) {
		b.Errorf("%+v gave %+v, %v; want %s: %s", req, link, err, reason, text)
	}
}

func (b *bench) record(id string) request.Record {
	b.Helper()
	raw, err := b.rdb.Get(b.Context(), b.keys.Record(id)).Bytes()
	b.must(err)
	r, err := request.Parse(id, raw)
	b.must(err)
	return r
}

// become puts a request into a state, as a worker would.
func (b *bench) become(id string, state request.State) {
	b.Helper()
	r := b.record(id)
	before := r.State
	r.State, r.Outcome = state, request.Outcome{Run: r.Run, Status: state}
	if state == request.Queued || state == request.Calling {
		r.Outcome = request.Outcome{}
		r.Turn++
	}
	raw, err := r.Encode()
	b.must(err)
	_, err = b.rdb.TxPipelined(b.Context(), func(pipe redis.Pipeliner) error {
		pipe.Set(b.Context(), b.keys.Record(id), raw, 0)
		pipe.HIncrBy(b.Context(), b.keys.Batch(r.Batch), string(before), -1)
		pipe.HIncrBy(b.Context(), b.keys.Batch(r.Batch), string(state), 1)
		pipe.XAdd(b.Context(), &redis.XAddArgs{Stream: b.keys.Results(), Values: []any{"application_id", id}})
		return nil
	})
	b.must(err)
}

// tasks lists the ids of a lane's tasks.
func (b *bench) tasks(lane request.Lane) string {
	b.Helper()
	list, err := b.inspector.ListPendingTasks(b.keys.Queue(lane))
	if errors.Is(err, asynq.ErrQueueNotFound) {
		return ""
	}
	b.must(err)
	ids := make([]string, len(list))
	for i, task := range list {
		ids[i] = task.ID
		if task.Type != tasks.TaskType || len(task.Payload) != 0 || task.Timeout < time.Hour || task.MaxRetry < 1e9 {
			b.Errorf("task %+v", task)
		}
	}
	return strings.Join(ids, " ")
}

func (b *bench) expectTasks(want string) {
	b.Helper()
	if got := b.tasks(request.Interactive); got != want {
		b.Errorf("the tasks are %q, want %q", got, want)
	}
}

// expectCounters compares a batch's counters that are not 0.
func (b *bench) expectCounters(batch int, want string) {
	b.Helper()
	values := b.rdb.HGetAll(b.Context(), b.keys.Batch(batch)).Val()
	var got []string
	for _, name := range []string{"waiting", "queued", "calling", "held", "created", "failed", "cancelled", "joined"} {
		if n := values[name]; n != "" && n != "0" {
			got = append(got, name+" "+n)
		}
	}
	if strings.Join(got, ", ") != want {
		b.Errorf("batch %d counts %v, want %s", batch, got, want)
	}
}

func TestEnqueueAgain(t *testing.T) {
	b := newBench(t)
	option, other := true, false
	full := tasks.Request{
		ApplicationID: "A-1", RedirectURL: "https://shop.example/a?b=c&d", ExpiryMinutes: 60, DocumentOptional: &option, WorkflowID: "w",
		NotAfter: time.Now().Add(time.Hour), Metadata: []byte(`{"a": 1, "b": "<"}`),
	}
	link := b.enqueue(full)
	if link.Status != tasks.Queued || link.Generation != 1 || link.Run != 1 || link.Lane != tasks.Interactive || link.AcceptedAt.IsZero() {
		t.Errorf("the link is %+v", link)
	}
	reordered := full
	reordered.Metadata = []byte(`{"b":"\u003c","a":1}`)
	reordered.Lane, reordered.Generation = tasks.Bulk, 1 // a lane is never compared
	for _, again := range []tasks.Request{full, reordered, {ApplicationID: "A-1"}, {ApplicationID: "A-1", ExpiryMinutes: 60}} {
		if got := b.enqueue(again); got.AcceptedAt != link.AcceptedAt || got.Lane != tasks.Interactive || got.Status != tasks.Queued {
			t.Errorf("%+v gave %+v", again, got)
		}
	}
	b.refuse(tasks.Request{ApplicationID: "A-1", RedirectURL: "https://shop.example/b", ExpiryMinutes: 61, DocumentOptional: &other,
		WorkflowID: "v", NotAfter: full.NotAfter.Add(time.Second), Metadata: []byte(`{"a":1.0,"b":"<"}`)},
		"conflict", "another redirect_url, expiry_minutes, document_optional, workflow_id, not_after, metadata;")
	b.enqueue(tasks.Request{ApplicationID: "A-2"})
	b.refuse(tasks.Request{ApplicationID: "A-2", WorkflowID: "w"}, "conflict", "another workflow_id;")
	b.refuse(tasks.Request{ApplicationID: "A-3", CallbackURL: "https://shop.example/hooks"}, "invalid", "callbacks are off")
	b.refuse(tasks.Request{ApplicationID: "A 3", ExpiryMinutes: -1}, "invalid", "expiry_minutes")
	b.expectTasks("A-1:1:1:1 A-2:1:1:1")
	b.expectCounters(0, "queued 2")
}

func TestLostTask(t *testing.T) {
	b := newBench(t)
	b.enqueue(tasks.Request{ApplicationID: "A-1"})
	b.must(b.inspector.DeleteTask(b.keys.Queue(request.Interactive), "A-1:1:1:1"))
	b.expectTasks("")
	b.enqueue(tasks.Request{ApplicationID: "A-1"})
	b.expectTasks("A-1:1:1:1")
	b.must(b.inspector.DeleteTask(b.keys.Queue(request.Interactive), "A-1:1:1:1"))
	b.become("A-1", request.Created)
	b.enqueue(tasks.Request{ApplicationID: "A-1"})
	b.expectTasks("")
}

func TestPromotion(t *testing.T) {
	for from, c := range map[request.State]struct{ lane, tasks, counters string }{
		request.Waiting: {"interactive", "A-1:1:1:1", "queued 1"},
		request.Queued:  {"interactive", "A-1:1:1:2", "queued 1"}, // the turn that was fed is stale
		request.Calling: {"bulk", "", "calling 1"},
		request.Held:    {"bulk", "", "held 1"},
		request.Failed:  {"bulk", "", "failed 1"},
	} {
		t.Run(string(from), func(t *testing.T) {
			b := newBench(t)
			b.enqueue(tasks.Request{ApplicationID: "A-1", Lane: tasks.Bulk})
			b.expectTasks("")
			if from != request.Waiting {
				b.become("A-1", from)
			}
			if from == request.Queued {
				b.must(b.rdb.ZAdd(t.Context(), b.keys.Queued(request.Bulk), redis.Z{Member: "A-1"}).Err())
			}
			b.refuse(tasks.Request{ApplicationID: "A-1", WorkflowID: "w"}, "conflict", "workflow_id")
			b.enqueue(tasks.Request{ApplicationID: "A-1", Lane: tasks.Bulk})
			if got := b.record("A-1").Lane; got != request.Bulk {
				t.Errorf("a conflict or a bulk repeat moved it to %s", got)
			}
			for range 2 {
				if got := b.enqueue(tasks.Request{ApplicationID: "A-1"}); string(got.Lane) != c.lane {
					t.Errorf("the link is %+v", got)
				}
			}
			b.expectTasks(c.tasks)
			b.expectCounters(0, c.counters)
			if n := b.rdb.ZCard(t.Context(), b.keys.Queued(request.Bulk)).Val(); n != 0 {
				t.Errorf("%d requests are queued in the bulk lane", n)
			}
		})
	}
}

func TestGenerations(t *testing.T) {
	b := newBench(t)
	b.refuse(tasks.Request{ApplicationID: "A-1", Generation: 2}, "generation_gap", "is unknown: its first generation is 1, not 2")
	first := b.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 60})
	b.refuse(tasks.Request{ApplicationID: "A-1", Generation: 2}, "generation_gap", "generation 1 of A-1 is still queued")
	b.become("A-1", request.Created)
	b.refuse(tasks.Request{ApplicationID: "A-1", Generation: 3}, "generation_gap", "the next one is 2, not 3")
	past := time.Now().Add(-time.Hour)
	b.refuse(tasks.Request{ApplicationID: "A-1", Generation: 2, NotAfter: past}, "invalid", "has passed already")

	second := b.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 2, ExpiryMinutes: 90})
	if second.Generation != 2 || second.Status != tasks.Queued || second.Run != 1 {
		t.Errorf("the next generation is %+v", second)
	}
	b.expectTasks("A-1:1:1:1 A-1:2:1:1")
	b.expectCounters(0, "queued 1")
	if again := b.enqueue(tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 90}); again.Generation != 2 {
		t.Errorf("the latest generation is %+v", again)
	}
	older := b.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 1})
	if older.Generation != 1 || older.Status != tasks.Created || older.AcceptedAt != first.AcceptedAt {
		t.Errorf("an older generation is %+v", older)
	}
	b.refuse(tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 90}, "conflict", "expiry_minutes")
	b.must(b.rdb.Del(t.Context(), b.keys.Old("A-1", 1)).Err())
	if _, err := b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 1}); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("a generation that is not kept any more: %v", err)
	}
}

func TestNotAfter(t *testing.T) {
	b := newBench(t)
	past, soon := time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()
	b.refuse(tasks.Request{ApplicationID: "A-1", NotAfter: past}, "invalid", "not_after: has passed already")
	b.enqueue(tasks.Request{ApplicationID: "A-1", NotAfter: soon})
	if due := b.rdb.ZScore(t.Context(), b.keys.Deadlines(), "A-1").Val(); int64(due) != soon.UnixMilli() {
		t.Errorf("the deadline is %f", due)
	}
	// The same one again is no error once it has passed; another one is a conflict.
	r := b.record("A-1")
	r.Content.NotAfter = past
	raw, err := r.Encode()
	b.must(err)
	b.must(b.rdb.Set(t.Context(), b.keys.Record("A-1"), raw, 0).Err())
	b.enqueue(tasks.Request{ApplicationID: "A-1", NotAfter: past})
	b.refuse(tasks.Request{ApplicationID: "A-1", NotAfter: soon}, "conflict", "not_after")
}

func TestManyAtOnce(t *testing.T) {
	b := newBench(t)
	var group sync.WaitGroup
	links := make([]tasks.Link, 50)
	for i := range links {
		group.Go(func() {
			lane := []tasks.Lane{tasks.Bulk, tasks.Interactive}[i%2]
			var err error
			if links[i], err = b.client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Lane: lane}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, link := range links {
		if link.AcceptedAt != links[0].AcceptedAt {
			t.Errorf("accepted at %s and at %s", link.AcceptedAt, links[0].AcceptedAt)
		}
	}
	b.expectTasks("A-1:1:1:1")
	b.expectCounters(0, "queued 1")
}

func TestCallOff(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.client.Enqueue(ctx, tasks.Request{ApplicationID: "A-1"}); !errors.Is(err, context.Canceled) || tasks.ReasonOf(err) != "" {
		t.Errorf("enqueued with a context that had ended: %v", err)
	}
	if err := b.client.EnqueueAll(ctx, tasks.Batch{Name: "spring"}, rows(1), ignore); !errors.Is(err, context.Canceled) {
		t.Errorf("imported with a context that had ended: %v", err)
	}
	b.enqueue(tasks.Request{ApplicationID: "A-1"})
	b.expectTasks("A-1:1:1:1")
}

func TestBraces(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"{A}", "}{", "{kyclink:other}"} {
		b.enqueue(tasks.Request{ApplicationID: id})
		if got, err := b.client.Get(t.Context(), id); err != nil || got.ApplicationID != id {
			t.Errorf("%s: %+v, %v", id, got, err)
		}
	}
	b.expectTasks("{A}:1:1:1 }{:1:1:1 {kyclink:other}:1:1:1")
}

// TestCluster accepts on a Redis that is a cluster of one: it refuses a script
// that touches another slot than its key's.
func TestCluster(t *testing.T) {
	b := newBench(t)
	b.rdb = redistest.Start(t, "--cluster-enabled", "yes").Client(t)
	b.must(b.rdb.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	for !strings.Contains(b.rdb.ClusterInfo(t.Context()).Val(), "cluster_state:ok") {
		b.must(t.Context().Err())
	}
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.account})
	ids := []string{"A-1", "{A}", "}{", "{}", "{kyclink:other}"}
	for n, id := range ids {
		b.enqueueAll("spring", given([]tasks.Row{newRow(1, id, nil)}))
		b.enqueue(tasks.Request{ApplicationID: id, NotAfter: time.Time{}})
		b.become(id, request.Created)
		if link := b.enqueue(tasks.Request{ApplicationID: id, Generation: 2, NotAfter: time.Now().Add(time.Hour)}); link.Generation != 2 {
			t.Errorf("%d: %+v", n, link)
		}
		if link := b.enqueue(tasks.Request{ApplicationID: id, Generation: 1}); link.Status != tasks.Created {
			t.Errorf("%d: %+v", n, link)
		}
	}
}
