package worker

import (
	"context"

	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fault"
)

// facekiUpstream is an upstream that uses FaceKi's client, as package wiring, which imports
// this one, makes it for the program.
type facekiUpstream struct{ client *faceki.Client }

func (u facekiUpstream) Ready(ctx context.Context) *Fault { return publicFault(u.client.Ready(ctx)) }

func (u facekiUpstream) Connect(ctx context.Context) *Fault {
	return publicFault(u.client.Connect(ctx))
}

func (u facekiUpstream) CreateLink(ctx context.Context, a Attempt) (Link, *Fault) {
	link, f := u.client.CreateLink(ctx, faceki.Call{
		ApplicationID: a.ApplicationID, Generation: a.Generation, ExpiryMinutes: a.Settings.ExpiryMinutes,
		AdmittedAt: a.AdmittedAt, SendBy: a.SendBy,
	})
	return Link(link), publicFault(f)
}

func (u facekiUpstream) Kept(a Attempt) (Link, *Fault) {
	link, f := u.client.Kept(a.ApplicationID, a.Generation, a.Kept)
	return Link(link), publicFault(f)
}

func publicFault(f *fault.Fault) *Fault {
	if f == nil {
		return nil
	}
	return &Fault{Kind: FaultKind(f.Kind), Detail: f.Detail, RetryAfter: f.RetryAfter, Kept: f.Kept, Renewed: f.Renewed}
}
