package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// Scope is a kind of things that a key allows.
type Scope string

// The scopes. None includes another one.
const (
	Enqueue Scope = "enqueue" // ask for links
	Read    Scope = "read"    // see links, batches and the account
	Operate Scope = "operate" // pause, resume, cancel, retry
)

// Scopes lists all scopes.
func Scopes() []Scope { return []Scope{Enqueue, Read, Operate} }

// Key is an API key that was verified: what is known of it, and not the key
// itself.
type Key struct {
	// ID is no secret, and never given to another key.
	ID     string
	Name   string
	Scopes []Scope
	// RedirectHosts are the hosts that a redirect_url may lead to; any where there is
	// none.
	RedirectHosts []string
}

// Allows says whether the key has a scope.
func (k Key) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

// maker is as whom the key asks for links.
func (k Key) maker() tasks.Caller {
	return tasks.Caller{ID: k.ID, OnlyOwn: !k.Allows(Read), RedirectHosts: k.RedirectHosts}
}

// ErrUnknownKey says that there is no such key, or that it was revoked.
var ErrUnknownKey = errors.New("there is no such API key, or it was revoked")

// Keys knows the keys of an account. It is safe for concurrent use.
type Keys interface {
	// Verify gives the key that was presented, or [ErrUnknownKey]; any other
	// error says that it could not be found out.
	Verify(ctx context.Context, presented string) (Key, error)
}

// Change is one thing that somebody made happen.
type Change struct {
	// At is by Redis' clock; whoever appends leaves it zero.
	At time.Time
	// Key is whose it was; its zero value for what was done on the command line.
	Key Key
	// By is who did it on the command line, as user@host; empty for a key.
	By string
	// Action is what was done, such as "links.request" or "batches.pause".
	Action string
	// Target is to what: an application id, a batch's name, or empty for the
	// account.
	Target string
	// RequestID is the one that the answer and the log have.
	RequestID string
}

// Audit is the trail of changes. It is safe for concurrent use.
type Audit interface {
	// Append returns when the change is in the trail.
	Append(ctx context.Context, c Change) error
}
