package api

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/transfer"
	"github.com/kyclink/kyclink/tasks"
)

// typeBase plus a reason is the type of a problem. It is an identifier, not a page.
const typeBase = "https://github.com/kyclink/kyclink/problems/"

// The reasons that are not about a request for a link. The others are in package fault.
const (
	unauthorizedReason = "unauthorized"
	forbiddenReason    = "forbidden"
	notFoundReason     = "not_found"
	notAllowedReason   = "method_not_allowed"
	notAcceptable      = "not_acceptable"
	slowReason         = "request_timeout"
	endedReason        = "ended"
	setChangedReason   = "set_changed"
	busyReason         = "too_many_actions"
	runningReason      = "already_running"
	wrongStateReason   = "wrong_state"
	tooLargeReason     = "too_large"
	mediaTypeReason    = "unsupported_media_type"
	rateLimitedReason  = "rate_limited"
	headersReason      = "headers_too_large"
	internalReason     = "internal"
	unavailableReason  = "unavailable"
)

// problem is an error response. Its JSON is the body.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id,omitempty"`
	// Errors lists all problems of the request.
	Errors []tasks.Problem `json:"errors,omitempty"`
	// Keys are the keys with different values, in a conflict.
	Keys []string `json:"keys,omitempty"`
	// Count is the number of entries that match, if the set of an action has changed.
	Count *int `json:"count,omitempty"`
	// Action is the ID of the running action that changes the same entries.
	Action string `json:"action,omitempty"`
	// Imported counts the rows that an interrupted upload imported.
	Imported *bulk.Counts `json:"imported,omitempty"`

	retryAfter time.Duration
	header     [2]string // an additional header
	cause      error     // for the log
}

func (p *problem) Error() string { return p.Detail }

func newProblem(status int, reason, title, detail string) *problem {
	return &problem{Type: typeBase + reason, Title: title, Status: status, Detail: detail}
}

// malformed is the response to a request that cannot be parsed.
func malformed(key, message string) *problem {
	return invalid(http.StatusBadRequest, []tasks.Problem{{Key: key, Message: message}})
}

func invalid(status int, problems []tasks.Problem) *problem {
	err := tasks.NewInvalidError(problems)
	p := newProblem(status, string(fault.Invalid), "Invalid request", err.Error())
	p.Errors = err.Problems
	return p
}

// wrongValue is the response to a body with a value that is not permitted.
func wrongValue(key, message string) *problem {
	return invalid(http.StatusUnprocessableEntity, []tasks.Problem{{Key: key, Message: message}})
}

func unauthorized(detail string) *problem {
	p := newProblem(http.StatusUnauthorized, unauthorizedReason, "API key required", detail)
	p.header = [2]string{"WWW-Authenticate", `Bearer realm="kyclink"`}
	return p
}

func forbidden(k apikey.Key, missing apikey.Scope) *problem {
	return newProblem(http.StatusForbidden, forbiddenReason, "Missing scope",
		fmt.Sprintf("key %q does not have the scope %s; use a key that has it", k.Name, missing))
}

func noSuchPath() *problem {
	return newProblem(http.StatusNotFound, notFoundReason, "Path not found", "unknown path; /v1/openapi.yaml lists all paths")
}

func notFound(detail string) *problem {
	return newProblem(http.StatusNotFound, notFoundReason, "Not found", detail)
}

func notAllowed(allow string) *problem {
	p := newProblem(http.StatusMethodNotAllowed, notAllowedReason, "Method not allowed", "use "+allow)
	p.header = [2]string{"Allow", allow}
	return p
}

func headersTooLarge() *problem {
	return newProblem(http.StatusRequestHeaderFieldsTooLarge, headersReason, "Headers too large",
		fmt.Sprintf("the URL and the headers must not exceed %d bytes together", maxHeaders))
}

func tooLarge(limit int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, tooLargeReason, "Body too large",
		fmt.Sprintf("the body must not exceed %d bytes", limit))
}

func tooSlow() *problem {
	p := newProblem(http.StatusRequestTimeout, slowReason, "Request timeout", "the body did not arrive in time; send it again")
	p.header = [2]string{"Connection", "close"} // otherwise net/http waits for the rest of the body before it answers
	return p
}

