package worker

import (
	"context"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/asynqx"
	"github.com/kyclink/kyclink/internal/lifecycle"
	"github.com/kyclink/kyclink/internal/request"
)

// mostPanics is how many panics of one turn's handlers quarantine its request.
const mostPanics = 3

// undecodable ends requests that cannot be processed.
type undecodable interface {
	// CountPanic counts a panic of a turn's handler, in the whole fleet.
	CountPanic(ctx context.Context, ref request.Ref) (int, error)
	// Quarantine ends a request that cannot be processed. nonce is that of a grant that was
	// not used, or "".
	Quarantine(ctx context.Context, ref request.Ref, nonce, message string) (request.State, error)
}

// quarantiner removes what cannot be decoded or processed from the queues.
type quarantiner struct {
	tasks    asynqx.Quarantine
	requests undecodable
	retry    *retrier
	log      *zap.Logger
}

// end quarantines the request of a turn.
func (q *quarantiner) end(ctx context.Context, turn request.Ref, nonce, message string) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
	defer cancel()
	state, err := q.requests.Quarantine(once, turn, nonce, message)
	switch {
	case err != nil:
		return q.retry.after("quarantine", turn, err)
	case state == "busy":
		return &asynqx.Later{Delay: busyDelay}
	}
	q.log.Error("request quarantined", zap.String("application_id", turn.ApplicationID), zap.String("status", string(state)))
	return nil
}

// panicked settles a turn whose handler panicked: its task runs again, up to [mostPanics]
// times. A call may have been sent since its admission.
func (q *quarantiner) panicked(ctx context.Context, turn request.Ref) error {
	once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lifecycle.PersistTimeout)
	defer cancel()
	n, err := q.requests.CountPanic(once, turn)
	if err != nil {
		return q.retry.after("count a panic", turn, err)
	}
	if n < mostPanics {
		return &asynqx.Later{Delay: q.retry.policy.pause()}
	}
	return q.end(ctx, turn, "", "the program failed each time that it processed the request")
}
