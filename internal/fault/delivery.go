package fault

// Reasons for which a callback was not delivered, besides [Throttled], [Timeout]
// and [Connection].
const (
	ReceiverError Reason = "receiver_error" // 408, 425 or 5xx
	Rejected      Reason = "rejected"       // any other status that is no success
	Redirected    Reason = "redirected"     // 3xx: redirects are not followed
	Gone          Reason = "gone"           // 410: the one status that ends a delivery at once
	Forbidden     Reason = "forbidden"      // the destination is not allowed
	ProxyError    Reason = "proxy_error"    // our own proxy; the receiver was not asked
)

// Undelivered are the reasons for which a delivery is given up.
func Undelivered() []Reason {
	return []Reason{Gone, Rejected, Redirected, Forbidden, ReceiverError, Throttled, Timeout, Connection}
}
