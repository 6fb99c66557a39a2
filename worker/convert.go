package worker

import (
	"context"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// upstream is an [Upstream] as the stages of the pipeline use it: with the types of the
// ledger, which other modules cannot name.
type upstream struct{ public Upstream }

func (u upstream) ready(ctx context.Context) *fault.Fault { return faultOf(u.public.Ready(ctx)) }

func (u upstream) connect(ctx context.Context) *fault.Fault { return faultOf(u.public.Connect(ctx)) }

func (u upstream) createLink(ctx context.Context, a attempt.Attempt) (request.Link, *fault.Fault) {
	link, f := u.public.CreateLink(ctx, attemptOf(a))
	return request.Link(link), faultOf(f)
}

// kept returns the link that an earlier attempt kept, or why it cannot be used.
func (u upstream) kept(a attempt.Attempt) (request.Link, *fault.Fault) {
	keeper, ok := u.public.(Keeper)
	if !ok {
		return request.Link{}, &fault.Fault{Kind: fault.Unusable, Kept: a.KeptLink()}
	}
	public := attemptOf(a)
	public.Kept = a.KeptLink()
	link, f := keeper.Kept(public)
	return request.Link(link), faultOf(f)
}

func attemptOf(a attempt.Attempt) Attempt {
	settings := a.Content.With(a.Resolved)
	return Attempt{
		ApplicationID: a.ApplicationID, Generation: a.Generation, Number: a.Attempts,
		Settings: Settings{
			RedirectURL: settings.RedirectURL, ExpiryMinutes: settings.ExpiryMinutes, DocumentOptional: settings.DocumentOptional,
			WorkflowID: settings.WorkflowID, OwnWorkflow: a.Content.WorkflowID != "",
		},
		Metadata: settings.Metadata, AdmittedAt: a.At, SendBy: a.SendBy,
	}
}

func faultOf(f *Fault) *fault.Fault {
	if f == nil {
		return nil
	}
	return &fault.Fault{Kind: fault.Kind(f.Kind), Detail: f.Detail, RetryAfter: f.RetryAfter, Kept: f.Kept, Renewed: f.Renewed}
}
