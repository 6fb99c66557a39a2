package worker

import (
	"context"
	"encoding/json"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
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
	// Kept returns the link in a.Kept, or why it still cannot be used. It sends no call.
	Kept(a Attempt) (Link, *Fault)
}

// Attempt is one call that is about to be sent.
type Attempt struct {
	// ApplicationID and Generation identify the link: each generation of a request is a
	// link of its own.
	ApplicationID string
	Generation    int
	// Number is the number of the attempt in its generation, from 1.
	Number int
	// Settings are the settings of the link.
	Settings Settings
	// Metadata is the request's own JSON object; nil if it has none.
	Metadata json.RawMessage
	// AdmittedAt is the time of the admission, by Redis' clock.
	AdmittedAt time.Time
	// SendBy is the time after which the call must not be sent, by this machine's clock;
	// zero: there is no limit.
	SendBy time.Time
	// Kept is the link that an earlier attempt kept, as that attempt's [Fault] had it. It is
	// set for [Keeper] only.
	Kept string
}

// Settings are the settings of a link: those of its request and, for what that does not set,
// the defaults. A zero value means that the upstream decides.
type Settings struct {
	RedirectURL      string
	ExpiryMinutes    int
	DocumentOptional *bool
	WorkflowID       string
	// OwnWorkflow says that WorkflowID is the request's own and not a default. If the
	// workflow is wrong, the fault is the request's ([RulesMissing]) and not the account's
	// ([AccountRules]).
	OwnWorkflow bool
}

// Link is a link that the upstream made. Both texts are secrets: whoever has them can
// start the person's verification.
type Link struct {
	LinkID string
	URL    string
	// RequestedAt is when a kept link was requested, by Redis' clock, see [Keeper]; zero: by
	// this attempt. The link's expiry is counted from then on.
	RequestedAt time.Time
}

// Fault describes a call that made no link. Its text is stored and logged: it must not
// contain a secret.
type Fault struct {
	// Kind decides what follows.
	Kind FaultKind
	// Detail adds information for people to what the kind says, such as "HTTP 500". It is
	// short and on one line.
	Detail string
	// RetryAfter is how long the upstream asked to wait; 0 if it did not.
	RetryAfter time.Duration
	// Kept is a link that was made and cannot be used yet, encrypted by the upstream; "" if
	// there is none. [Keeper] gets it back when the request is retried.
	Kept string
	// Renewed says that the access token was refused and has been dropped, so that the
	// request may be admitted again at once.
	Renewed bool
}

// FaultKind classifies a fault; it decides what follows.
type FaultKind int

// The kinds of faults. "Uncertain" means that a link may have been made.
const (
	BadRequest       = FaultKind(fault.BadRequest)       // the request is invalid: it fails
	RulesMissing     = FaultKind(fault.RulesMissing)     // the request's own workflow has no rules: it fails
	ServerError      = FaultKind(fault.ServerError)      // 500, 502 or 504: uncertain
	LinkNotMade      = FaultKind(fault.LinkNotMade)      // the upstream says that it made no link
	Unavailable      = FaultKind(fault.Unavailable)      // 503
	TooMany          = FaultKind(fault.TooMany)          // 429
	NotSent          = FaultKind(fault.NotSent)          // the upstream could not be reached
	ConnectTimeout   = FaultKind(fault.ConnectTimeout)   // it could not be reached in time
	Lost             = FaultKind(fault.Lost)             // the connection was lost after the call was sent: uncertain
	TimedOut         = FaultKind(fault.TimedOut)         // no answer in time: uncertain
	Unreadable       = FaultKind(fault.Unreadable)       // the answer cannot be read: uncertain
	Unusable         = FaultKind(fault.Unusable)         // a link was made, and the answer has none that can be used: held
	Unauthorized     = FaultKind(fault.Unauthorized)     // the credentials are refused: the account waits
	NotFaceKi        = FaultKind(fault.NotFaceKi)        // something other than the upstream answered: the account waits
	CreditGone       = FaultKind(fault.CreditGone)       // the account has no credit left: it waits
	LimitGone        = FaultKind(fault.LimitGone)        // the account has reached its limit: it waits
	AccountRules     = FaultKind(fault.AccountRules)     // the account has no rules: it waits
	TokenUnavailable = FaultKind(fault.TokenUnavailable) // no access token is available
	Interrupted      = FaultKind(fault.Interrupted)      // the call was not sent, and the upstream is not the reason
)
