package console

import (
	"slices"

	"github.com/kyclink/kyclink/internal/fault"
)

// meaning explains a reason to an operator.
type meaning struct {
	Means string
	// Retry says in a few words whether a retry can help, and Advice what to do first.
	Retry, Advice string
}

// Whether a retry can help.
const (
	helps      = "A retry can help"
	first      = "Correct the cause first"
	mayBill    = "A retry may bill a second link"
	neverHelps = "A retry does not help"
)

// requestMeanings are the meanings of the reasons for which requests fail or are held.
func requestMeanings() map[fault.Reason]meaning {
	return map[fault.Reason]meaning{
		fault.InvalidRequest:      {"FaceKi refused the request as invalid.", first, "A retry sends the same content again. Retry it only if FaceKi's settings were wrong; otherwise request the link again with correct content."},
		fault.WorkflowRules:       {"FaceKi knows no rules for the request's workflow.", first, "Give the workflow its rules at FaceKi, then retry."},
		fault.NotAfter:            {"No link was created before the request's own deadline (not_after).", helps, "A retry has no deadline. Drop it if nobody waits for the link any more."},
		fault.Quarantined:         {"This version of kyclink could not decode or process the request.", first, "Update the workers to the version that accepted it, then retry."},
		fault.UpstreamError:       {"FaceKi failed on this request again and again, while others succeeded.", helps, "If it fails again, its content is the cause. An attempt may have created a link that nobody received."},
		fault.UpstreamUnavailable: {"FaceKi was unavailable.", helps, "Retry once FaceKi works."},
		fault.Throttled:           {"FaceKi asked for fewer calls.", helps, "Retry; lower the rate limit if it happens often."},
		fault.Timeout:             {"FaceKi did not answer in time.", helps, "An attempt may have created a link that nobody received."},
		fault.Connection:          {"FaceKi could not be reached, or the connection was lost.", helps, "Retry once the network works."},
		fault.UnreadableAnswer:    {"FaceKi's answer could not be read.", helps, "Check that no proxy changes the answers. An attempt may have created a link that nobody received."},
		fault.UnknownOutcome:      {"A call may have created a link, but its answer never came.", mayBill, "Look for the ID in FaceKi's console. Retry if there is no link, drop if there is one."},
		fault.UnusableAnswer:      {"FaceKi reported a link, but gave none that can be used.", mayBill, "If the link's host is new, add it to FACEKI_LINK_HOSTS: a retry then uses the link that was kept. Otherwise look for the ID in FaceKi's console."},
	}
}

// deliveryMeanings are the meanings of the reasons for which callbacks are not delivered.
func deliveryMeanings() map[fault.Reason]meaning {
	return map[fault.Reason]meaning{
		fault.Gone:          {"The receiver wants no more callbacks at this URL (HTTP 410).", neverHelps, "Drop them, unless the receiver answered so by mistake."},
		fault.Rejected:      {"The receiver refused the callback.", first, "Correct the receiver's path, its signature check or its access rules, then retry."},
		fault.Redirected:    {"The receiver answered with a redirect, which is not followed.", first, "The callback URL of a request does not change: let the receiver answer at it, then retry."},
		fault.Forbidden:     {"The destination is not allowed.", first, "Allow it with KYCLINK_CALLBACK_HOSTS or KYCLINK_CALLBACK_ALLOW_CIDRS in the workers, then retry."},
		fault.ReceiverError: {"The receiver failed.", helps, "Retry once the receiver works."},
		fault.Throttled:     {"The receiver asked for fewer callbacks.", helps, "Retry at a lower rate."},
		fault.Timeout:       {"The receiver did not answer in time.", helps, "The receiver may have processed it: it must accept an event that comes twice."},
		fault.Connection:    {"The receiver could not be reached.", helps, "Check its name, its certificate and the network, then retry."},
		fault.ProxyError:    {"The proxy for callbacks failed; the receiver was not reached.", helps, "Check KYCLINK_CALLBACK_PROXY in the workers."},
	}
}

// requestMeaning returns the meaning of a request's reason; the zero value if this version
// does not know it.
func requestMeaning(reason string) meaning { return requestMeanings()[fault.Reason(reason)] }

func deliveryMeaning(reason string) meaning { return deliveryMeanings()[fault.Reason(reason)] }

// deliveryReasons returns the reasons of deliveries that were given up or are retried.
func deliveryReasons() []string {
	return texts(slices.Concat(fault.Undelivered(), []fault.Reason{fault.ProxyError}))
}

func texts(reasons []fault.Reason) []string {
	all := make([]string, len(reasons))
	for i, r := range reasons {
		all[i] = string(r)
	}
	return all
}
