package worker

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

// signals receives gate signals that do not come from calls.
type signals interface {
	// ReportSignal reports that a turn could not get a connection or a token; chosen says that
	// this process was chosen to probe. closed says whether the gate is closed now.
	ReportSignal(ctx context.Context, ref request.Ref, f *fault.Fault, chosen bool) (closed bool, err error)
}

// gate is what this process knows about the account's gate.
type gate struct {
	signals signals
	closed  atomic.Bool // as of the last query or report of this process
	life    *lifecycle.Lifecycle
	limited *zap.Logger
}

// report reports a fault and returns whether the gate is closed. An error is only logged:
// the next query reaches Redis anyway.
func (g *gate) report(ctx context.Context, turn request.Ref, f *fault.Fault, chosen bool) bool {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
	defer cancel()
	closed, err := g.signals.ReportSignal(once, turn, f, chosen)
	if err != nil {
		g.limited.Warn("reporting to the gate failed", zap.Error(err))
		return false
	}
	g.closed.Store(closed)
	return closed
}

// untilDrain runs a step that ends when the worker drains.
func (g *gate) untilDrain(ctx context.Context, step func(context.Context) *fault.Fault) *fault.Fault {
	waiting, cancel := g.life.UntilDrain(ctx)
	defer cancel()
	return step(waiting)
}

// admissions answers queries for admission.
type admissions interface {
	// Admit admits a call, and counts its attempt in the same step, or says why not.
	Admit(ctx context.Context, query attempt.Query) (attempt.Decision, error)
}

// asker asks for admission.
type asker struct {
	admissions admissions
	results    results // for grants that are not used
	turns      *turns
	defaults   request.Defaults
	life       *lifecycle.Lifecycle
	limited    *zap.Logger
}

// ask retries while Redis is unreachable. If a grant was made and its reply was lost, only
// this process knows, by the nonce, that no call followed.
func (a *asker) ask(ctx context.Context, turn request.Ref, connected bool) (attempt.Decision, error) {
	for {
		query := attempt.Query{Ref: turn, Defaults: a.defaults, Connected: connected, Nonce: a.turns.nonce(turn)}
		// A draining worker does not interrupt a query: the reply would be lost.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
		answer, err := a.admissions.Admit(once, query)
		if err == nil && answer.Verdict == attempt.Granted {
			// That grant may have expired: it is not used.
			_, err = a.results.Fault(once, answer.Attempt, &fault.Fault{Kind: fault.Interrupted}, attempt.Next{Action: attempt.Requeue})
		}
		cancel()
		if err == nil {
			a.turns.answered(turn)
			if answer.Verdict == attempt.Granted {
				continue
			}
		}
		if err == nil || a.life.Fatal(err) {
			return answer, err
		}
		a.limited.Warn("admission query failed; retrying", zap.Error(err))
		if !a.life.Sleep(ctx, lifecycle.PersistPause) {
			return attempt.Decision{}, err
		}
	}
}

// releasePause is how long a handler stays busy after it released a turn, so that a process
// that cannot call does not take one task after another.
const releasePause = 5 * time.Second

// releases releases turns to other processes.
type releases interface {
	// Release replaces a turn by the next one, whose task is to be enqueued.
	Release(ctx context.Context, ref request.Ref) (lane request.Lane, next request.Ref, ok bool, err error)
}

// releaser releases turns to other processes where only the credentials of this one are
// refused, or perhaps only this one cannot reach FaceKi.
type releaser struct {
	releases releases
	enqueue  func(ctx context.Context, lane request.Lane, turn request.Ref) error
	life     *lifecycle.Lifecycle
	retry    *retrier
}

// release releases a turn, and returns what its handler returns.
func (r *releaser) release(ctx context.Context, turn request.Ref) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
	defer cancel()
	lane, next, ok, err := r.releases.Release(once, turn)
	failpoint.Hit("released")
	if err == nil && ok {
		err = r.enqueue(once, lane, next)
	}
	if err != nil {
		return r.retry.after("release", turn, err)
	}
	r.life.Sleep(ctx, releasePause)
	return nil
}
