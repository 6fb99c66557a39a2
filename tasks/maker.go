package tasks

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/request"
)

// Caller is whoever makes requests through a [Client], where the makers of one
// account do not trust each other. The zero value may do everything.
type Caller struct {
	// ID is stored with each request and batch that is made.
	ID string
	// OnlyOwn refuses, with a [*ForeignError], whatever concerns a request or a batch
	// that another maker made: its link, its next generation, its rows.
	OnlyOwn bool
	// RedirectHosts restricts redirect_url as [Config].RedirectHosts does, besides it.
	RedirectHosts []string
}

// As gives a client that acts for a maker.
func (c *Client) As(m Caller) *Client {
	as := *c
	as.caller = m
	as.destinations.redirects = append(slices.Clip(c.destinations.redirects), redirectHosts{m.RedirectHosts, "this API key"})
	return &as
}

// maySee says whether a record may be shown, and followed by another generation.
func (m Caller) maySee(r *request.Record) bool { return !m.OnlyOwn || r.Content.By == m.ID }

// ForeignError says that another maker asked for the id, or began the batch (reason
// "conflict"). It is the same whatever the request holds, so that nobody finds out by
// it what was asked for.
type ForeignError struct {
	ApplicationID string // or
	Batch         string
	Keys          []string // all that were given
}

func foreign(req Request) error {
	return &ForeignError{ApplicationID: req.ApplicationID, Keys: append([]string{"application_id"}, req.content().Keys()...)}
}

func foreignBatch(b Batch) error {
	return &ForeignError{Batch: b.Name, Keys: append([]string{"batch"}, b.Options.request().content().Keys()...)}
}

func (e *ForeignError) Error() string {
	if e.Batch != "" {
		return fmt.Sprintf("batch %q was begun by another producer, whose batches this API key cannot extend without the scope read; use another batch", e.Batch)
	}
	return fmt.Sprintf("%s was asked for by another producer, whose requests this API key cannot see without the scope read; use another application id", e.ApplicationID)
}

// destinations is where a request may send a person, and its events.
type destinations struct {
	callbacks Callbacks
	redirects []redirectHosts // all must allow it
}

// redirectHosts are hosts that a redirect_url may lead to; any where there is none.
type redirectHosts struct {
	hosts []string
	whose string
}

func (d destinations) problems(r *Request) []Problem {
	var problems []Problem
	for _, allowed := range d.redirects {
		if problem := allowed.problem(r.RedirectURL); problem != "" {
			problems = append(problems, Problem{"redirect_url", problem})
			break
		}
	}
	if problem := d.callbacks.Problem(r.CallbackURL); problem != "" {
		problems = append(problems, Problem{"callback_url", problem})
	}
	return problems
}

func (a redirectHosts) problem(redirectURL string) string {
	if redirectURL == "" || len(a.hosts) == 0 {
		return ""
	}
	u, err := url.Parse(redirectURL)
	if err != nil {
		return "is not a URL"
	}
	host, err := hostname.Canonical(u.Hostname())
	if err != nil {
		return fmt.Sprintf("names a host that %v", err)
	}
	if slices.ContainsFunc(a.hosts, func(h string) bool { return h == "*" || sameHost(h, host) }) {
		return ""
	}
	return fmt.Sprintf("must not lead to %s: %s allows %s", legible.Shorten(host), a.whose, strings.Join(a.hosts, ", "))
}
