package diagnosis_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// snapshot reads the account as a process does that is no worker.
func snapshot(h *ledgertest.Harness) diagnosis.Snapshot {
	h.Helper()
	s, err := diagnosis.NewReader(h.Redis, storage.Of(h.Redis, h.Keys.Account)).Snapshot(h.Context())
	h.Must(err)
	return s
}

// expect compares the code of the account.
func expect(h *ledgertest.Harness, want diagnosis.Code) diagnosis.Diagnosis {
	h.Helper()
	d := diagnosis.Account(snapshot(h))
	if d.Code != want {
		h.Errorf("got %s: %s, want %s", d.Code, d.Text, want)
	}
	return d
}

func TestSnapshot_OfAnEmptyRedisIsIdle(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Must(h.Redis.Del(t.Context(), h.Keys.State(), h.Keys.Workers()).Err())
	expect(h, diagnosis.NothingToDo)
}

func TestSnapshot_CountsLanesAndWorkers(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Import("spring", ledgertest.Rows(1, 30))
	h.FeedUpTo(h.Stores, 10)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	s := snapshot(h)
	if s.Workers != 1 || s.Bulk.Backlog() != 30 || s.Interactive.Due != 1 || s.Bulk.Queued == 0 || s.Bulk.Due != s.Bulk.Queued || s.Bulk.Oldest.IsZero() || s.LastHeartbeat.IsZero() {
		t.Errorf("got %+v", s)
	}
	h.Must(h.Redis.Del(t.Context(), h.Keys.Workers()).Err())
	expect(h, diagnosis.NoWorker)
}

func TestSnapshot_FindsPausedBatches(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Import("spring", ledgertest.Rows(1, 5))
	h.Control("spring", batch.Pause)
	expect(h, diagnosis.BatchPaused)
	h.Control("spring", batch.Resume)
	if s := snapshot(h); s.Paused.Batches != 0 {
		t.Errorf("a resumed batch is paused: %+v", s.Paused)
	}
	h.CancelBatch("spring")
	if s := snapshot(h); s.Paused.Batches != 0 {
		t.Errorf("a cancelled batch is paused: %+v", s.Paused)
	}
}

// The account names a paused batch until somebody resumes it.
func TestSnapshot_OmitsPausedBatchesThatHaveEnded(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Import("spring", ledgertest.Rows(1, 2))
	h.FinishAll()
	h.Control("spring", batch.Pause)
	h.Import("summer", ledgertest.Rows(3, 5))
	h.Control("summer", batch.Pause)
	if s := snapshot(h); s.Paused.Batches != 1 || len(s.Paused.First) != 1 || s.Paused.First[0].Batch != "summer" {
		t.Errorf("got %+v, want only the batch with open requests", s.Paused)
	}
}

// trips counts round trips.
type trips struct{ n *atomic.Int64 }

func (trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (t trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		t.n.Add(1)
		return next(ctx, cmd)
	}
}

func (t trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		t.n.Add(1)
		return next(ctx, cmds)
	}
}

// A live page reads a snapshot each second.
func TestSnapshot_CostsTheSameHoweverManyBatchesArePaused(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	rdb := redis.NewClient(h.Redis.Options())
	t.Cleanup(func() { _ = rdb.Close() })
	reader, n := diagnosis.NewReader(rdb, storage.Of(rdb, h.Keys.Account)), &atomic.Int64{}
	cost := func() int64 {
		n.Store(0)
		_, err := reader.Snapshot(t.Context())
		h.Must(err)
		return n.Load()
	}
	pause := func(first, last int) {
		for i := first; i <= last; i++ {
			name := fmt.Sprintf("batch-%d", i)
			h.Import(name, []tasks.Request{{ApplicationID: name}})
			h.Control(name, batch.Pause)
		}
	}
	pause(1, 1)
	cost() // loads the scripts
	rdb.AddHook(trips{n})
	one := cost()
	pause(2, 30)
	if many := cost(); one == 0 || many != one {
		t.Errorf("a snapshot takes %d round trips with 30 paused batches, and %d with one", many, one)
	}
	s := snapshot(h)
	if s.Paused.Batches != 30 || len(s.Paused.First) == 0 || s.Paused.First[0].Batch != "batch-1" || s.Paused.First[0].OpenOwn() != 1 {
		t.Errorf("got %+v", s.Paused)
	}
}

