package intake_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/intake"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is one account's stream.
type harness struct {
	*fixture.Account

	logs *observer.ObservedLogs
	log  *zap.Logger
}

func newHarness(t testing.TB) *harness {
	h := &harness{Account: fixture.NewAccount(t)}
	core, logs := observer.New(zapcore.DebugLevel)
	h.log, h.logs = zap.New(core), logs
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(logs.All())
		}
	})
	return h
}

func (h *harness) add(fields ...any) string {
	h.Helper()
	id, err := h.Redis.XAdd(h.Context(), &redis.XAddArgs{Stream: h.Keys.Requests(), Values: fields}).Result()
	h.Must(err)
	return id
}

// start runs an intake until stop is called, which waits for its end.
func (h *harness) start(producer intake.Producer, claimAfter time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	in := intake.New(h.Redis, producer, intake.Config{Account: h.Keys.Account, ClaimAfter: claimAfter, Log: h.log, Limited: h.log})
	running.Go(func() { in.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	h.Cleanup(stop)
	return stop
}

// settled says that nothing is left in the stream.
func (h *harness) settled() bool {
	n, err := h.Redis.XLen(h.Context(), h.Keys.Requests()).Result()
	h.Must(err)
	return n == 0
}

func (h *harness) status(id string) string {
	link, err := h.Client.Get(h.Context(), id)
	if errors.Is(err, tasks.ErrNotFound) {
		return "unknown"
	}
	h.Must(err)
	return string(link.Lane) + " " + string(link.Status)
}

func (h *harness) expect(id, want string) {
	h.Helper()
	if got := h.status(id); got != want {
		h.Errorf("%s is %s, want %s", id, got, want)
	}
}

// rejects are the fields of each reject by its entry.
func (h *harness) rejects() map[string]map[string]any {
	h.Helper()
	entries, err := h.Redis.XRange(h.Context(), h.Keys.Rejects(), "-", "+").Result()
	h.Must(err)
	all := map[string]map[string]any{}
	for _, e := range entries {
		id := fmt.Sprint(e.Values["entry"])
		if all[id] != nil {
			h.Errorf("entry %s was rejected twice", id)
		}
		all[id] = e.Values
	}
	return all
}

func TestEntries(t *testing.T) {
	h := newHarness(t)
	h.add("application_id", "A-1", "redirect_url", "https://shop.example/done", "metadata", `{"customer":"42"}`)
	h.add("request", `{"application_id":"A-2","lane":"bulk","expiry_minutes":60}`)
	h.add("application_id", "A-1") // again: no difference
	type bad struct{ reason, message, original string }
	want := map[string]bad{}
	reject := func(reason, message, original string, fields ...any) {
		want[h.add(fields...)] = bad{reason, message, original}
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

	stop := h.start(h.Client, 0)
	h.Eventually("everything is settled", h.settled)
	h.expect("A-1", "interactive queued")
	h.expect("A-2", "bulk waiting")
	for n := 3; n <= 8; n++ {
		h.expect(fmt.Sprint("A-", n), "unknown")
	}
	got := h.rejects()
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
	h.add("application_id", "A-9")
	h.Eventually("A-9 is queued", func() bool { return h.status("A-9") == "interactive queued" })
	h.Eventually("it is settled", h.settled)
	stop()
	if pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 0 {
		t.Errorf("pending are %+v, %v", pending, err)
	}
	for _, entry := range h.logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "shop.example") || strings.Contains(text, "other.example") {
			t.Errorf("a log says what an entry holds: %s", text)
		}
	}
}

// Whom a dead worker was given goes to another one, and so does what is lost with
// the group, as Redis came back without it.
func TestWhatTheDeadLeftIsClaimed(t *testing.T) {
	h := newHarness(t)
	h.Must(h.Redis.XGroupCreateMkStream(t.Context(), h.Keys.Requests(), "kyclink", "0").Err())
	for n := range 3 {
		h.add("application_id", fmt.Sprint("A-", n))
	}
	gone := h.add("application_id", "A-gone")
	read, err := h.Redis.XReadGroup(t.Context(), &redis.XReadGroupArgs{
		Group: "kyclink", Consumer: "worker", Streams: []string{h.Keys.Requests(), ">"}, Block: -1,
	}).Result()
	if h.Must(err); len(read[0].Messages) != 4 {
		t.Fatalf("the dead was given %v", read)
	}
	h.Must(h.Redis.XDel(t.Context(), h.Keys.Requests(), gone).Err())
	h.start(h.Client, 30*time.Millisecond)
	h.Eventually("all are settled", h.settled)
	for n := range 3 {
		h.expect(fmt.Sprint("A-", n), "interactive queued")
	}
	h.expect("A-gone", "unknown")
	h.Eventually("nothing is pending", func() bool {
		pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result()
		return err == nil && pending.Count == 0
	})

	h.Must(h.Redis.XGroupDestroy(t.Context(), h.Keys.Requests(), "kyclink").Err())
	h.add("application_id", "A-later")
	h.Eventually("A-later is queued", func() bool { return h.status("A-later") == "interactive queued" })
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
	h := newHarness(t)
	h.add("application_id", "A-1")
	h.add("application_id", "A-2", "generation", "2")
	slow := late{h.Client, make(chan struct{}), make(chan struct{})}
	stop := h.start(slow, time.Hour)
	<-slow.asked
	h.start(h.Client, time.Nanosecond)
	h.Eventually("the other one settled both", h.settled)
	close(slow.let)
	stop()
	if n, err := h.Redis.XLen(t.Context(), h.Keys.Rejects()).Result(); err != nil || n != 1 {
		t.Errorf("%d were rejected, %v", n, err)
	}
	h.expect("A-1", "interactive queued")
}

// While a lane is full its entries wait in the stream; bulk ones do not keep
// interactive ones behind them.
func TestIntakeWaitsForRoom(t *testing.T) {
	h := newHarness(t)
	limited := tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 2})
	for n := range 4 {
		h.add("application_id", fmt.Sprint("B-", n), "lane", "bulk")
	}
	for n := range 5 {
		h.add("application_id", fmt.Sprint("A-", n))
	}
	stop := h.start(limited, time.Hour)
	h.Eventually("two of each lane are accepted", func() bool {
		return h.status("A-1") == "interactive queued" && h.status("B-1") == "bulk waiting"
	})
	h.Eventually("it said that it waits", func() bool { return h.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	h.expect("A-2", "unknown")
	h.expect("B-2", "unknown")
	stop()
	if n, err := h.Redis.XLen(t.Context(), h.Keys.Requests()).Result(); err != nil || n != 5 || len(h.rejects()) != 0 {
		t.Errorf("%d are left, %v; rejected are %v", n, err, h.rejects())
	}

	// Another worker takes at once what this one gave back, when there is room.
	h.start(h.Client, time.Hour)
	h.Eventually("all are settled", h.settled)
	h.expect("A-4", "interactive queued")
	h.expect("B-3", "bulk waiting")
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
	h := newHarness(t)
	limited := counting{tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 1}), new(atomic.Int64)}
	h.add("application_id", "A-0")
	h.add("application_id", "A-1")
	h.start(limited, time.Hour)
	h.Eventually("it waits", func() bool { return h.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	h.add("application_id", "A-2")
	before := limited.asked.Load()
	h.Eventually("it looked for room several times", func() bool { return limited.asked.Load() > before+3 })
	if pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 1 {
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
	h := newHarness(t)
	for n := range 250 {
		h.add("application_id", fmt.Sprint("A-", n))
	}
	stop := h.start(flaky{h.Client, "A-130"}, 0)
	h.Eventually("all others are queued", func() bool { return h.status("A-249") == "interactive queued" })
	stop()
	for n := range 250 {
		if n != 130 {
			h.expect(fmt.Sprint("A-", n), "interactive queued")
		}
	}
	h.expect("A-130", "unknown")
	h.start(h.Client, 20*time.Millisecond)
	h.Eventually("it is queued as well", func() bool { return h.status("A-130") == "interactive queued" })
}
