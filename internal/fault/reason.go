package fault

// Reason is the public word for why a request was not accepted, has ended or is held, or
// why calls wait. The list is closed; it is also the label of metrics.
type Reason string

// Reasons for which a request is not accepted.
const (
	Invalid       Reason = "invalid"
	Conflict      Reason = "conflict"
	GenerationGap Reason = "generation_gap"
	BacklogFull   Reason = "backlog_full"
)

// Reasons for which a request ends.
const (
	InvalidRequest      Reason = "invalid_request"
	WorkflowRules       Reason = "workflow_rules"
	NotAfter            Reason = "not_after"
	Cancelled           Reason = "cancelled"
	Quarantined         Reason = "poison" // this version cannot decode or process it
	UpstreamError       Reason = "upstream_error"
	UpstreamUnavailable Reason = "upstream_unavailable"
	Throttled           Reason = "throttled"
	Timeout             Reason = "timeout"
	Connection          Reason = "connection"
	UnreadableAnswer    Reason = "unreadable_answer"
)

// Reasons for which a request is held until a person decides.
const (
	UnknownOutcome Reason = "unknown_outcome"
	UnusableAnswer Reason = "unusable_answer"
)

// Reasons for which the calls of an account wait.
const (
	Outage       Reason = "outage"
	Refused      Reason = "refused"
	NoCredit     Reason = "no_credit"
	LimitReached Reason = "limit_reached"
	Paused       Reason = "paused"
)

// RowsRefused is why kyclink itself paused a batch: too many of its calls in a row were
// refused as invalid. A batch that a person paused has the reason [Paused].
const RowsRefused Reason = "rows_refused"

// Reasons for which a callback was not delivered, in addition to [Throttled], [Timeout]
// and [Connection].
const (
	ReceiverError Reason = "receiver_error" // 408, 425 or 5xx
	Rejected      Reason = "rejected"       // any other status outside 2xx
	Redirected    Reason = "redirected"     // 3xx: redirects are not followed
	Gone          Reason = "gone"           // 410: the only status that ends a delivery at once
	Forbidden     Reason = "forbidden"      // the destination is not allowed
	ProxyError    Reason = "proxy_error"    // kyclink's own proxy failed; the receiver was not reached
)

// Ends returns the reasons for which a request fails.
func Ends() []Reason {
	return []Reason{
		InvalidRequest, WorkflowRules, NotAfter, Quarantined, UpstreamError, UpstreamUnavailable, Throttled, Timeout, Connection, UnreadableAnswer,
	}
}

// Holds returns the reasons for which a request is held.
func Holds() []Reason { return []Reason{UnknownOutcome, UnusableAnswer} }

// Undelivered returns the reasons for which a delivery is given up.
func Undelivered() []Reason {
	return []Reason{Gone, Rejected, Redirected, Forbidden, ReceiverError, Throttled, Timeout, Connection}
}