func TestSnapshot_FindsHeldRequests(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Do("A-1", ledgertest.Paths()["held"]...)
	expect(h, diagnosis.Held)
}

func TestSnapshot_FindsDeliveriesThatAreRetried(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	e := h.EndWithCallback("A-1", "https://shop.example/hook")
	store := h.Stores.Deliveries
	open, err := store.Open(t.Context(), []tasks.Event{e})
	h.Must(err)
	if s := snapshot(h); s.Deliveries.Pending != 1 || s.Deliveries.Retrying != 0 {
		t.Errorf("before the first attempt: got %+v", s.Deliveries)
	}
	d, ok, err := store.Begin(t.Context(), open[0])
	h.Must(err)
	if !ok {
		t.Fatal("the delivery cannot begin")
	}
	_, err = store.End(t.Context(), d, delivery.Reply{At: time.Now(), Code: 503, Reason: "receiver_error", Message: "HTTP 503"}, time.Minute)
	h.Must(err)
	got := expect(h, diagnosis.CallbacksRetrying)
	if s := snapshot(h); s.Deliveries.Host != "shop.example" || s.Deliveries.NextAt.IsZero() || got.ClearsAt.IsZero() {
		t.Errorf("got %+v", s.Deliveries)
	}
}

// A full Redis refuses much; the diagnosis must not be among it.
func TestSnapshot_CanBeReadFromAFullRedis(t *testing.T) {
	t.Parallel()
	h := ledgertest.NewOn(t, redistest.Start(t))
	h.Import("spring", ledgertest.Rows(1, 5))
	h.Must(h.Redis.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	expect(h, diagnosis.RedisFull)
}

func TestSnapshot_CanBeReadWithoutPermissionForInfo(t *testing.T) {
	t.Parallel()
	h := ledgertest.NewOn(t, redistest.Start(t))
	h.Must(h.Redis.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err())
	h.Must(h.Redis.Del(t.Context(), h.Keys.Workers()).Err())
	h.Import("spring", ledgertest.Rows(1, 5))
	expect(h, diagnosis.NoWorker)
}

func TestRequest_SaysWhenItIsRetried(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	h.Do("A-1", "accept", "feed", "admit", "retry")
	h.Must(h.Redis.ZAdd(t.Context(), h.Keys.Queued(request.Bulk), redis.Z{Score: float64(time.Now().Add(time.Hour).UnixMilli()), Member: "A-1"}).Err())
	expect(h, diagnosis.RetryScheduled)
	link, err := h.Client.Get(t.Context(), "A-1")
	h.Must(err)
	s := snapshot(h)
	state, err := diagnosis.NewReader(h.Redis, h.Stores).Request(t.Context(), s, link)
	h.Must(err)
	if d := diagnosis.Request(s, state); d.Code != diagnosis.RetryScheduled || d.ClearsAt.IsZero() {
		t.Errorf("got %+v for %+v", d, state)
	}
}

// A request without a readable record must not hide that the others are not called.
func TestSnapshot_ReadsTheOldestRequestBehindUnreadableOnes(t *testing.T) {
	t.Parallel()
	h := ledgertest.New(t)
	_, err := h.Client.Enqueue(t.Context(), tasks.Request{ApplicationID: "A-1"})
	h.Must(err)
	queue := h.Keys.Queued(request.Interactive)
	h.Must(h.Redis.ZAdd(t.Context(), queue, redis.Z{Score: 1, Member: "missing"}, redis.Z{Score: 2, Member: "damaged"}).Err())
	h.Must(h.Redis.Set(t.Context(), h.Keys.Record("damaged"), "damaged", 0).Err())
	if s := snapshot(h); s.Interactive.Due != 3 || s.Interactive.Oldest.IsZero() {
		t.Errorf("got %+v, want 3 requests that are due, and the time of A-1", s.Interactive)
	}
}
