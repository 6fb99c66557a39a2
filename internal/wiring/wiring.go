// Package wiring connects a worker to FaceKi's API and to the receivers of callbacks. It
// converts between the public types of package worker and those of the adapters, which do
// not import it.
package wiring

import (
	"context"

	"github.com/kyclink/kyclink/internal/callback"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/faceki"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/worker"
)

// Upstream makes the links of a worker with FaceKi's API.
type Upstream struct{ client *faceki.Client }

var _ worker.Keeper = Upstream{} // the interface is optional: a worker does not require it

// NewUpstream returns an upstream that uses client.
func NewUpstream(client *faceki.Client) Upstream { return Upstream{client} }

// Ready implements [worker.Upstream].
func (u Upstream) Ready(ctx context.Context) *worker.Fault { return faultOf(u.client.Ready(ctx)) }

// Connect implements [worker.Upstream].
func (u Upstream) Connect(ctx context.Context) *worker.Fault { return faultOf(u.client.Connect(ctx)) }

// CreateLink implements [worker.Upstream].
func (u Upstream) CreateLink(ctx context.Context, a worker.Attempt) (worker.Link, *worker.Fault) {
	link, f := u.client.CreateLink(ctx, faceki.Call{
		ApplicationID: a.ApplicationID, Generation: a.Generation,
		RedirectURL: a.Settings.RedirectURL, ExpiryMinutes: a.Settings.ExpiryMinutes, DocumentOptional: a.Settings.DocumentOptional,
		WorkflowID: a.Settings.WorkflowID, OwnWorkflow: a.Settings.OwnWorkflow,
		AdmittedAt: a.AdmittedAt, SendBy: a.SendBy,
	})
	return worker.Link(link), faultOf(f)
}

// Kept implements [worker.Keeper].
func (u Upstream) Kept(a worker.Attempt) (worker.Link, *worker.Fault) {
	link, f := u.client.Kept(a.ApplicationID, a.Generation, a.Kept)
	return worker.Link(link), faultOf(f)
}

func faultOf(f *fault.Fault) *worker.Fault {
	if f == nil {
		return nil
	}
	return &worker.Fault{Kind: worker.FaultKind(f.Kind), Detail: f.Detail, RetryAfter: f.RetryAfter, Kept: f.Kept, Renewed: f.Renewed}
}

// Poster delivers the callbacks of a worker.
type Poster struct{ *callback.Sender }

// NewPoster returns a poster that uses sender.
func NewPoster(sender *callback.Sender) Poster { return Poster{sender} }

// Post implements [worker.Poster].
func (p Poster) Post(ctx context.Context, d worker.Delivery) worker.Reply {
	return worker.Reply(p.Sender.Post(ctx, delivery.Delivery{EventID: d.EventID, URL: d.URL, Body: d.Body}))
}
