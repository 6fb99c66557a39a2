package intake_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/intake"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/tasks"
)

var server *redistest.Server

func TestMain(m *testing.M) { os.Exit(redistest.Main(m, &server)) }

// bench is one account's stream.
type bench struct {
	testing.TB
	rdb     *redis.Client
	account string
	keys    keyspace.Keys
	client  *tasks.Client
	logs    *observer.ObservedLogs
	log     *zap.Logger
}

func newBench(t testing.TB) *bench {
	b := &bench{TB: t, rdb: server.Client(t), account: redistest.Account()}
	b.keys = keyspace.Keys{Account: b.account}
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: b.account})
	core, logs := observer.New(zapcore.DebugLevel)
	b.log, b.logs = zap.New(core), logs
	return b
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) add(fields ...any) string {
	b.Helper()
	id, err := b.rdb.XAdd(b.Context(), &redis.XAddArgs{Stream: b.keys.Requests(), Values: fields}).Result()
	b.must(err)
	return id
}

// start runs an intake until stop is called, which waits for its end.
func (b *bench) start(producer intake.Producer, claimAfter time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	in := intake.New(b.rdb, producer, intake.Config{Account: b.account, ClaimAfter: claimAfter, Log: b.log, Limited: b.log})
	running.Go(func() { in.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	b.Cleanup(stop)
	return stop
}

func (b *bench) eventually(what string, holds func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			b.Fatalf("never came true: %s; logs: %v", what, b.logs.All())
		}
		<-time.After(2 * time.Millisecond)
	}
}

// settled says that nothing is left in the stream.
func (b *bench) settled() bool {
	n, err := b.rdb.XLen(b.Context(), b.keys.Requests()).Result()
	b.must(err)
	return n == 0
}

func (b *bench) status(id string) string {
	link, err := b.client.Get(b.Context(), id)
	if errors.Is(err, tasks.ErrNotFound) {
		return "unknown"
	}
	b.must(err)
	return string(link.Lane) + " " + string(link.Status)
}

func (b *bench) expect(id, want string) {
	b.Helper()
	if got := b.status(id); got != want {
		b.Errorf("%s is %s, want %s", id, got, want)
	}
}

// rejects are the fields of each reject by its entry.
func (b *bench) rejects() map[string]map[string]any {
	b.Helper()
	entries, err := b.rdb.XRange(b.Context(), b.keys.Rejects(), "-", "+").Result()
	b.must(err)
	all := map[string]map[string]any{}
	for _, e := range entries {
		id := fmt.Sprint(e.Values["entry"])
		if all[id] != nil {
			b.Errorf("entry %s was rejected twice", id)
		}
		all[id] = e.Values
	}
	return all
}

