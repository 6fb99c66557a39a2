package tasks

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kyclink/kyclink/internal/fault"
)

// ErrNotFound says that nothing is known of an application id.
var ErrNotFound = errors.New("no request with this application id is known")

// ConflictError says that the id was asked for before with other content
// (reason "conflict").
type ConflictError struct {
	ApplicationID string
	Keys          []string // that differ
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s was asked for before with another %s; leave these out, or use another application id",
		e.ApplicationID, strings.Join(e.Keys, ", "))
}

// GapError says that there is no generation Want (reason "generation_gap"): the
// one before has not ended, or does not exist.
type GapError struct {
	ApplicationID string
	Want, Latest  int    // Latest is 0 where the id is unknown
	Status        Status // of the latest
}

func (e *GapError) Error() string {
	if e.Latest == 0 {
		return fmt.Sprintf("%s is unknown: its first generation is 1, not %d", e.ApplicationID, e.Want)
	}
	if e.Want <= e.Latest+1 && e.Status.Ended() { // only Look says so
		return fmt.Sprintf("generation %d of %s was not asked for before generation %d had ended: ask again",
			e.Want, e.ApplicationID, e.Latest)
	}
	if e.Want <= e.Latest+1 {
		return fmt.Sprintf("generation %d of %s is still %s: generation %d can be asked for when it has ended",
			e.Latest, e.ApplicationID, e.Status, e.Want)
	}
	return fmt.Sprintf("the latest generation of %s is %d: the next one is %d, not %d",
		e.ApplicationID, e.Latest, e.Latest+1, e.Want)
}

// UnreadableError says that what is stored for an id cannot be read by this version of
// kyclink, so that nobody can say whether the same was asked for (reason "conflict"):
// a newer version wrote it, or it is damaged. Nothing was changed.
type UnreadableError struct {
	ApplicationID string
	Err           error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("what is stored for %s cannot be read by this version of kyclink; ask again with the version that the workers have: %v", e.ApplicationID, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// BacklogError says that a lane has as many requests waiting as it may, so that no
// new one is accepted, and no waiting one brought forward into it (reason
// "backlog_full"): try again later. What was accepted before is not touched.
type BacklogError struct {
	Lane  Lane
	Limit int
}

func (e *BacklogError) Error() string {
	return fmt.Sprintf("the %s lane has all the %d requests waiting that it may have (KYCLINK_MAX_BACKLOG); try again later", e.Lane, e.Limit)
}

// ReasonOf gives the public word for an error of [Client.Enqueue] or
// [Client.EnqueueAll], or "" for
// one that says nothing of the request, such as a lost connection.
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
