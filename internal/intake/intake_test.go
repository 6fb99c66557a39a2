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

// harness is an account whose request stream an intake reads.
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

// start runs an intake until the test ends, or until stop is called. Stop waits for it.
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

// streamEmpty reports whether every entry was accepted or rejected.
func (h *harness) streamEmpty() bool {
	n, err := h.Redis.XLen(h.Context(), h.Keys.Requests()).Result()
	h.Must(err)
	return n == 0
}

// status returns the lane and status of a request, or "unknown".
func (h *harness) status(id string) string {
	link, err := h.Client.Get(h.Context(), id)
	if errors.Is(err, tasks.ErrNotFound) {
		return "unknown"
	}
	h.Must(err)
	return string(link.Lane) + " " + string(link.Status)
}

func (h *harness) expectStatus(id, want string) {
	h.Helper()
	if got := h.status(id); got != want {
		h.Errorf("status of %s: got %s, want %s", id, got, want)
	}
}

// rejects returns the fields of each reject, by the id of its entry.
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

func TestIntake_AcceptsValidEntriesAndRejectsOthers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.add("application_id", "A-1", "redirect_url", "https://shop.example/done", "metadata", `{"customer":"42"}`)
	h.add("request", `{"application_id":"A-2","lane":"bulk","expiry_minutes":60}`)
	h.add("application_id", "A-1") // a repeat changes nothing
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
	h.Eventually("the stream is empty", h.streamEmpty)
	h.expectStatus("A-1", "interactive queued")
	h.expectStatus("A-2", "bulk waiting")
	for n := 3; n <= 8; n++ {
		h.expectStatus(fmt.Sprint("A-", n), "unknown")
	}
	got := h.rejects()
	if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
		t.Errorf("got rejects %v, want %v", got, want)
	}
	for id, w := range want {
		g := got[id]
		if g["reason"] != w.reason || !strings.Contains(fmt.Sprint(g["message"]), w.message) || g["original"] != w.original || len(g) != 4 {
			t.Errorf("entry %s: got reject %q, want %+v", id, g, w)
		}
		if !json.Valid([]byte(fmt.Sprint(g["original"]))) {
			t.Errorf("entry %s: original is not valid JSON: %s", id, g["original"])
		}
	}

	// Earlier rejects do not delay a later entry.
	h.add("application_id", "A-9")
	h.Eventually("A-9 is queued", func() bool { return h.status("A-9") == "interactive queued" })
	h.Eventually("the stream is empty again", h.streamEmpty)
	stop()
	if pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 0 {
		t.Errorf("got pending entries %+v, %v; want none", pending, err)
	}
	for _, entry := range h.logs.All() {
		if text := fmt.Sprint(entry.Message, entry.ContextMap()); strings.Contains(text, "shop.example") || strings.Contains(text, "other.example") {
			t.Errorf("a log line contains values of an entry: %s", text)
		}
	}
}

// An intake also recreates its consumer group, which Redis may have lost.
func TestIntake_ClaimsEntriesOfDeadWorkers(t *testing.T) {
	t.Parallel()
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
		t.Fatalf("the dead worker read %v, want 4 entries", read)
	}
	h.Must(h.Redis.XDel(t.Context(), h.Keys.Requests(), gone).Err())
	h.start(h.Client, 30*time.Millisecond)
	h.Eventually("the stream is empty", h.streamEmpty)
	for n := range 3 {
		h.expectStatus(fmt.Sprint("A-", n), "interactive queued")
	}
	h.expectStatus("A-gone", "unknown")
	h.Eventually("nothing is pending", func() bool {
		pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result()
		return err == nil && pending.Count == 0
	})

	h.Must(h.Redis.XGroupDestroy(t.Context(), h.Keys.Requests(), "kyclink").Err())
	h.add("application_id", "A-later")
	h.Eventually("A-later is queued", func() bool { return h.status("A-later") == "interactive queued" })
}

// late is a producer that withholds its answers until release is closed.
type late struct {
	intake.Producer
	called, release chan struct{}
}

func (l late) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	answers, err := l.Producer.EnqueueEach(ctx, reqs)
	close(l.called)
	<-l.release
	return answers, err
}