func TestEntries(t *testing.T) {
	b := newBench(t)
	b.add("application_id", "A-1", "redirect_url", "https://shop.example/done", "metadata", `{"customer":"42"}`)
	b.add("request", `{"application_id":"A-2","lane":"bulk","expiry_minutes":60}`)
	b.add("application_id", "A-1") // again: no difference
	type bad struct{ reason, message, original string }
	want := map[string]bad{}
	reject := func(reason, message, original string, fields ...any) {
		want[b.add(fields...)] = bad{reason, message, original}
	}
	reject("conflict", "redirect_url", `{"application_id":"A-1","redirect_url":"https://other.example"}`, "application_id", "A-1", "redirect_url", "https://other.example")
	reject("generation_gap", "first generation is 1", `{"application_id":"A-3","generation":"2"}`, "application_id", "A-3", "generation", "2")
	reject("invalid", "application_id: is given twice", `{"application_id":"A-4","application_id":"A-5"}`, "application_id", "A-4", "application_id", "A-5")
	reject("invalid", "redirect_uri: unknown key", `{"application_id":"A-6","redirect_uri":"x"}`, "application_id", "A-6", "redirect_uri", "x")
	reject("invalid", "redirect_url: is empty", `{"application_id":"A-7","redirect_url":""}`, "application_id", "A-7", "redirect_url", "")
	reject("invalid", "request: is not a JSON object", `{"request":"nonsense \u003c"}`, "request", "nonsense <")
	reject("invalid", "request: must be the only field", `{"request":"{}","application_id":"A-8"}`, "request", "{}", "application_id", "A-8")
	reject("invalid", "is not valid UTF-8", `{"application_id":"A\ufffd"}`, "application_id", "A\xff")
	reject("invalid", "unknown key", `{"a":"1"}`, "a", "1")

	stop := b.start(b.client, 0)
	b.eventually("everything is settled", b.settled)
	b.expect("A-1", "interactive queued")
	b.expect("A-2", "bulk waiting")
	for n := 3; n <= 8; n++ {
		b.expect(fmt.Sprint("A-", n), "unknown")
	}
	got := b.rejects()
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("rejected are %v", got)
	}
	for id, w := range want {
		g := got[id]
		if g["reason"] != w.reason || !strings.Contains(fmt.Sprint(g["message"]), w.message) || g["original"] != w.original || len(g) != 4 {
			t.Errorf("entry %s was rejected as %q, want %+v", id, g, w)
		}
		if !json.Valid([]byte(fmt.Sprint(g["original"]))) {
			t.Errorf("original is no JSON: %s", g["original"])
		}
	}

	// One that comes later is taken at once, whatever came before.
	b.add("application_id", "A-9")
	b.eventually("A-9 is queued", func() bool { return b.status("A-9") == "interactive queued" })
	b.eventually("it is settled", b.settled)
	stop()
	if pending, err := b.rdb.XPending(t.Context(), b.keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 0 {
		t.Errorf("pending are %+v, %v", pending, err)
	}
	for _, entry := range b.logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "shop.example") || strings.Contains(text, "other.example") {
			t.Errorf("a log says what an entry holds: %s", text)
		}
	}
}

// Whom a dead worker was given goes to another one, and so does what is lost with
// the group, as Redis came back without it.
func TestWhatTheDeadLeftIsClaimed(t *testing.T) {
	b := newBench(t)
	b.must(b.rdb.XGroupCreateMkStream(t.Context(), b.keys.Requests(), "kyclink", "0").Err())
	for n := range 3 {
		b.add("application_id", fmt.Sprint("A-", n))
	}
	gone := b.add("application_id", "A-gone")
	read, err := b.rdb.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "kyclink", Consumer: "worker", Streams: []string{b.keys.Requests(), ">"}, Block: -1,
	}).Result()
	if b.must(err); len(read[0].Messages) != 4 {
		t.Fatalf("the dead was given %v", read)
	}
	b.must(b.rdb.XDel(t.Context(), b.keys.Requests(), gone).Err())
	b.start(b.client, 30*time.Millisecond)
	b.eventually("all are settled", b.settled)
	for n := range 3 {
		b.expect(fmt.Sprint("A-", n), "interactive queued")
	}
	b.expect("A-gone", "unknown")
	b.eventually("nothing is pending", func() bool {
		pending, err := b.rdb.XPending(t.Context(), b.keys.Requests(), "kyclink").Result()
		return err == nil && pending.Count == 0
	})

	b.must(b.rdb.XGroupDestroy(t.Context(), b.keys.Requests(), "kyclink").Err())
	b.add("application_id", "A-later")
	b.eventually("A-later is queued", func() bool { return b.status("A-later") == "interactive queued" })
}

// late gives its answers when it is let.
type late struct {
	intake.Producer
	asked, let chan struct{}
}

func (l late) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	answers, err := l.Producer.EnqueueEach(ctx, reqs)
	close(l.asked)
	<-l.let
	return answers, err
}

