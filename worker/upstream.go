package worker

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/request"
)

// Upstream makes links. Many goroutines call it. An Upstream that sets the field Kept of
// a [Fault] also implements [Keeper].
type Upstream interface {
	// Ready prepares what a call needs, such as an access token and a connection, so that
	// an admitted call is sent without delay. The worker calls it before it asks for
	// admission.
	Ready(ctx context.Context) *Fault
	// Connect checks that the upstream can be reached, without sending a call. The worker
	// calls it before a probe.
	Connect(ctx context.Context) *Fault
	// CreateLink sends one call at most, with its own deadline, and does not retry it. It
	// must not begin to send later than a.SendBy; then it returns a fault of the kind
	// [Interrupted].
	CreateLink(ctx context.Context, a Attempt) (Link, *Fault)
}

// Keeper returns links that an upstream made and that could not be used at once.
type Keeper interface {
	// Kept returns the link that an earlier attempt of the request made, or why it still
	// cannot be used. It sends no call.
	Kept(a Attempt) (Link, *Fault)
}

// Attempt is one call that is about to be sent. An upstream needs its ApplicationID and
// Generation, the settings a.Content.With(a.Resolved), and SendBy.
type Attempt = attempt.Attempt

// Link is a link that the upstream made.
type Link = request.Link

// Fault describes a call that made no link. Its text is stored and logged: it must not
// contain a secret.
type Fault = fault.Fault

// FaultKind classifies a fault; it decides what follows.
type FaultKind = fault.Kind

// The kinds of faults. "Uncertain" means that a link may have been made.
const (
	BadRequest       FaultKind = fault.BadRequest       // the request is invalid: it fails
	RulesMissing     FaultKind = fault.RulesMissing     // the request's own workflow has no rules: it fails
	ServerError      FaultKind = fault.ServerError      // 500, 502 or 504: uncertain
	LinkNotMade      FaultKind = fault.LinkNotMade      // the upstream says that it made no link
	Unavailable      FaultKind = fault.Unavailable      // 503
	TooMany          FaultKind = fault.TooMany          // 429
	NotSent          FaultKind = fault.NotSent          // the upstream could not be reached
	ConnectTimeout   FaultKind = fault.ConnectTimeout   // it could not be reached in time
	Lost             FaultKind = fault.Lost             // the connection was lost after the call was sent: uncertain
	TimedOut         FaultKind = fault.TimedOut         // no answer in time: uncertain
	Unreadable       FaultKind = fault.Unreadable       // the answer cannot be read: uncertain
	Unusable         FaultKind = fault.Unusable         // a link was made, and the answer has none that can be used: held
	Unauthorized     FaultKind = fault.Unauthorized     // the credentials are refused: the account waits
	NotFaceKi        FaultKind = fault.NotFaceKi        // something other than the upstream answered: the account waits
	CreditGone       FaultKind = fault.CreditGone       // the account has no credit left: it waits
	LimitGone        FaultKind = fault.LimitGone        // the account has reached its limit: it waits
	AccountRules     FaultKind = fault.AccountRules     // the account has no rules: it waits
	TokenUnavailable FaultKind = fault.TokenUnavailable // no access token is available
	Interrupted      FaultKind = fault.Interrupted      // the call was not sent, and the upstream is not the reason
)

// Poster sends callbacks.
type Poster interface {
	// Post makes one attempt to deliver.
	Post(ctx context.Context, d Delivery) Reply
	// Timeout returns the longest that Post takes.
	Timeout() time.Duration
}

// Delivery is the sending of one event to one callback URL.
type Delivery = delivery.Delivery

// DeliveryStatus is the status of a [Delivery]: "pending", "delivered" or "given_up".
type DeliveryStatus = delivery.Status

// Reply is the outcome of one attempt to deliver.
type Reply = delivery.Reply
