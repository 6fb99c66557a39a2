package worker

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	mostEarly  = 5 * time.Second  // the longest remainder of a pause for which a task is kept
	newerDelay = 30 * time.Second // before the task of a turn that only a newer version can process runs again
)

// ends ends requests without a call. Each method returns the state of the request after it.
type ends interface {
	// Hold ends an attempt that died with its process: the request is held.
	Hold(ctx context.Context, r request.Record) (request.State, error)
	Expire(ctx context.Context, r request.Record) (request.State, error)
	Cancel(ctx context.Context, r request.Record) (request.State, error)
}

// settler is the stage that decides what happens to a task.
type settler struct {
	ends       ends
	upstream   upstream // for links that are kept
	record     *resultRecorder
	quarantine *quarantiner
	retry      *retrier
	log        *zap.Logger
	limited    *zap.Logger
}

// called settles a turn after its call. If again is true, the request is admitted again at
// once; otherwise the handler returns the error.
func (s *settler) called(turn request.Ref, o outcome, err error) (again bool, _ error) {
	switch {
	case err != nil:
		return false, s.retry.after("record", turn, err)
	case o.ended:
		return false, nil
	case o.atOnce:
		return true, nil
	}
	return false, &asynqx.Later{Delay: o.after}
}

// uncalled settles a turn that was not admitted.
func (s *settler) uncalled(ctx context.Context, turn request.Ref, answer attempt.Decision) error {
	a := answer.Attempt
	switch answer.Verdict {
	case attempt.Busy:
		return &asynqx.Later{Delay: busyDelay}
	case attempt.Early:
		return early(answer.Wait)
	case attempt.Newer:
		s.limited.Warn("request of a newer version waits for a newer worker", zap.String("application_id", turn.ApplicationID))
		return &asynqx.Later{Delay: newerDelay}
	case attempt.Quarantine:
		return s.quarantine.end(ctx, turn, a.Nonce, "")
	case attempt.Dead:
		return s.retry.after("hold", turn, s.hold(ctx, a))
	case attempt.Kept:
		return s.retry.after("use the kept link", turn, s.useKept(ctx, a))
	case attempt.Expired:
		failpoint.Hit("ending")
		_, err := s.ends.Expire(ctx, a.Record)
		return s.retry.after("expire", turn, err)
	case attempt.Cancel:
		_, err := s.ends.Cancel(ctx, a.Record)
		return s.retry.after("cancel", turn, err)
	default: // stale, or released to another process
		return nil
	}
}

// early settles a turn whose pause is not over by Redis' clock: the clock of some worker is
// ahead. The task runs again after a short remainder. Otherwise it ends, as a worker with
// that clock would run it again and again; recovery enqueues it when it is due.
func early(wait time.Duration) error {
	if wait > mostEarly {
		return nil
	}
	return &asynqx.Later{Delay: wait}
}

// hold holds a request whose attempt died without an answer.
func (s *settler) hold(ctx context.Context, a attempt.Attempt) error {
	state, err := s.ends.Hold(ctx, a.Record)
	if err == nil {
		s.log.Warn("process died during a call, which may have made a link",
			append(fieldsOf(a.Record), zap.Int("attempt", a.Attempts), zap.String("status", string(state)))...)
	}
	return err
}

// useKept ends a request with the link that an earlier attempt made. FaceKi is not called,
// as that would make a second link.
func (s *settler) useKept(ctx context.Context, a attempt.Attempt) error {
	link, f := s.upstream.kept(a)
	return s.record.kept(ctx, a, link, f)
}

// retrier lets a task run again after an error.
type retrier struct {
	life   *lifecycle.Lifecycle
	policy policy
	log    *zap.Logger
}

// after returns what a handler returns after a step: nil if err is nil. The queue stores
// no error text, which might contain a secret.
func (r *retrier) after(step string, turn request.Ref, err error) error {
	if err == nil {
		return nil
	}
	if !r.life.Fatal(err) {
		r.log.Warn("step failed; retrying", zap.String("step", step), zap.String("application_id", turn.ApplicationID), zap.Error(err))
	}
	return &asynqx.Later{Delay: r.policy.pause()}
}