// A worker that was thought dead, and goes on: what another one rejected meanwhile
// is not rejected again, nor is what it accepted.
func TestWhatTwoHaveIsSettledOnce(t *testing.T) {
	b := newBench(t)
	b.add("application_id", "A-1")
	b.add("application_id", "A-2", "generation", "2")
	slow := late{b.client, make(chan struct{}), make(chan struct{})}
	stop := b.start(slow, time.Hour)
	<-slow.asked
	b.start(b.client, time.Nanosecond)
	b.eventually("the other one settled both", b.settled)
	close(slow.let)
	stop()
	if n, err := b.rdb.XLen(t.Context(), b.keys.Rejects()).Result(); err != nil || n != 1 {
		t.Errorf("%d were rejected, %v", n, err)
	}
	b.expect("A-1", "interactive queued")
}

// While a lane is full its entries wait in the stream; bulk ones do not keep
// interactive ones behind them.
func TestIntakeWaitsForRoom(t *testing.T) {
	b := newBench(t)
	limited := tasks.NewClient(b.rdb, tasks.Config{Account: b.account, MaxBacklog: 2})
	for n := range 4 {
		b.add("application_id", fmt.Sprint("B-", n), "lane", "bulk")
	}
	for n := range 5 {
		b.add("application_id", fmt.Sprint("A-", n))
	}
	stop := b.start(limited, time.Hour)
	b.eventually("two of each lane are accepted", func() bool {
		return b.status("A-1") == "interactive queued" && b.status("B-1") == "bulk waiting"
	})
	b.eventually("it said that it waits", func() bool { return b.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	b.expect("A-2", "unknown")
	b.expect("B-2", "unknown")
	stop()
	if n, err := b.rdb.XLen(t.Context(), b.keys.Requests()).Result(); err != nil || n != 5 || len(b.rejects()) != 0 {
		t.Errorf("%d are left, %v; rejected are %v", n, err, b.rejects())
	}

	// Another worker takes at once what this one gave back, when there is room.
	b.start(b.client, time.Hour)
	b.eventually("all are settled", b.settled)
	b.expect("A-4", "interactive queued")
	b.expect("B-3", "bulk waiting")
}

// counting counts how often it was asked.
type counting struct {
	intake.Producer
	asked *atomic.Int64
}

func (c counting) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	c.asked.Add(1)
	return c.Producer.EnqueueEach(ctx, reqs)
}

// What comes while an interactive entry waits for room is not read by that worker.
func TestNothingIsReadWhileSignupsWait(t *testing.T) {
	b := newBench(t)
	limited := counting{tasks.NewClient(b.rdb, tasks.Config{Account: b.account, MaxBacklog: 1}), new(atomic.Int64)}
	b.add("application_id", "A-0")
	b.add("application_id", "A-1")
	b.start(limited, time.Hour)
	b.eventually("it waits", func() bool { return b.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	b.add("application_id", "A-2")
	before := limited.asked.Load()
	b.eventually("it looked for room several times", func() bool { return limited.asked.Load() > before+3 })
	if pending, err := b.rdb.XPending(t.Context(), b.keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 1 {
		t.Errorf("%+v was read, %v", pending, err)
	}
}

// flaky fails whenever a request is among those that it is given.
type flaky struct {
	intake.Producer
	about string
}

func (f flaky) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	if slices.ContainsFunc(reqs, func(r tasks.Request) bool { return r.ApplicationID == f.about }) {
		return nil, errors.New("an invented error")
	}
	return f.Producer.EnqueueEach(ctx, reqs)
}

// One that can be neither accepted nor refused keeps none of the others, and comes
// again.
func TestOneThatFailsKeepsNoOther(t *testing.T) {
	b := newBench(t)
	for n := range 250 {
		b.add("application_id", fmt.Sprint("A-", n))
	}
	stop := b.start(flaky{b.client, "A-130"}, 0)
	b.eventually("all others are queued", func() bool { return b.status("A-249") == "interactive queued" })
	stop()
	for n := range 250 {
		if n != 130 {
			b.expect(fmt.Sprint("A-", n), "interactive queued")
		}
	}
	b.expect("A-130", "unknown")
	b.start(b.client, 20*time.Millisecond)
	b.eventually("it is queued as well", func() bool { return b.status("A-130") == "interactive queued" })
}