// A worker that is only slow is taken for dead, and another one claims its entries.
func TestIntake_HandlesEntriesOnceWhenTwoWorkersHaveThem(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	h.add("application_id", "A-1")
	h.add("application_id", "A-2", "generation", "2")
	slow := late{h.Client, make(chan struct{}), make(chan struct{})}
	stop := h.start(slow, time.Hour)
	<-slow.called
	h.start(h.Client, time.Nanosecond)
	h.Eventually("the other worker has handled both entries", h.streamEmpty)
	close(slow.release)
	stop()
	if n, err := h.Redis.XLen(t.Context(), h.Keys.Rejects()).Result(); err != nil || n != 1 {
		t.Errorf("got %d rejects, %v; want 1", n, err)
	}
	h.expectStatus("A-1", "interactive queued")
}

// The bulk entries are first in the stream, and do not delay the interactive ones.
func TestIntake_LeavesEntriesInTheStreamWhileTheirLaneIsFull(t *testing.T) {
	t.Parallel()
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
	h.Eventually("the log says that the backlog is full", func() bool { return h.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	h.expectStatus("A-2", "unknown")
	h.expectStatus("B-2", "unknown")
	stop()
	if n, err := h.Redis.XLen(t.Context(), h.Keys.Requests()).Result(); err != nil || n != 5 || len(h.rejects()) != 0 {
		t.Errorf("%d entries are left, %v, and %v were rejected; want 5 and none", n, err, h.rejects())
	}

	// The intake released its entries when it stopped: another worker need not wait to claim them.
	h.start(h.Client, time.Hour)
	h.Eventually("the stream is empty", h.streamEmpty)
	h.expectStatus("A-4", "interactive queued")
	h.expectStatus("B-3", "bulk waiting")
}

// counting is a producer that counts its calls.
type counting struct {
	intake.Producer
	calls *atomic.Int64
}

func (c counting) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	c.calls.Add(1)
	return c.Producer.EnqueueEach(ctx, reqs)
}

func TestIntake_ReadsNothingWhileInteractiveEntriesWaitForRoom(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	limited := counting{tasks.NewClient(h.Redis, tasks.Config{Account: h.Keys.Account, MaxBacklog: 1}), new(atomic.Int64)}
	h.add("application_id", "A-0")
	h.add("application_id", "A-1")
	h.start(limited, time.Hour)
	h.Eventually("the log says that the backlog is full", func() bool { return h.logs.FilterMessageSnippet("KYCLINK_MAX_BACKLOG").Len() > 0 })
	h.add("application_id", "A-2")
	before := limited.calls.Load()
	h.Eventually("it has tried again several times", func() bool { return limited.calls.Load() > before+3 })
	if pending, err := h.Redis.XPending(t.Context(), h.Keys.Requests(), "kyclink").Result(); err != nil || pending.Count != 1 {
		t.Errorf("got pending entries %+v, %v; want 1", pending, err)
	}
}

// flaky is a producer that fails whenever the requests include the one with this id.
type flaky struct {
	intake.Producer
	id string
}

func (f flaky) EnqueueEach(ctx context.Context, reqs []tasks.Request) ([]tasks.Answer, error) {
	if slices.ContainsFunc(reqs, func(r tasks.Request) bool { return r.ApplicationID == f.id }) {
		return nil, errors.New("an invented error")
	}
	return f.Producer.EnqueueEach(ctx, reqs)
}

func TestIntake_RetriesAFailedEntryWithoutDelayingOthers(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	for n := range 250 {
		h.add("application_id", fmt.Sprint("A-", n))
	}
	stop := h.start(flaky{h.Client, "A-130"}, 0)
	h.Eventually("the last entry is queued", func() bool { return h.status("A-249") == "interactive queued" })
	stop()
	for n := range 250 {
		if n != 130 {
			h.expectStatus(fmt.Sprint("A-", n), "interactive queued")
		}
	}
	h.expectStatus("A-130", "unknown")
	h.start(h.Client, 20*time.Millisecond)
	h.Eventually("A-130 is queued", func() bool { return h.status("A-130") == "interactive queued" })
}
