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
	"github.com/kyclink/kyclink/internal/request"
)

// feeding is a feeder without lanes.
type feeding struct {
	*feeder
	number string // of its process
	cancel context.CancelFunc
	over   chan struct{}
}

func (b *bench) feeds(change func(*feeder)) *feeding {
	b.t.Helper()
	k := b.book()
	before := b.workers()
	b.must(k.Join(b.t.Context()))
	joined := slices.DeleteFunc(b.workers(), func(number string) bool { return slices.Contains(before, number) })
	if len(joined) != 1 {
		b.t.Fatalf("%d processes joined, want 1", len(joined))
	}
	f := &feeder{
		source: k, queue: asynq.NewClientFromRedisClient(b.rdb), account: b.keys.Account,
		atLeast: 200, rate: func(float64) {}, lease: 2 * time.Second, log: zap.NewNop(), limited: zap.NewNop(),
	}
	if change != nil {
		change(f)
	}
	ctx, cancel := context.WithCancel(context.Background())
	g := &feeding{f, joined[0], cancel, make(chan struct{})}
	go func() {
		defer close(g.over)
		f.run(ctx)
	}()
	b.t.Cleanup(g.stop)
	return g
}

func (g *feeding) stop() {
	g.cancel()
	<-g.over
}

// workers are the numbers of the processes that joined.
func (b *bench) workers() []string {
	b.t.Helper()
	numbers, err := b.rdb.ZRange(b.t.Context(), b.keys.Workers(), 0, -1).Result()
	b.must(err)
	return numbers
}

func (b *bench) pending(lane request.Lane) int {
	info, err := b.queue.GetQueueInfo(b.keys.Queue(lane))
	if err != nil {
		return 0 // there is no such queue yet
	}
	return info.Pending
}

func TestTheBulkLaneIsKeptFilled(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	b.rate(1)
	b.batch("row", 450)
	inForce := make(chan float64, 1)
	first := b.feeds(func(f *feeder) {
		f.rate = func(perSecond float64) {
			select {
			case inForce <- perSecond:
			default:
			}
		}
	})
	b.eventually("the lane is filled", func() bool { return b.pending(request.Bulk) == 200 })
	b.expect("row-0", request.Queued, 0, 0)
	b.expect("row-449", request.Waiting, 0, 0)
	b.eventually("the rate is told", func() bool { return len(inForce) == 1 })
	if got := <-inForce; got != 1 {
		t.Errorf("told of a rate of %g, want 1", got)
	}

	first.stop()
	b.rate(100_000)
	p := b.joined(b.book(), b.faceki)
	for i := range 100 {
		b.must(p.take(t.Context(), b.record(fmt.Sprintf("row-%d", i)).Ref()))
	}
	b.rate(1)
	b.feeds(nil)
	// Their tasks are there still: 200 more than have links.
	b.eventually("the lane is filled up", func() bool { return b.pending(request.Bulk) == 300 })
	b.rate(60)
	b.eventually("five seconds of the rate are in the lane", func() bool { return b.pending(request.Bulk) == 400 })
}

func TestOneLeads(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	leader := func() string {
		id, err := b.rdb.Get(context.Background(), b.keys.Leader()).Result()
		if err != nil && err != redis.Nil { //nolint:errorlint // go-redis' own
			b.t.Fatal(err)
		}
		return id
	}
	first := b.feeds(nil)
	b.eventually("the first leads", func() bool { return leader() == first.number })
	b.rate(1)
	second := b.feeds(nil)
	b.batch("row", 300)
	b.eventually("the lane is filled", func() bool { return b.pending(request.Bulk) == 200 })
	if _, leads, err := second.feed(t.Context()); err != nil || leads {
		t.Errorf("a second one leads: %v, %v", leads, err)
	}
	first.stop() // as when it dies: nobody gives a lease back
	b.eventually("the second leads", func() bool { return leader() == second.number })
}

// Whichever process leads, and however many there are, a change is one line.
func TestEachChangeOfTheGateIsLoggedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, simulator.Script{})
	core, lines := observer.New(zap.InfoLevel)
	observed := func(f *feeder) { f.log = zap.New(core) }
	first := b.feeds(observed)
	b.feeds(observed)
	b.must(b.account().Pause(t.Context()))
	b.eventually("the pause is logged", func() bool { return lines.Len() == 1 })
	first.stop()
	b.must(b.account().Resume(t.Context()))
	b.eventually("the end is logged by the other", func() bool { return lines.Len() == 2 })
	if _, _, err := b.feeds(observed).feed(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, line := range lines.All() {
		fields := line.ContextMap()
		since, ok := fields["since"].(time.Time)
		if age := time.Since(since); !ok || age < 0 || age > time.Minute {
			t.Errorf("%v is no time of now", fields["since"])
		}
		got = append(got, fmt.Sprintf("%s: %s %s %s", line.Level, line.Message, fields["state"], fields["reason"]))
	}
	want := []string{"warn: the gate changed closed paused", "info: the gate changed open "}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}
