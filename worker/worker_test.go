package worker

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

var server *redistest.Server

func TestMain(m *testing.M) { os.Exit(redistest.Main(m, &server)) }

// bench is one account, with everything real around the worker.
type bench struct {
	t      testing.TB
	rdb    *redis.Client
	keys   keyspace.Keys
	client *tasks.Client
	queue  *asynq.Inspector
	sim    *simulator.Simulator
	faceki *faceki.Client
	url    string       // of the simulator
	ahead  atomic.Int64 // of the clock by which tokens expire
	cfg    Config
}

func newBench(t testing.TB, script simulator.Script) *bench {
	t.Helper()
	return benchOn(t, server, script)
}

func benchOn(t testing.TB, server *redistest.Server, script simulator.Script) *bench {
	t.Helper()
	account := redistest.Account()
	// go-redis dials once a second only when it failed as often as its pool is
	// large, by a goroutine that outlives Close.
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr, ContextTimeoutEnabled: true, PoolSize: 10_000, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	b := &bench{t: t, rdb: rdb, keys: keyspace.Keys{Account: account}}
	b.rate(100_000)
	b.client = tasks.NewClient(b.rdb, tasks.Config{Account: account})
	b.queue = asynq.NewInspectorFromRedisClient(b.rdb)
	b.cfg = Config{
		Account: account, Defaults: request.Defaults{ExpiryMinutes: 60}, CallTimeout: 10 * time.Second,
		BackoffBase: time.Millisecond, BackoffCap: time.Millisecond, Log: zap.NewNop(),
	}
	b.sim = simulator.New(simulator.Config{ClientID: "shop", ClientSecret: "hush", Script: script})
	url, stop, err := b.sim.Start()
	b.must(err)
	t.Cleanup(stop)
	b.url = url
	b.faceki = b.shop("hush")
	return b
}

// rate sets the rate, per second. The burst is 1000.
func (b *bench) rate(n int) {
	b.t.Helper()
	b.must(b.rdb.HSet(b.t.Context(), b.keys.Tag()+":gate", "n", n, "per", 1000, "burst", 1000).Err())
}

func (b *bench) account() *admission.Account { return admission.NewAccount(b.rdb, b.keys.Account) }

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// shop calls the simulator with a secret, of which it knows "hush" to be right.
func (b *bench) shop(secret faceki.Secret) *faceki.Client {
	c := faceki.New(faceki.Config{
		ClientID: "shop", ClientSecret: secret, BaseURL: b.url, Auth: faceki.AuthPost, ExpiryType: faceki.ExpiryNumber,
		Timeout: b.cfg.CallTimeout, Simulated: true,
	}, func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) }, nil)
	b.t.Cleanup(c.Close)
	return c
}

// book is a ledger that can be made to fail.
type book struct {
	*ledger.Ledger
	afterMark   func() error
	afterRecord func() error
	waits       atomic.Int64 // marks that were answered so
}

func (k *book) Mark(ctx context.Context, ask attempt.Query) (attempt.Answer, error) {
	answer, err := k.Ledger.Mark(ctx, ask)
	if err == nil && answer.Admission == attempt.Wait {
		k.waits.Add(1)
	}
	if err == nil && k.afterMark != nil {
		err = k.afterMark()
	}
	return answer, err
}

func (k *book) Created(ctx context.Context, a attempt.Attempt, made request.Link) (request.State, error) {
	state, err := k.Ledger.Created(ctx, a, made)
	if err == nil && k.afterRecord != nil {
		err = k.afterRecord()
	}
	return state, err
}

func (b *bench) book() *book { return b.bookOf("right") }

// bookOf is one of a process with other credentials.
func (b *bench) bookOf(credential string) *book {
	return &book{Ledger: ledger.New(b.rdb, ledger.Config{Account: b.keys.Account, Simulated: true, Credential: credential})}
}

// joined is a lane of a process of the fleet, without asynq.
func (b *bench) joined(k *book, upstream Upstream) *lane {
	b.t.Helper()
	b.must(k.Join(b.t.Context()))
	return newLane(New(b.rdb, k, upstream, b.cfg).pipe)
}

