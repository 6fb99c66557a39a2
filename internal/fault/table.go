package fault

// Scope is what a fault applies to. It decides what follows.
type Scope int

const (
	// ThisRequest is invalid: it fails now.
	ThisRequest Scope = iota + 1
	// FaceKi fails: the request is tried again later.
	FaceKi
	// Account is refused, out of credit or at its limit: the request is kept.
	Account
	// Throttle is a 429: the request waits for Retry-After.
	Throttle
	// Ourselves: this program did not send the call; the request returns to its queue.
	Ourselves
	// Person: only a person can find out what happened; the request is held.
	Person
)

// String returns the scope for people.
func (s Scope) String() string {
	return [...]string{"", "this request", "FaceKi", "the account", "throttling", "ourselves", "a person"}[s]
}

// Outcome is what is known about the link after a call that returned none.
type Outcome int

const (
	// NoLink: the call was not sent, or the answer says that no link was made.
	NoLink Outcome = iota + 1
	// Uncertain: a link may exist. Another call may make, and bill, a second one.
	Uncertain
)

// String returns the outcome for people and logs.
func (o Outcome) String() string { return [...]string{"", "no link", "unknown"}[o] }

// LabelCreated is the label of a call that made a link, see [Outcome.Label].
const LabelCreated = "created"

// Label returns the outcome as a metric label.
func (o Outcome) Label() string { return [...]string{"", "no_link", "unknown"}[o] }

// Signal is what the outcome of an attempt tells the gate.
type Signal string

// The gate signals.
const (
	SignalSuccess      Signal = "success"       // a link was made
	SignalAlive        Signal = "alive"         // FaceKi answered; the request itself is invalid
	SignalOutage       Signal = "outage"        // FaceKi fails: evidence for closing the gate
	SignalUnavailable  Signal = "unavailable"   // the same, and no link was made: another probe may follow soon
	SignalThrottle     Signal = "throttle"      // 429: calls wait for Retry-After
	SignalRefused      Signal = "refused"       // the credentials are refused
	SignalNoCredit     Signal = "no_credit"     // the wallet is empty
	SignalLimitReached Signal = "limit_reached" // the account's limit is reached
	SignalNone         Signal = "none"          // charged to the request: it says nothing about FaceKi
	SignalUnused       Signal = "back"          // the grant, or the order to connect, was not used
	SignalUnconnected  Signal = "unconnected"   // the process that was chosen to probe could not connect
	SignalNoToken      Signal = "no_token"      // the process that was chosen to probe got no token; FaceKi bills requests for tokens
)

// Kind names one row of the table.
type Kind int

// The kinds. Each has exactly one row in the table.
const (
	BadRequest       Kind = iota + 1 // FaceKi says that the request is invalid
	RulesMissing                     // the request's own workflow has no rules
	ServerError                      // 500, 502, 504 …: a link may have been made
	LinkNotMade                      // 8016: FaceKi says that it made none
	Unavailable                      // 503
	TooMany                          // 429
	NotSent                          // connection refused, name not found, TLS refused …
	ConnectTimeout                   // timed out before the call was written
	Lost                             // connection lost after the call was written
	TimedOut                         // timed out after the call was written
	Unreadable                       // a 2xx that is truncated or not in FaceKi's format
	Unusable                         // code 0 without a usable id or URL: probably a paid link
	Unauthorized                     // credentials, token or base URL are refused
	NotFaceKi                        // a 4xx or a redirect that is not FaceKi's
	CreditGone                       // 5003: the wallet is empty
	LimitGone                        // 5009, 8017: the number of links is reached
	AccountRules                     // 7001, or 5001 for a request that names no workflow
	TokenUnavailable                 // no token could be had, because of FaceKi
	Interrupted                      // this program stopped before the call was sent
	kinds            = iota + 1
)

// Kinds returns all kinds.
func Kinds() []Kind {
	all := make([]Kind, 0, kinds-1)
	for k := BadRequest; k < kinds; k++ {
		all = append(all, k)
	}
	return all
}

// row classifies a kind of fault.
type row struct {
	reason  Reason
	scope   Scope
	outcome Outcome
	signal  Signal // to the gate, unless the fault is charged to the request
	// chargeable faults may count against the request. A call that never reached FaceKi, a
	// 503 and a 429 say nothing about a request.
	chargeable bool
	means      string
}

var table = [kinds]row{
	BadRequest:       {InvalidRequest, ThisRequest, NoLink, SignalAlive, true, "FaceKi refused this request as invalid"},
	RulesMissing:     {WorkflowRules, ThisRequest, NoLink, SignalAlive, true, "FaceKi knows no rules for the request's workflow"},
	ServerError:      {UpstreamError, FaceKi, Uncertain, SignalOutage, true, "FaceKi failed while it handled the request"},
	LinkNotMade:      {UpstreamError, FaceKi, NoLink, SignalUnavailable, true, "FaceKi could not make the link"},
	Unavailable:      {UpstreamUnavailable, FaceKi, NoLink, SignalUnavailable, false, "FaceKi is unavailable"},
	TooMany:          {Throttled, Throttle, NoLink, SignalThrottle, false, "FaceKi asks for fewer calls"},
	NotSent:          {Connection, FaceKi, NoLink, SignalUnavailable, false, "FaceKi could not be reached"},
	ConnectTimeout:   {Timeout, FaceKi, NoLink, SignalUnavailable, false, "connecting to FaceKi took too long"},
	Lost:             {Connection, FaceKi, Uncertain, SignalOutage, true, "the connection was lost before FaceKi answered"},
	TimedOut:         {Timeout, FaceKi, Uncertain, SignalOutage, true, "FaceKi did not answer in time"},
	Unreadable:       {UnreadableAnswer, FaceKi, Uncertain, SignalOutage, true, "FaceKi's answer could not be read"},
	Unusable:         {UnusableAnswer, Person, Uncertain, SignalOutage, true, "FaceKi says that a link was made, but gave none that can be used"},
	Unauthorized:     {Refused, Account, NoLink, SignalRefused, false, "FaceKi refuses the account's credentials or address"},
	NotFaceKi:        {Refused, Account, NoLink, SignalRefused, false, "something other than FaceKi's API answered, and refused the call"},
	CreditGone:       {NoCredit, Account, NoLink, SignalNoCredit, false, "the account has no credit left"},
	LimitGone:        {LimitReached, Account, NoLink, SignalLimitReached, false, "the account's limit is reached"},
	AccountRules:     {LimitReached, Account, NoLink, SignalLimitReached, false, "the account has no rules for making links"},
	TokenUnavailable: {UpstreamUnavailable, FaceKi, NoLink, SignalOutage, false, "no access token is available"},
	Interrupted:      {Paused, Ourselves, NoLink, SignalUnused, false, "the call was stopped before it was sent"},
}
