package tasks

import (
	"fmt"
	"slices"

	"github.com/kyclink/kyclink/internal/request"
)

// Caller is the originator of the requests of a [Client], for services in which
// originators must not see each other's requests. The zero value has no restriction.
type Caller struct {
	// ID is stored with every request and batch of the caller.
	ID string
	// OnlyOwn refuses, with a [*ForeignError], access to the requests and batches of
	// other callers: their links, next generations and rows.
	OnlyOwn bool
	// RedirectHosts restricts redirect_url in addition to [Config].RedirectHosts.
	RedirectHosts []string
}

// As returns a client that acts for a caller.
func (c *Client) As(caller Caller) *Client {
	as := *c
	as.caller = caller
	as.destinations.redirects = append(slices.Clip(c.destinations.redirects), redirectHosts{caller.RedirectHosts, "this API key"})
	return &as
}

// maySee reports whether the caller may see a record and request its next generation.
func (c Caller) maySee(r *request.Record) bool { return !c.OnlyOwn || r.Content.By == c.ID }

// ForeignError reports that another caller has requested the ID or created the batch
// (reason "conflict"). Its text does not depend on the content of that request, so that
// it reveals nothing about it.
type ForeignError struct {
	ApplicationID string // or
	Batch         string
	Keys          []string // all keys that were given
}

func foreign(req Request) error {
	return &ForeignError{ApplicationID: req.ApplicationID, Keys: append([]string{"application_id"}, req.content().Keys()...)}
}

func foreignBatch(b Batch) error {
	return &ForeignError{Batch: b.Name, Keys: append([]string{"batch"}, b.Options.request().content().Keys()...)}
}

func (e *ForeignError) Error() string {
	if e.Batch != "" {
		return fmt.Sprintf("batch %q belongs to another API key; use another batch, or a key with the scope read", e.Batch)
	}
	return fmt.Sprintf("%s was requested with another API key; use another application ID, or a key with the scope read", e.ApplicationID)
}
