package api

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/bulk"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/tasks"
)

// typeBase and a reason are a problem's type. Nothing is to be fetched there.
const typeBase = "https://github.com/kyclink/kyclink/problems/"

// Reasons of answers that say nothing of a request for a link; the others are in
// package fault.
const (
	unauthorizedReason = "unauthorized"
	forbiddenReason    = "forbidden"
	notFoundReason     = "not_found"
	notAllowedReason   = "method_not_allowed"
	notAcceptable      = "not_acceptable"
	slowReason         = "request_timeout"
	endedReason        = "ended"
	tooLargeReason     = "too_large"
	mediaTypeReason    = "unsupported_media_type"
	rateLimitedReason  = "rate_limited"
	headersReason      = "headers_too_large"
	internalReason     = "internal"
	unavailableReason  = "unavailable"
)

// problem is an answer that is no success: its JSON is the body.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	RequestID string `json:"request_id,omitempty"`
	// Errors is all that is wrong with what was sent.
	Errors []tasks.Problem `json:"errors,omitempty"`
	// Keys are those that differ, of a conflict.
	Keys []string `json:"keys,omitempty"`
	// Imported is how far an upload came.
	Imported *bulk.Counts `json:"imported,omitempty"`

	retryAfter time.Duration
	header     [2]string // one more
	cause      error     // for the log
}

func (p *problem) Error() string { return p.Detail }

func newProblem(status int, reason, title, detail string) *problem {
	return &problem{Type: typeBase + reason, Title: title, Status: status, Detail: detail}
}

// unreadable is a request that could not be taken apart.
func unreadable(key, message string) *problem {
	return invalid(http.StatusBadRequest, []tasks.Problem{{Key: key, Message: message}})
}

func invalid(status int, problems []tasks.Problem) *problem {
	err := tasks.NewInvalidError(problems)
	p := newProblem(status, string(fault.Invalid), "The request is invalid", err.Error())
	p.Errors = err.Problems
	return p
}

func unauthorized(detail string) *problem {
	p := newProblem(http.StatusUnauthorized, unauthorizedReason, "An API key is needed", detail)
	p.header = [2]string{"WWW-Authenticate", `Bearer realm="kyclink"`}
	return p
}

func forbidden(k Key, missing Scope) *problem {
	return newProblem(http.StatusForbidden, forbiddenReason, "The API key does not allow this",
		fmt.Sprintf("the key %q has no scope %s; use one that has it", k.Name, missing))
}

func noSuchPath() *problem {
	return newProblem(http.StatusNotFound, notFoundReason, "There is no such path", "there is nothing at this path; /v1/openapi.yaml lists what there is")
}

func notFound(detail string) *problem {
	return newProblem(http.StatusNotFound, notFoundReason, "It is not known", detail)
}

func notAllowed(allow string) *problem {
	p := newProblem(http.StatusMethodNotAllowed, notAllowedReason, "The method is not allowed here", "use "+allow)
	p.header = [2]string{"Allow", allow}
	return p
}

func headersTooLarge() *problem {
	return newProblem(http.StatusRequestHeaderFieldsTooLarge, headersReason, "The headers are too large",
		fmt.Sprintf("the URL and the headers have at most %d bytes together", maxHeaders))
}

func tooLarge(limit int64) *problem {
	return newProblem(http.StatusRequestEntityTooLarge, tooLargeReason, "The body is too large",
		fmt.Sprintf("a body has at most %d bytes here", limit))
}

func tooSlow() *problem {
	return newProblem(http.StatusRequestTimeout, slowReason, "The body came too slowly", "the body did not come in time; send it again")
}

func tooLong(limit time.Duration) *problem {
	return newProblem(http.StatusRequestTimeout, slowReason, "It took too long", fmt.Sprintf("it was not over within %v", limit))
}

func wrongMediaType(got string, want ...string) *problem {
	said := "no Content-Type was given"
	if got != "" {
		said = fmt.Sprintf("the Content-Type is %q", legible.Shorten(got))
	}
	return newProblem(http.StatusUnsupportedMediaType, mediaTypeReason, "The body is of another type",
		fmt.Sprintf("%s; send %s, and say so", said, strings.Join(want, " or ")))
}

func ended(l tasks.Link) *problem {
	return newProblem(http.StatusConflict, endedReason, "It has ended",
		fmt.Sprintf("generation %d of %s is %s: there is nothing to cancel", l.Generation, l.ApplicationID, l.Status))
}

// unavailable is whatever went wrong with Redis.
func unavailable(cause error) *problem {
	p := newProblem(http.StatusServiceUnavailable, unavailableReason, "It cannot be done now", silent+"; ask again, which never makes a second link")
	p.retryAfter, p.cause = 2*time.Second, cause
	return p
}

const silent = "the store behind this service did not answer as it should"

// doubtful says of a change that Redis may have made it without a word.
func (p *problem) doubtful() {
	if rest, ok := strings.CutPrefix(p.Detail, silent+"; "); ok {
		p.Detail = silent + ": it may have been done all the same; " + rest
	}
}

// panicked is of a bug. It is called where it was recovered, for the stack's sake.
func panicked(value any) *problem {
	p := newProblem(http.StatusInternalServerError, internalReason, "Something is wrong with this service",
		"this is not the request's fault; its request id leads to a log line that says more")
	p.cause = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
	return p
}

// problemOf finds the answer to an error. What it does not know is Redis'.
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
	if p := refusal(err); p != nil {
		return p
	}
	if errors.Is(err, tasks.ErrNotFound) {
		return notFound(err.Error())
	}
	return unavailable(err)
}

// refusal is what stands against a request that is valid in itself; nil where
// that is not what the error says.
func refusal(err error) *problem {
	if e, ok := errors.AsType[*tasks.CancelledError](err); ok {
		return newProblem(http.StatusConflict, string(fault.Cancelled), "The batch is cancelled", e.Error())
	}
	reason := tasks.ReasonOf(err)
	switch fault.Reason(reason) { //nolint:exhaustive // the others are no refusals
	case fault.Conflict:
		p := newProblem(http.StatusConflict, reason, "It conflicts with what was asked for before", err.Error())
		p.Keys = conflictKeys(err)
		return p
	case fault.GenerationGap:
		return newProblem(http.StatusConflict, reason, "This generation cannot be asked for", err.Error())
	case fault.BacklogFull:
		p := newProblem(http.StatusServiceUnavailable, reason, "Too much waits already", err.Error())
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

// write answers with the problem.
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
	told := *p
	told.RequestID = c.id
	c.encode(p.Status, "application/problem+json", told)
}
