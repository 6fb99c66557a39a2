package tasks

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kyclink/kyclink/internal/fault"
)

// ErrNotFound reports that an application ID is unknown.
var ErrNotFound = errors.New("no request has this application ID")

// ConflictError reports that the ID was requested before with other content (reason
// "conflict").
type ConflictError struct {
	ApplicationID string
	Keys          []string // with different values
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s was requested before with different values of %s; omit these keys, or use another application ID",
		e.ApplicationID, strings.Join(e.Keys, ", "))
}

// GapError reports that generation Want cannot be requested (reason "generation_gap"):
// the one before it has not ended, or does not exist.
type GapError struct {
	ApplicationID string
	Want, Latest  int    // Latest is 0 if the ID is unknown
	Status        Status // of the latest generation
}

func (e *GapError) Error() string {
	if e.Latest == 0 {
		return fmt.Sprintf("%s is unknown: its first generation is 1, not %d", e.ApplicationID, e.Want)
	}
	if e.Want <= e.Latest+1 && e.Status.Ended() { // only Preview returns this
		return fmt.Sprintf("generation %d of %s has not been requested since generation %d ended: request it again",
			e.Want, e.ApplicationID, e.Latest)
	}
	if e.Want <= e.Latest+1 {
		return fmt.Sprintf("generation %d of %s is still %s: generation %d can be requested when it has ended",
			e.Latest, e.ApplicationID, e.Status, e.Want)
	}
	return fmt.Sprintf("the latest generation of %s is %d: the next one is %d, not %d",
		e.ApplicationID, e.Latest, e.Latest+1, e.Want)
}

// UnreadableError reports that this version of kyclink cannot decode what is stored for
// an ID (reason "conflict"): a newer version wrote it, or it is damaged. Nothing was
// changed.
type UnreadableError struct {
	ApplicationID string
	Err           error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s: this version of kyclink cannot decode the stored request; use the version that the workers have: %v", e.ApplicationID, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// BacklogError reports that a lane's backlog is full (reason "backlog_full"): no new
// request is accepted in it, and none is moved to it. Try again later.
type BacklogError struct {
	Lane  Lane
	Limit int
}

func (e *BacklogError) Error() string {
	return fmt.Sprintf("the backlog of the %s lane is full (KYCLINK_MAX_BACKLOG is %d); try again later", e.Lane, e.Limit)
}

// CancelledError reports that a batch is cancelled, which cannot be undone.
type CancelledError struct{ Batch string }

func (e *CancelledError) Error() string {
	return fmt.Sprintf("batch %q is cancelled and accepts no rows; import them into another batch", e.Batch)
}

// ReasonOf returns the reason of an error of [Client.Enqueue] or [Client.EnqueueAll], or
// "" if the error is not about the request, such as a lost connection.
func ReasonOf(err error) string {
	if _, ok := errors.AsType[*InvalidError](err); ok {
		return string(fault.Invalid)
	}
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return string(fault.Conflict)
	}
	if _, ok := errors.AsType[*ForeignError](err); ok {
		return string(fault.Conflict)
	}
	if _, ok := errors.AsType[*OptionsError](err); ok {
		return string(fault.Conflict)
	}
	if _, ok := errors.AsType[*UnreadableError](err); ok {
		return string(fault.Conflict)
	}
	if _, ok := errors.AsType[*GapError](err); ok {
		return string(fault.GenerationGap)
	}
	if _, ok := errors.AsType[*BacklogError](err); ok {
		return string(fault.BacklogFull)
	}
	return ""
}
