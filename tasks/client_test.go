package tasks_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with a client, and what a test needs to act as its workers.
type harness struct {
	*fixture.Account

	inspector *asynq.Inspector
}

func newHarness(t testing.TB) *harness {
	h := &harness{Account: fixture.NewAccount(t)}
	h.inspector = asynq.NewInspectorFromRedisClient(h.Redis)
	return h
}

func (h *harness) enqueue(req tasks.Request) tasks.Link {
	h.Helper()
	link, err := h.Client.Enqueue(h.Context(), req)
	h.Must(err)
	return link
}

// expectRefusal checks that a request is refused with the reason and an error that contains the text.
func (h *harness) expectRefusal(req tasks.Request, reason, text string) {
	h.Helper()
	link, err := h.Client.Enqueue(h.Context(), req)
	if tasks.ReasonOf(err) != reason || err == nil || !strings.Contains(err.Error(), text) {
		h.Errorf("enqueue %+v: got %+v, %v; want %s: %s", req, link, err, reason, text)
	}
}

func (h *harness) record(id string) request.Record {
	h.Helper()
	raw, err := h.Redis.Get(h.Context(), h.Keys.Record(id)).Bytes()
	h.Must(err)
	r, err := request.Parse(id, raw)
	h.Must(err)
	return r
}

// setState puts a request into a state, as a worker would.
func (h *harness) setState(id string, state request.State) {
	h.Helper()
	r := h.record(id)
	before := r.State
	r.State, r.Outcome = state, request.Outcome{Run: r.Run, Status: state}
	if state == request.Queued || state == request.Calling {
		r.Outcome = request.Outcome{}
		r.Turn++
	}
	raw, err := r.Encode()
	h.Must(err)
	_, err = h.Redis.TxPipelined(h.Context(), func(pipe redis.Pipeliner) error {
		pipe.Set(h.Context(), h.Keys.Record(id), raw, 0)
		pipe.HIncrBy(h.Context(), h.Keys.Batch(r.Batch), string(before), -1)
		pipe.HIncrBy(h.Context(), h.Keys.Batch(r.Batch), string(state), 1)
		pipe.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Results(), Values: []any{"application_id", id}})
		return nil
	})
	h.Must(err)
}

// tasks returns the ids of a lane's pending tasks.
func (h *harness) tasks(lane request.Lane) string {
	h.Helper()
	list, err := h.inspector.ListPendingTasks(h.Keys.Queue(lane))
	if errors.Is(err, asynq.ErrQueueNotFound) {
		return ""
	}
	h.Must(err)
	ids := make([]string, len(list))
	for i, task := range list {
		ids[i] = task.ID
		if task.Type != linktask.Type || len(task.Payload) != 0 || task.Timeout < time.Hour || task.MaxRetry < 1e9 {
			h.Errorf("got task %+v, want type %s without a payload, limited neither in time nor in retries", task, linktask.Type)
		}
	}
	return strings.Join(ids, " ")
}

func (h *harness) expectTasks(want string) {
	h.Helper()
	if got := h.tasks(request.Interactive); got != want {
		h.Errorf("got tasks %q, want %q", got, want)
	}
}

// expectCounters checks the counters of a batch that are not 0.
func (h *harness) expectCounters(batch int, want string) {
	h.Helper()
	values := h.Redis.HGetAll(h.Context(), h.Keys.Batch(batch)).Val()
	var got []string
	for _, name := range []string{"waiting", "queued", "calling", "held", "created", "failed", "cancelled", "joined"} {
		if n := values[name]; n != "" && n != "0" {
			got = append(got, name+" "+n)
		}
	}
	if strings.Join(got, ", ") != want {
		h.Errorf("counters of batch %d: got %v, want %s", batch, got, want)
	}
}

