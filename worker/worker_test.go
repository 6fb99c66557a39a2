package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/ledger"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// longest is the time limit of calls: longer than a test takes, also on a busy machine.
const longest = 10 * time.Minute

// harness is one account with a real Redis, ledger and simulator around the worker.
type harness struct {
	*fixture.Account

	queue  *asynq.Inspector
	sim    *simulator.Simulator
	faceki facekiUpstream
	url    string       // of the simulator
	ahead  atomic.Int64 // of the clock by which tokens expire
	cfg    Config
}

func newHarness(t testing.TB, script simulator.Script) *harness {
	t.Helper()
	return newHarnessOn(t, fixture.Redis(), script)
}

func newHarnessOn(t testing.TB, server *redistest.Server, script simulator.Script) *harness {
	t.Helper()
	h := &harness{Account: fixture.NewAccountOn(t, server)}
	h.rate(100_000)
	h.queue = asynq.NewInspectorFromRedisClient(h.Redis)
	h.cfg = Config{
		Account: Account{Name: h.Keys.Account, Simulated: true}, Defaults: Defaults{ExpiryMinutes: 60}, Calls: Calls{Timeout: longest},
		Retry: Retry{BackoffBase: time.Millisecond, BackoffCap: time.Millisecond},
	}
	h.sim, h.url = fixture.Upstream(t, simulator.Config{ClientID: "shop", ClientSecret: "hush", Script: script})
	h.faceki = h.shop("hush")
	return h
}

// rate sets the rate, per second. The burst is 1000.
func (h *harness) rate(n int) {
	h.Helper()
	h.Must(h.Redis.HSet(h.Context(), h.Keys.Tag()+":gate", "n", n, "per", 1000, "burst", 1000).Err())
}

func (h *harness) account() *admission.Account { return admission.NewAccount(h.Redis, h.Keys.Account) }

// shop returns an upstream that uses the simulator with a secret, of which "hush" is valid.
func (h *harness) shop(secret faceki.Secret) facekiUpstream {
	c := faceki.New(faceki.Config{
		ClientID: "shop", ClientSecret: secret, BaseURL: h.url, Auth: faceki.AuthPost, ExpiryType: faceki.ExpiryNumber,
		Timeout: h.cfg.Calls.Timeout, Simulated: true,
	}, func() time.Time { return time.Now().Add(time.Duration(h.ahead.Load())) }, nil)
	h.Cleanup(c.Close)
	return facekiUpstream{c}
}

func newBook(s *storage.Stores) *book { return &book{Ledger: s.Requests, Stores: s} }

// Join registers the process.
func (k *book) Join(ctx context.Context) error { return k.Fleet.Join(ctx) }

// book is a ledger that can be made to fail.
type book struct {
	*ledger.Ledger
	*storage.Stores
	afterMark   func() error
	afterRecord func() error
	waits       atomic.Int64 // queries with the answer Wait
}