// process is a worker that runs.
type process struct {
	*Worker
	t      testing.TB
	cancel context.CancelFunc
	over   chan struct{}
	err    error
}

func (b *bench) start(k *book, upstream Upstream) *process {
	return b.run(New(b.rdb, k, upstream, b.cfg))
}

func (b *bench) run(w *Worker) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{Worker: w, t: b.t, cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(p.over)
		p.err = w.Run(ctx)
	}()
	b.t.Cleanup(func() { cancel(); <-p.over })
	return p
}

// stop stops it softly, and gives Run's error.
func (p *process) stop() error {
	p.cancel()
	return p.wait()
}

func (p *process) wait() error {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(2 * time.Minute):
		p.t.Fatal("the worker does not end")
	}
	return p.err
}

// accept accepts an interactive request, and gives its turn.
func (b *bench) accept(id string) request.Ref {
	b.t.Helper()
	_, err := b.client.Enqueue(b.t.Context(), tasks.Request{ApplicationID: id})
	b.must(err)
	return b.record(id).Ref()
}

// batch accepts bulk requests, prefix-0 and so on.
func (b *bench) batch(prefix string, n int) {
	b.t.Helper()
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("%s-%d", prefix, i)
	}
	b.must(b.client.EnqueueAll(b.t.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) { b.must(r.Err) }))
}

func (b *bench) record(id string) request.Record {
	b.t.Helper()
	r, ok, err := b.book().Get(context.Background(), id)
	b.must(err)
	if !ok {
		b.t.Fatalf("%s is unknown", id)
	}
	return r
}

// created waits until the request has its link.
func (b *bench) created(id string) request.Record {
	b.t.Helper()
	b.eventually(id+" has its link", func() bool { return b.record(id).State == request.Created })
	return b.record(id)
}

func (b *bench) expect(id string, state request.State, attempts, duplicates int) request.Record {
	b.t.Helper()
	r := b.record(id)
	if r.State != state || r.Attempts != attempts || r.PossibleDuplicates != duplicates {
		b.t.Fatalf("%s is %s after %d attempts with %d possible duplicates; want %s, %d, %d",
			id, r.State, r.Attempts, r.PossibleDuplicates, state, attempts, duplicates)
	}
	return r
}

// calls is how many calls the simulator got for the request.
func (b *bench) calls(id string, want int) {
	b.t.Helper()
	if got := b.sim.Application(id).Calls; got != want {
		b.t.Errorf("FaceKi got %d calls for %s, want %d", got, id, want)
	}
}

func (b *bench) eventually(what string, holds func() bool) {
	b.t.Helper()
	b.eventuallyWithin(2*time.Minute, what, holds)
}

func (b *bench) eventuallyWithin(most time.Duration, what string, holds func() bool) {
	b.t.Helper()
	deadline := time.After(most)
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !holds() {
		select {
		case <-look.C:
		case <-deadline:
			b.t.Fatalf("not so after %v: %s", most, what)
		}
	}
}

// stub is an upstream that a test plays.
type stub struct {
	ready   func(context.Context) *fault.Fault
	connect func(context.Context) *fault.Fault
	create  func(context.Context, attempt.Attempt) (request.Link, *fault.Fault)
}

func (s stub) Ready(ctx context.Context) *fault.Fault {
	if s.ready == nil {
		return nil
	}
	return s.ready(ctx)
}

func (s stub) Connect(ctx context.Context) *fault.Fault {
	if s.connect == nil {
		return nil
	}
	return s.connect(ctx)
}

func (s stub) CreateLink(ctx context.Context, a attempt.Attempt) (request.Link, *fault.Fault) {
	return s.create(ctx, a)
}

func (s stub) Kept(attempt.Attempt) (request.Link, *fault.Fault) {
	return request.Link{}, &fault.Fault{Kind: fault.Unusable}
}

func isLater(err error) (time.Duration, bool) {
	l, ok := err.(*later) //nolint:errorlint // it is never wrapped
	if !ok {
		return 0, false
	}
	return l.delay, true
}

func hang(match string) simulator.Script {
	return simulator.Script{Rules: []simulator.Rule{{Match: match, Fault: simulator.Fault{Name: "hang"}}}}
}
