package action

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/fixture"
	"github.com/kyclink/kyclink/internal/fixture/ledgertest"
	"github.com/kyclink/kyclink/internal/request"
)

func TestMain(m *testing.M) { fixture.Main(m) }

// harness is an account with a store of its actions.
type harness struct {
	*ledgertest.Harness
	store *Store
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	h := ledgertest.New(t)
	return &harness{h, NewStore(h.Redis, h.Keys.Account)}
}

// message is that of the outcome of the requests.
const message = `FaceKi refused "reason":"other" (HTTP 400), and said much about it: ` +
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

// restore restores n requests of a batch, from number from on, that failed or are held.
func (h *harness) restore(batch string, from, n int, state request.State, reason string) {
	h.Helper()
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	var records []request.Record
	for i := from; i < from+n; i++ {
		r := request.Record{
			ApplicationID: fmt.Sprintf("A-%04d", i), State: state, Lane: request.Bulk, Generation: 1, Run: 1, Attempts: 1,
			AcceptedAt: at, ChangedAt: at.Add(time.Duration(i/7) * time.Millisecond), // several at one moment
			Content: request.Content{Row: i}, Outcome: request.Outcome{Run: 1, Status: state, Reason: reason, Message: message},
		}
		records = append(records, r)
	}
	for page := range slices.Chunk(records, 200) {
		h.Must(h.Stores.Requests.Restore(h.Context(), batch, page))
	}
}

// plan plans an action.
func (h *harness) plan(r Request) Plan {
	h.Helper()
	p, err := h.store.Plan(h.Context(), r)
	h.Must(err)
	return p
}

// start plans and starts an action.
func (h *harness) start(r Request) Action {
	h.Helper()
	return h.startPlan(h.plan(r))
}

// startPlan starts the action of a plan.
func (h *harness) startPlan(p Plan) Action {
	h.Helper()
	a, err := h.store.Start(h.Context(), p, p.Token, "the test")
	h.Must(err)
	return a
}

// run runs a runner until the test ends or stop is called, which waits for its end.
func (h *harness) run() (stop func()) { h.Helper(); return h.runWith(NewRunner(h.config())) }

func (h *harness) config() RunnerConfig {
	return RunnerConfig{
		Redis: h.Redis, Account: h.Keys.Account, Pause: 10 * time.Millisecond, Lease: time.Minute, Log: zap.NewNop(), Limited: zap.NewNop(),
	}
}

func (h *harness) runWith(r *Runner) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	stop = func() { cancel(); <-ended }
	h.Cleanup(stop)
	return stop
}

// get reads an action that exists.
func (h *harness) get(id string) Action {
	h.Helper()
	a, ok, err := h.store.Get(h.Context(), id)
	if h.Must(err); !ok {
		h.Fatalf("action %s does not exist", id)
	}
	return a
}

// wait waits until an action has ended, and returns it.
func (h *harness) wait(id string) Action {
	h.Helper()
	h.Eventually("the action ends", func() bool { return h.get(id).State != Running })
	return h.get(id)
}

// expectCounts compares the counts of an action.
func (h *harness) expectCounts(a Action, state State, matched, done, skipped int) {
	h.Helper()
	c := a.Counts
	if a.State != state || c.Matched != matched || c.Done != done || c.Skipped.Changed+c.Skipped.Gone != skipped {
		h.Errorf("the action is %s with %+v; want %s with %d matched, %d done, %d skipped", a.State, c, state, matched, done, skipped)
	}
}

// expectRuns checks that requests from..from+n-1 are in a state, and in a run.
func (h *harness) expectRuns(from, n int, state request.State, run int) {
	h.Helper()
	for i := from; i < from+n; i++ {
		if r := h.Record(fmt.Sprintf("A-%04d", i)); r.State != state || r.Run != run {
			h.Fatalf("%s is %s in run %d, want %s in run %d", r.ApplicationID, r.State, r.Run, state, run)
		}
	}
}
