package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/search"
	"github.com/kyclink/kyclink/tasks"
)

// linkPage is one page of a search for links.
type linkPage struct {
	Links []tasks.Link `json:"links"`
	Next  string       `json:"next,omitempty"` // the cursor of the next page
	// Examined is how many requests were read for the page.
	Examined int `json:"examined"`
	// Unreadable is how many of these cannot be decoded: a newer version wrote them, or they
	// are damaged.
	Unreadable int `json:"unreadable,omitempty"`
}

func (a *API) listLinks(c *call) error {
	if err := c.noBody("status", "reason", "batch", "lane", "since", "before", "id_prefix", "cursor", "limit"); err != nil {
		return err
	}
	query := c.r.URL.Query()
	limit, err := c.pageSize(search.MaxLimit)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	f, err := a.searchFilter(ctx, query.Get)
	if err != nil {
		return err
	}
	page, err := search.New(a.Redis, a.Stores.Keys).Page(ctx, f, query.Get("cursor"), limit)
	if refused, ok := errors.AsType[*search.CursorError](err); ok {
		return malformed("cursor", refused.Error())
	}
	if err != nil {
		return err
	}
	links, err := a.linksOf(ctx, page.Records)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, linkPage{links, page.Next, page.Examined, page.Unreadable})
}

// searchFilter parses the filter that the query contains.
func (a *API) searchFilter(ctx context.Context, value func(string) string) (f search.Filter, err error) {
	f.Status, f.Reason, f.Lane, f.IDPrefix = request.State(value("status")), value("reason"), request.Lane(value("lane")), value("id_prefix")
	if f.Status != "" && !slices.Contains(request.States[:], f.Status) {
		return f, malformed("status", fmt.Sprintf("must be one of %s", join(request.States[:])))
	}
	if lanes := []request.Lane{request.Interactive, request.Bulk}; f.Lane != "" && !slices.Contains(lanes, f.Lane) {
		return f, malformed("lane", fmt.Sprintf("must be one of %s", join(lanes)))
	}
	if f.Since, f.Before, err = parsePeriod(value); err != nil {
		return f, err
	}
	f.Batch, err = a.batchNumber(ctx, value("batch"))
	return f, err
}

// parsePeriod parses the times since and before, of which either may be missing.
func parsePeriod(value func(string) string) (since, before time.Time, err error) {
	for name, to := range map[string]*time.Time{"since": &since, "before": &before} {
		if text := value(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return since, before, malformed(name, "must be a time such as 2026-12-01T00:00:00Z")
			}
		}
	}
	if !since.IsZero() && !before.IsZero() && !since.Before(before) {
		return since, before, malformed("since", "must be earlier than before, or nothing can match")
	}
	return since, before, nil
}

// batchNumber returns the number of a batch; 0 for an empty name.
func (a *API) batchNumber(ctx context.Context, name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	number, ok, err := a.Stores.Batches.Number(ctx, name)
	if err == nil && !ok {
		err = notFound(fmt.Sprintf("there is no batch %q", legible.Shorten(name)))
	}
	return number, err
}

func join[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = string(w)
	}
	return strings.Join(texts, ", ")
}

// linksOf returns the links of records, with the names of their batches.
func (a *API) linksOf(ctx context.Context, records []request.Record) ([]tasks.Link, error) {
	names := map[int]string{0: ""}
	links := make([]tasks.Link, 0, len(records))
	for _, r := range records {
		if _, ok := names[r.Batch]; !ok {
			name, err := a.Stores.Batches.Name(ctx, r.Batch)
			if err != nil {
				return nil, err
			}
			names[r.Batch] = name
		}
		links = append(links, linkview.Of(r, names[r.Batch], time.Now()))
	}
	return links, nil
}