func (k *book) Admit(ctx context.Context, ask attempt.Query) (attempt.Decision, error) {
	answer, err := k.Ledger.Admit(ctx, ask)
	if err == nil && answer.Verdict == attempt.Wait {
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

func (h *harness) book() *book { return h.bookOf("right") }

// bookOf returns the ledger of a process with other credentials.
func (h *harness) bookOf(credential string) *book {
	return newBook(storage.New(h.Redis, storage.Config{Fleet: fleet.Config{Account: h.Keys.Account, Simulated: true}, Ledger: ledger.Config{Credential: credential}}))
}

// joined is a pipeline of a process of the fleet, without asynq.
func (h *harness) joined(k part, upstream Upstream) *pipeline {
	h.Helper()
	h.Must(k.Join(h.Context()))
	return h.newWorker(k, upstream, h.cfg).session.Load().lanes[request.Interactive]
}

// process is a worker that runs.
type process struct {
	*Worker
	t      testing.TB
	cancel context.CancelFunc
	over   chan struct{}
	err    error
}

// part is a ledger whose admissions and results a test may change.
type part interface {
	admissions
	results
	Join(ctx context.Context) error
	real() *storage.Stores
}

func (k *book) real() *storage.Stores { return k.Stores }

// newWorker makes a worker with a ledger; change may change its stores.
func (h *harness) newWorker(k part, upstream Upstream, cfg Config, change ...func(*stores)) *Worker {
	s := storesOf(k.real())
	s.lanes.admissions, s.lanes.results = k, k
	for _, c := range change {
		c(&s)
	}
	return newWorker(h.Redis, s, upstream, cfg.withDefaults())
}

func (h *harness) start(k *book, upstream Upstream) *process {
	return h.run(h.newWorker(k, upstream, h.cfg))
}

func (h *harness) run(w *Worker) *process {
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{Worker: w, t: h, cancel: cancel, over: make(chan struct{})}
	go func() {
		defer close(p.over)
		p.err = w.Run(ctx)
	}()
	h.Cleanup(func() { cancel(); <-p.over })
	return p
}

// stop drains the worker and returns the error of Run.
func (p *process) stop() error {
	p.cancel()
	return p.wait()
}

func (p *process) wait() error {
	p.t.Helper()
	select {
	case <-p.over:
	case <-time.After(longest / 3):
		p.t.Fatal("the worker does not end")
	}
	return p.err
}

// accept accepts an interactive request and returns its turn.
func (h *harness) accept(id string) request.Ref {
	h.Helper()
	_, err := h.Client.Enqueue(h.Context(), tasks.Request{ApplicationID: id})
	h.Must(err)
	return h.record(id).Ref()
}

// batch accepts bulk requests, prefix-0 and so on.
func (h *harness) batch(prefix string, n int) {
	h.Helper()
	requests := make([]tasks.Request, n)
	for i := range requests {
		requests[i].ApplicationID = fmt.Sprintf("%s-%d", prefix, i)
	}
	h.Must(h.Client.EnqueueAll(h.Context(), tasks.Batch{Name: "spring"}, tasks.Rows(requests), func(r tasks.Result) { h.Must(r.Err) }))
}

func (h *harness) record(id string) request.Record {
	h.Helper()
	r, ok, err := h.book().Records.Get(context.Background(), id)
	h.Must(err)
	if !ok {
		h.Fatalf("%s is unknown", id)
	}
	return r
}

// created waits until the request has its link.
func (h *harness) created(id string) request.Record {
	h.Helper()
	h.Eventually(id+" has its link", func() bool { return h.record(id).State == request.Created })
	return h.record(id)
}

func (h *harness) expect(id string, state request.State, attempts, duplicates int) request.Record {
	h.Helper()
	r := h.record(id)
	if r.State != state || r.Attempts != attempts || r.PossibleDuplicates != duplicates {
		h.Fatalf("%s is %s after %d attempts with %d possible duplicates; want %s, %d, %d",
			id, r.State, r.Attempts, r.PossibleDuplicates, state, attempts, duplicates)
	}
	return r
}

// calls is how many calls the simulator got for the request.
func (h *harness) calls(id string, want int) {
	h.Helper()
	if got := h.sim.Application(id).Calls; got != want {
		h.Errorf("FaceKi got %d calls for %s, want %d", got, id, want)
	}
}

// stub is an upstream that a test plays.
type stub struct {
	ready   func(context.Context) *Fault
	connect func(context.Context) *Fault
	create  func(context.Context, Attempt) (Link, *Fault)
}

func (s stub) Ready(ctx context.Context) *Fault {
	if s.ready == nil {
		return nil
	}
	return s.ready(ctx)
}

func (s stub) Connect(ctx context.Context) *Fault {
	if s.connect == nil {
		return nil
	}
	return s.connect(ctx)
}

func (s stub) CreateLink(ctx context.Context, a Attempt) (Link, *Fault) {
	return s.create(ctx, a)
}

func (s stub) Kept(Attempt) (Link, *Fault) {
	return Link{}, &Fault{Kind: Unusable}
}

func isLater(err error) (time.Duration, bool) {
	l, ok := err.(*asynqx.Later) //nolint:errorlint // it is never wrapped
	if !ok {
		return 0, false
	}
	return l.Delay, true
}

func hang(match string) simulator.Script {
	return simulator.Script{Rules: []simulator.Rule{{Match: match, Fault: simulator.Fault{Name: "hang"}}}}
}
