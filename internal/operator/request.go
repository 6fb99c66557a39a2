package operator

import (
	"context"

	"github.com/kyclink/kyclink/internal/linktask"
	"github.com/kyclink/kyclink/internal/request"
)

// Retry starts a new run of a failed request, or continues a held one in its run, and
// enqueues the task of an interactive one; if that fails, the workers' recovery
// enqueues it. changed is false if the request has changed since it was read; it is left
// as it is then.
func (o *Operator) Retry(ctx context.Context, r request.Record) (now request.Record, changed bool, err error) {
	now, changed, err = o.stores.Requests.Retry(ctx, r)
	if err == nil && changed && now.State == request.Queued {
		err = linktask.Enqueue(ctx, o.queue, o.account, now.Lane, now.Ref())
	}
	return now, changed, err
}

// RetryInBulk is [Operator.Retry] that moves an interactive request to the bulk lane.
func (o *Operator) RetryInBulk(ctx context.Context, r request.Record) (now request.Record, changed bool, err error) {
	return o.stores.Requests.RetryInBulk(ctx, r)
}

// Drop cancels a held request permanently. changed is as with [Operator.Retry].
func (o *Operator) Drop(ctx context.Context, r request.Record) (now request.Record, changed bool, err error) {
	if changed, err = o.stores.Requests.Drop(ctx, r); err != nil || !changed {
		return r, changed, err
	}
	now, _, err = o.stores.Records.Get(ctx, r.ApplicationID)
	return now, true, err
}

// Hide removes a failed request from the list of failed requests; its record stays as
// it is. changed is as with [Operator.Retry].
func (o *Operator) Hide(ctx context.Context, r request.Record) (now request.Record, changed bool, err error) {
	changed, err = o.stores.DeadLetters.DropRequest(ctx, r)
	return r, changed, err
}
