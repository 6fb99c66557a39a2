package worker

import (
	"context"

	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// useKept ends a request with the link that an earlier attempt brought, or holds it
// again where that cannot be used still. FaceKi is not called: it would be paid twice.
func (p *pipeline) useKept(ctx context.Context, a attempt.Attempt) error {
	made, f := request.Link{}, &fault.Fault{Kind: fault.Unusable, Kept: a.KeptLink()}
	if keeper, ok := p.upstream.(Keeper); ok {
		made, f = keeper.Kept(a)
	}
	var state request.State
	err := p.insist(ctx, func(ctx context.Context) (err error) {
		if f == nil {
			state, err = p.ledger.Created(ctx, a, made)
		} else {
			state, err = p.ledger.Fault(ctx, a, f, attempt.Next{Action: attempt.Hold})
		}
		return err
	})
	if err == nil {
		p.logKept(a, state, f)
	}
	return err
}

func (p *pipeline) logKept(a attempt.Attempt, state request.State, f *fault.Fault) {
	fields := []zap.Field{
		zap.String("application_id", a.ApplicationID), zap.Int("generation", a.Generation), zap.Int("run", a.Run),
		zap.String("lane", string(a.Lane)), zap.String("status", string(state)),
	}
	if f != nil {
		p.log.Warn("the kept link cannot be used", append(fields, zap.String("reason", string(f.Reason())), zap.String("message", f.Error()))...)
		return
	}
	p.log.Info("the kept link was used", fields...)
}
