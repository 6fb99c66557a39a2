// Package apikey stores the API keys of an account in Redis and verifies them.
package apikey

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kyclink/kyclink/internal/legible"
)

// Scope is a permission of a key.
type Scope string

// The scopes. No scope includes another.
const (
	Enqueue Scope = "enqueue" // request links
	Read    Scope = "read"    // read links, batches and the account
	Operate Scope = "operate" // pause, resume, cancel, retry
)

// Scopes returns all scopes, in the order of the documentation.
func Scopes() []Scope { return []Scope{Enqueue, Read, Operate} }

// JoinScopes returns scopes as a comma-separated list.
func JoinScopes(scopes []Scope) string {
	texts := make([]string, len(scopes))
	for i, s := range scopes {
		texts[i] = string(s)
	}
	return strings.Join(texts, ",")
}

// Key is a verified API key, without its secret.
type Key struct {
	// ID is not secret, and is never used for another key.
	ID     string
	Name   string
	Scopes []Scope
	// RedirectHosts are the hosts that a redirect_url may name; every host if empty.
	RedirectHosts []string
}

// Allows reports whether the key has a scope.
func (k Key) Allows(s Scope) bool { return slices.Contains(k.Scopes, s) }

const maxName = 64 // characters

// Check returns an error if a key cannot have this name and these scopes.
func Check(name string, scopes []Scope) error {
	if problem := legible.WrongName(name, utf8.UTFMax*maxName); problem != "" {
		return fmt.Errorf("key name %+q: %s; use 1 to %d printable characters", legible.Shorten(name), problem, maxName)
	}
	if utf8.RuneCountInString(name) > maxName {
		return fmt.Errorf("key name %+q is too long; use 1 to %d printable characters", name, maxName)
	}
	if len(scopes) == 0 {
		return fmt.Errorf("a key needs a scope; the scopes are %s", JoinScopes(Scopes()))
	}
	for _, s := range scopes {
		if !slices.Contains(Scopes(), s) {
			return fmt.Errorf("unknown scope %q; the scopes are %s", s, JoinScopes(Scopes()))
		}
	}
	return nil
}

// ErrUnknown means that no valid key matches: there is none, or it was revoked.
var ErrUnknown = errors.New("the API key is unknown or was revoked")

// Reason is the reason why a request has no valid API key. It is a metric label.
type Reason string

// The reasons. HTTP responses do not distinguish Malformed, Unknown and Revoked.
const (
	Missing   Reason = "missing"   // the request has no key
	Malformed Reason = "malformed" // the key does not have the form of a key
	Unknown   Reason = "unknown"   // no key has this ID, or the secret is wrong
	Revoked   Reason = "revoked"
)

// RefusedError is an [ErrUnknown] with details for the log.
type RefusedError struct {
	Reason Reason
	ID     string // as presented; empty if it does not have the form of an ID
}

func (e *RefusedError) Error() string { return ErrUnknown.Error() }

// Unwrap makes e an [ErrUnknown].
func (e *RefusedError) Unwrap() error { return ErrUnknown }
