package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/search"
	"github.com/kyclink/kyclink/tasks"
)

// defaultLinks is the size of a page of links.
const defaultLinks = 100

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
	limit := defaultLinks
	if text := query.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > search.MaxLimit {
			return malformed("limit", fmt.Sprintf("must be a whole number from 1 to %d", search.MaxLimit))
		}
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
	for name, to := range map[string]*time.Time{"since": &f.Since, "before": &f.Before} {
		if text := value(name); text != "" {
			if *to, err = time.Parse(time.RFC3339, text); err != nil {
				return f, malformed(name, "must be a time such as 2026-12-01T00:00:00Z")
			}
		}
	}
	if name := value("batch"); name != "" {
		number, ok, err := a.Stores.Batches.Number(ctx, name)
		if err != nil {
			return f, err
		}
		if !ok {
			return f, notFound(fmt.Sprintf("there is no batch %q", name))
		}
		f.Batch = number
	}
	return f, nil
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