func TestEnqueue_ReturnsTheSameLinkUnlessTheContentDiffers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	option, other := true, false
	full := tasks.Request{
		ApplicationID: "A-1", RedirectURL: "https://shop.example/a?b=c&d", ExpiryMinutes: 60, DocumentOptional: &option, WorkflowID: "w",
		NotAfter: time.Now().Add(time.Hour), Metadata: []byte(`{"a": 1, "b": "<"}`),
	}
	link := h.enqueue(full)
	if link.Status != tasks.Queued || link.Generation != 1 || link.Run != 1 || link.Lane != tasks.Interactive || link.AcceptedAt.IsZero() {
		t.Errorf("got link %+v", link)
	}
	reordered := full
	reordered.Metadata = []byte(`{"b":"\u003c","a":1}`)
	reordered.Lane, reordered.Generation = tasks.Bulk, 1 // lanes are not compared
	for _, again := range []tasks.Request{full, reordered, {ApplicationID: "A-1"}, {ApplicationID: "A-1", ExpiryMinutes: 60}} {
		if got := h.enqueue(again); got.AcceptedAt != link.AcceptedAt || got.Lane != tasks.Interactive || got.Status != tasks.Queued {
			t.Errorf("enqueue %+v: got %+v, want the first link", again, got)
		}
	}
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", RedirectURL: "https://shop.example/b", ExpiryMinutes: 61, DocumentOptional: &other,
		WorkflowID: "v", NotAfter: full.NotAfter.Add(time.Second), Metadata: []byte(`{"a":1.0,"b":"<"}`)},
		"conflict", "different values of redirect_url, expiry_minutes, document_optional, workflow_id, not_after, metadata;")
	h.enqueue(tasks.Request{ApplicationID: "A-2"})
	h.expectRefusal(tasks.Request{ApplicationID: "A-2", WorkflowID: "w"}, "conflict", "different values of workflow_id;")
	h.expectRefusal(tasks.Request{ApplicationID: "A-3", CallbackURL: "https://shop.example/hooks"}, "invalid", "callbacks are off")
	h.expectRefusal(tasks.Request{ApplicationID: "A 3", ExpiryMinutes: -1}, "invalid", "expiry_minutes")
	h.expectTasks("A-1:1:1:1 A-2:1:1:1")
	h.expectCounters(0, "queued 2")
}

func TestEnqueue_CreatesALostTaskAgain(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.Must(h.inspector.DeleteTask(h.Keys.Queue(request.Interactive), "A-1:1:1:1"))
	h.expectTasks("")
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.expectTasks("A-1:1:1:1")
	h.Must(h.inspector.DeleteTask(h.Keys.Queue(request.Interactive), "A-1:1:1:1"))
	h.setState("A-1", request.Created)
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.expectTasks("")
}

func TestEnqueue_PromotesABulkRequestUnlessItsCallWasSent(t *testing.T) {
	t.Parallel()
	for from, c := range map[request.State]struct{ lane, tasks, counters string }{
		request.Waiting: {"interactive", "A-1:1:1:1", "queued 1"},
		request.Queued:  {"interactive", "A-1:1:1:2", "queued 1"}, // the bulk turn is superseded
		request.Calling: {"bulk", "", "calling 1"},
		request.Held:    {"bulk", "", "held 1"},
		request.Failed:  {"bulk", "", "failed 1"},
	} {
		t.Run(string(from), func(t *testing.T) {
			h := newHarness(t)
			h.enqueue(tasks.Request{ApplicationID: "A-1", Lane: tasks.Bulk})
			h.expectTasks("")
			if from != request.Waiting {
				h.setState("A-1", from)
			}
			if from == request.Queued {
				h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Bulk), redis.Z{Member: "A-1"}).Err())
			}
			h.expectRefusal(tasks.Request{ApplicationID: "A-1", WorkflowID: "w"}, "conflict", "workflow_id")
			h.enqueue(tasks.Request{ApplicationID: "A-1", Lane: tasks.Bulk})
			if got := h.record("A-1").Lane; got != request.Bulk {
				t.Errorf("a conflict or a bulk repeat moved the request to lane %s", got)
			}
			for range 2 {
				if got := h.enqueue(tasks.Request{ApplicationID: "A-1"}); string(got.Lane) != c.lane {
					t.Errorf("got link %+v, want lane %s", got, c.lane)
				}
			}
			h.expectTasks(c.tasks)
			h.expectCounters(0, c.counters)
			if n := h.Redis.ZCard(t.Context(), h.Keys.Queued(request.Bulk)).Val(); n != 0 {
				t.Errorf("%d requests are queued in the bulk lane, want none", n)
			}
		})
	}
}

func TestEnqueue_StartsTheNextGenerationOnlyAfterTheLastHasEnded(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 2}, "generation_gap", "is unknown: its first generation is 1, not 2")
	first := h.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 60})
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 2}, "generation_gap", "generation 1 of A-1 is still queued")
	h.setState("A-1", request.Created)
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 3}, "generation_gap", "the next one is 2, not 3")
	past := time.Now().Add(-time.Hour)
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 2, NotAfter: past}, "invalid", "is in the past")

	second := h.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 2, ExpiryMinutes: 90})
	if second.Generation != 2 || second.Status != tasks.Queued || second.Run != 1 {
		t.Errorf("the second generation: got %+v", second)
	}
	h.expectTasks("A-1:1:1:1 A-1:2:1:1")
	h.expectCounters(0, "queued 1")
	if again := h.enqueue(tasks.Request{ApplicationID: "A-1", ExpiryMinutes: 90}); again.Generation != 2 {
		t.Errorf("without a generation: got %+v, want the latest", again)
	}
	older := h.enqueue(tasks.Request{ApplicationID: "A-1", Generation: 1})
	if older.Generation != 1 || older.Status != tasks.Created || older.AcceptedAt != first.AcceptedAt {
		t.Errorf("the first generation: got %+v", older)
	}
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", Generation: 1, ExpiryMinutes: 90}, "conflict", "expiry_minutes")
	h.Must(h.Redis.Del(t.Context(), h.Keys.Old("A-1", 1)).Err())
	if _, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Generation: 1}); !errors.Is(err, tasks.ErrNotFound) {
		t.Errorf("a generation whose record was erased: got %v, want ErrNotFound", err)
	}
}