func tooLong(limit time.Duration) *problem {
	return newProblem(http.StatusRequestTimeout, slowReason, "Request timeout", fmt.Sprintf("the request did not finish within %v", limit))
}

func wrongMediaType(got string, want ...string) *problem {
	given := "the Content-Type is missing"
	if got != "" {
		given = fmt.Sprintf("the Content-Type is %q", legible.Shorten(got))
	}
	return newProblem(http.StatusUnsupportedMediaType, mediaTypeReason, "Unsupported media type",
		fmt.Sprintf("%s; send %s", given, strings.Join(want, " or ")))
}

func ended(l tasks.Link) *problem {
	return newProblem(http.StatusConflict, endedReason, "Already ended",
		fmt.Sprintf("generation %d of %s is %s and cannot be cancelled", l.Generation, l.ApplicationID, l.Status))
}

// wrongState is the response to an operation that does not apply to the present state.
func wrongState(detail string) *problem {
	return newProblem(http.StatusConflict, wrongStateReason, "Wrong state", detail)
}

// unavailable is the response to a failure of Redis.
func unavailable(cause error) *problem {
	p := newProblem(http.StatusServiceUnavailable, unavailableReason, "Service unavailable", storeFailed+"; send the request again: a repeat never creates a second link")
	p.retryAfter, p.cause = 2*time.Second, cause
	return p
}

const storeFailed = "the store of this service failed or did not answer"

// markUncertain adds that Redis may have made the change although it did not confirm it.
func (p *problem) markUncertain() {
	if rest, ok := strings.CutPrefix(p.Detail, storeFailed+"; "); ok {
		p.Detail = storeFailed + "; the change may have been made; " + rest
	}
}

// panicked is the response to a bug. Call it where the panic was recovered, because it
// records the stack.
func panicked(value any) *problem {
	p := newProblem(http.StatusInternalServerError, internalReason, "Internal error",
		"this service has a bug; the log has the details under the request ID")
	p.cause = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
	return p
}

// problemOf converts an error to a response. An unknown error is a failure of Redis.
func problemOf(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(e.Limit)
	}
	if e, ok := errors.AsType[*tasks.InvalidError](err); ok {
		return invalid(http.StatusUnprocessableEntity, e.Problems)
	}
	if e, ok := errors.AsType[*transfer.BusyError](err); ok {
		return busy(e)
	}
	if p := refusal(err); p != nil {
		return p
	}
	if errors.Is(err, tasks.ErrNotFound) {
		return notFound(err.Error())
	}
	return unavailable(err)
}

// refusal returns the response to a valid request that is refused, or nil for other
// errors.
func refusal(err error) *problem {
	if e, ok := errors.AsType[*tasks.CancelledError](err); ok {
		return newProblem(http.StatusConflict, string(fault.Cancelled), "Batch cancelled", e.Error())
	}
	reason := tasks.ReasonOf(err)
	switch fault.Reason(reason) { //nolint:exhaustive // the others are not refusals
	case fault.Conflict:
		p := newProblem(http.StatusConflict, reason, "Conflict with an earlier request", err.Error())
		p.Keys = conflictKeys(err)
		return p
	case fault.GenerationGap:
		return newProblem(http.StatusConflict, reason, "Generation not available", err.Error())
	case fault.BacklogFull:
		p := newProblem(http.StatusServiceUnavailable, reason, "Backlog full", err.Error())
		p.retryAfter = 10 * time.Second
		return p
	}
	return nil
}

func conflictKeys(err error) []string {
	if e, ok := errors.AsType[*tasks.ConflictError](err); ok {
		return e.Keys
	}
	if e, ok := errors.AsType[*tasks.ForeignError](err); ok {
		return e.Keys
	}
	if e, ok := errors.AsType[*tasks.OptionsError](err); ok {
		return e.Keys
	}
	return nil
}

// write sends the response.
func (p *problem) write(c *call) {
	h := c.Header()
	for _, name := range []string{"ETag", "Location", "Preference-Applied", "Content-Disposition"} {
		h.Del(name)
	}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(p.retryAfter.Seconds())))
	}
	if p.header[0] != "" {
		h.Set(p.header[0], p.header[1])
	}
	body := *p
	body.RequestID = c.id
	c.encode(p.Status, "application/problem+json", body)
}
