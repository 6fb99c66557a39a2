package api

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/kyclink/kyclink/internal/audit"
	"github.com/kyclink/kyclink/internal/results"
)

// listWorkers returns the live worker processes.
func (a *API) listWorkers(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	workers, err := a.Stores.Account.Workers(ctx)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, workers)
}

// How many consumer groups a response has, and how many events are counted for a group
// whose lag Redis does not know.
const (
	maxGroups  = 100
	maxCounted = 1000
)

// listGroups returns the state of the results stream and its consumer groups.
func (a *API) listGroups(c *call) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	s, err := a.Stores.Results.Sample(ctx, maxGroups, maxCounted)
	if err != nil {
		return err
	}
	if s.Groups == nil {
		s.Groups = []results.Group{}
	}
	return c.json(http.StatusOK, s)
}

// maxChanges is the maximum number of changes on a page.
const maxChanges = 1000

// changePage is one page of the audit trail.
type changePage struct {
	Changes []change `json:"changes"`
	Next    string   `json:"next,omitempty"` // the cursor of the next page
}

// change is the public form of an entry of the audit trail.
type change struct {
	At        time.Time `json:"at"`
	Key       string    `json:"key,omitempty"` // its ID
	Name      string    `json:"name,omitempty"`
	By        string    `json:"by,omitempty"` // of a change without a key
	Action    string    `json:"action"`
	Target    string    `json:"target,omitempty"`
	RequestID string    `json:"request_id,omitempty"`
}

var entryID = regexp.MustCompile(`^[0-9]{1,19}-[0-9]{1,19}$`)

// listChanges returns one page of the audit trail, the newest change first. A cursor is the
// ID of the last entry on the page before.
func (a *API) listChanges(c *call) error {
	if err := c.noBody("since", "before", "cursor", "limit"); err != nil {
		return err
	}
	limit, err := c.pageSize(maxChanges)
	if err != nil {
		return err
	}
	since, before, err := parsePeriod(c.r.URL.Query().Get)
	if err != nil {
		return err
	}
	after, err := c.place()
	if err != nil {
		return err
	}
	if after != "" && !entryID.MatchString(after) {
		return wrongCursor()
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	found, next, err := audit.NewTrail(a.Redis, a.Stores.Keys.Account).Page(ctx, since, before, after, limit)
	if err != nil {
		return err
	}
	page := changePage{Changes: make([]change, len(found))}
	for i, f := range found {
		page.Changes[i] = change{f.At, f.Key.ID, f.Key.Name, f.By, f.Action, f.Target, f.RequestID}
	}
	if next != "" {
		page.Next = cursor(next)
	}
	return c.json(http.StatusOK, page)
}