func TestEnqueue_RefusesANotAfterInThePastUnlessItIsARepeat(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	past, soon := time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", NotAfter: past}, "invalid", "not_after: is in the past")
	h.enqueue(tasks.Request{ApplicationID: "A-1", NotAfter: soon})
	if due := h.Redis.ZScore(t.Context(), h.Keys.Deadlines(), "A-1").Val(); int64(due) != soon.UnixMilli() {
		t.Errorf("got deadline %f, want %d", due, soon.UnixMilli())
	}
	// The same time is accepted after it has passed; another one is a conflict.
	r := h.record("A-1")
	r.Content.NotAfter = past
	raw, err := r.Encode()
	h.Must(err)
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("A-1"), raw, 0).Err())
	h.enqueue(tasks.Request{ApplicationID: "A-1", NotAfter: past})
	h.expectRefusal(tasks.Request{ApplicationID: "A-1", NotAfter: soon}, "conflict", "not_after")
}

func TestEnqueue_AcceptsConcurrentRepeatsOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	var group sync.WaitGroup
	links := make([]tasks.Link, 50)
	for i := range links {
		group.Go(func() {
			lane := []tasks.Lane{tasks.Bulk, tasks.Interactive}[i%2]
			var err error
			if links[i], err = h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1", Lane: lane}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, link := range links {
		if link.AcceptedAt != links[0].AcceptedAt {
			t.Errorf("the request was accepted at %s and at %s", link.AcceptedAt, links[0].AcceptedAt)
		}
	}
	h.expectTasks("A-1:1:1:1")
	h.expectCounters(0, "queued 1")
}

func TestClient_ReturnsTheErrorOfAnEndedContext(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Client.Enqueue(ctx, tasks.Request{ApplicationID: "A-1"}); !errors.Is(err, context.Canceled) || tasks.ReasonOf(err) != "" {
		t.Errorf("enqueue with a cancelled context: got %v, want context.Canceled without a reason", err)
	}
	if err := h.Client.EnqueueAll(ctx, tasks.Batch{Name: "spring"}, rows(1), ignore); !errors.Is(err, context.Canceled) {
		t.Errorf("import with a cancelled context: got %v, want context.Canceled", err)
	}
	h.enqueue(tasks.Request{ApplicationID: "A-1"})
	h.expectTasks("A-1:1:1:1")
}

func TestEnqueue_AcceptsIDsWithBraces(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for _, id := range []string{"{A}", "}{", "{kyclink:other}"} {
		h.enqueue(tasks.Request{ApplicationID: id})
		if got, err := h.Client.Get(t.Context(), id); err != nil || got.ApplicationID != id {
			t.Errorf("get %s: got %+v, %v", id, got, err)
		}
	}
	h.expectTasks("{A}:1:1:1 }{:1:1:1 {kyclink:other}:1:1:1")
}

// A cluster, even of one node, refuses a script that uses keys of different slots.
func TestClient_UsesOneSlotOfACluster(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.Redis = redistest.Start(t, "--cluster-enabled", "yes").Client(t)
	h.Must(h.Redis.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	h.Eventually("the cluster serves requests", func() bool {
		return strings.Contains(h.Redis.ClusterInfo(t.Context()).Val(), "cluster_state:ok")
	})
	h.Client = tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account})
	ids := []string{"A-1", "{A}", "}{", "{}", "{kyclink:other}"}
	for _, id := range ids {
		h.importRows("spring", rowsOf([]tasks.Row{newRow(1, id, nil)}))
		h.enqueue(tasks.Request{ApplicationID: id, NotAfter: time.Time{}})
		h.setState(id, request.Created)
		if link := h.enqueue(tasks.Request{ApplicationID: id, Generation: 2, NotAfter: time.Now().Add(time.Hour)}); link.Generation != 2 {
			t.Errorf("the second generation of %s: got %+v", id, link)
		}
		if link := h.enqueue(tasks.Request{ApplicationID: id, Generation: 1}); link.Status != tasks.Created {
			t.Errorf("the first generation of %s: got %+v, want it created", id, link)
		}
	}
}
