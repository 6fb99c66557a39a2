package worker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/feeder"
	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// feeding is a feeder without lanes.
type feeding struct {
	*feeder.Feeder
	number string // of its process
	cancel context.CancelFunc
	over   chan struct{}
}

func (h *harness) feeds(change func(*feeder.Config)) *feeding {
	h.Helper()
	k := h.book()
	before := h.workers()
	h.Must(k.Join(h.Context()))
	joined := slices.DeleteFunc(h.workers(), func(number string) bool { return slices.Contains(before, number) })
	if len(joined) != 1 {
		h.Fatalf("%d processes joined, want 1", len(joined))
	}
	queue := asynq.NewClientFromRedisClient(h.Redis)
	cfg := feeder.Config{
		Source: k, MinQueued: 200, RateRead: func(float64) {}, Lease: 6 * time.Second, Log: zap.NewNop(), Limited: zap.NewNop(),
		Enqueue: func(ctx context.Context, lane request.Lane, turn request.Ref) error {
			return linktask.Enqueue(ctx, queue, h.Keys.Account, lane, turn)
		},
		EnqueueBundle: func(ctx context.Context, turns []request.Ref) error { // so that the tests can count tasks
			for _, turn := range turns {
				if err := linktask.Enqueue(ctx, queue, h.Keys.Account, request.Bulk, turn); err != nil {
					return err
				}
			}
			return nil
		},
	}
	if change != nil {
		change(&cfg)
	}
	f := feeder.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	g := &feeding{f, joined[0], cancel, make(chan struct{})}
	go func() {
		defer close(g.over)
		f.Run(ctx)
	}()
	h.Cleanup(g.stop)
	return g
}

func (g *feeding) stop() {
	g.cancel()
	<-g.over
}

// workers are the numbers of the processes that joined.
func (h *harness) workers() []string {
	h.Helper()
	numbers, err := h.Redis.ZRange(h.Context(), h.Keys.Workers(), 0, -1).Result()
	h.Must(err)
	return numbers
}

func (h *harness) pending(lane request.Lane) int {
	info, err := h.queue.GetQueueInfo(h.Keys.Queue(lane))
	if err != nil {
		return 0 // there is no such queue yet
	}
	return info.Pending
}

func TestFeeder_KeepsTheBulkQueueFilled(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	h.rate(1)
	h.batch("row", 450)
	inForce := make(chan float64, 1)
	first := h.feeds(func(c *feeder.Config) {
		c.RateRead = func(perSecond float64) {
			select {
			case inForce <- perSecond:
			default:
			}
		}
	})
	h.Eventually("the lane is filled", func() bool { return h.pending(request.Bulk) == 200 })
	h.expect("row-0", request.Queued, 0, 0)
	h.expect("row-449", request.Waiting, 0, 0)
	h.Eventually("the rate is read", func() bool { return len(inForce) == 1 })
	if got := <-inForce; got != 1 {
		t.Errorf("the rate read is %g, want 1", got)
	}

	first.stop()
	h.rate(100_000)
	p := h.joined(h.book(), h.faceki)
	for i := range 100 {
		h.Must(p.process(t.Context(), h.record(fmt.Sprintf("row-%d", i)).Ref()))
	}
	h.rate(1)
	h.feeds(nil)
	// Their tasks are there still: 200 more than have links.
	h.Eventually("the lane is filled up", func() bool { return h.pending(request.Bulk) == 300 })
	h.rate(60)
	h.Eventually("five seconds of the rate are in the lane", func() bool { return h.pending(request.Bulk) == 400 })
}

func TestFeeder_LeadsInOneProcess(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	leader := func() string {
		id, err := h.Redis.Get(context.Background(), h.Keys.Leader()).Result()
		if err != nil && err != redis.Nil { //nolint:errorlint // go-redis' own
			h.Fatal(err)
		}
		return id
	}
	first := h.feeds(nil)
	h.Eventually("the first leads", func() bool { return leader() == first.number })
	h.rate(1)
	second := h.feeds(nil)
	h.batch("row", 300)
	h.Eventually("the lane is filled", func() bool { return h.pending(request.Bulk) == 200 })
	if _, leads, err := second.Feed(t.Context()); err != nil || leads {
		t.Errorf("a second one leads: %v, %v", leads, err)
	}
	first.stop() // as when it dies: the lease is not given back
	h.Eventually("the second leads", func() bool { return leader() == second.number })
}

// A change is logged once, however many processes there are.
func TestFeeder_LogsEachChangeOfTheGateOnce(t *testing.T) {
	t.Parallel()
	h := newHarness(t, simulator.Script{})
	core, lines := observer.New(zap.InfoLevel)
	observed := func(c *feeder.Config) { c.Log = zap.New(core) }
	first := h.feeds(observed)
	h.feeds(observed)
	h.Must(h.account().Pause(t.Context(), "ann", ""))
	h.Eventually("the pause is logged", func() bool { return lines.Len() == 1 })
	first.stop()
	h.Must(h.account().Resume(t.Context()))
	h.Eventually("the end is logged by the other", func() bool { return lines.Len() == 2 })
	if _, _, err := h.feeds(observed).Feed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines.All() {
		fields := line.ContextMap()
		since, ok := fields["since"].(time.Time)
		if age := time.Since(since); !ok || age < 0 || age > time.Minute {
			t.Errorf("%v is no time of now", fields["since"])
		}
		got = append(got, fmt.Sprintf("%s: %s %s", line.Level, line.Message, fields["reason"]))
	}
	want := []string{"warn: gate closed paused", "info: gate open "}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}
