package console

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/search"
)

// pageSize is how many entries a list shows at a time.
const pageSize = 50

// requestsData is the list of requests.
type requestsData struct {
	// Form are the filters as they were given; Filtered says whether there is one.
	Form     map[string]string
	Filtered bool
	Problem  string // with the filters

	Rows []requestRow
	Next string // the address of the next page; "" if there is none
	// Examined is how many requests were read, and Unreadable how many of these cannot be
	// decoded.
	Examined, Unreadable int

	States  []request.State
	Lanes   []request.Lane
	Reasons []string
	Now     time.Time

	Of         request.State // if the page lists requests of one state only
	Selectable bool          // for an action
	path       string        // of the page
}

type requestRow struct {
	request.Record
	BatchName string
}

// InOrder reports whether the filters select a list that has an order.
func (d requestsData) InOrder() bool {
	status := request.State(d.Form["status"])
	return status == request.Failed || status == request.Held || d.Form["batch"] != ""
}

// filters are the parameters of the list that select requests.
func filters() []string {
	return []string{"status", "reason", "batch", "lane", "since", "before", "id"}
}

func (c *Console) requestsPage(ctx context.Context, v *visit) error {
	query := v.r.URL.Query()
	if id := strings.TrimSpace(query.Get("id")); id != "" && query.Get("cursor") == "" {
		if _, ok, err := c.Stores.Records.Get(ctx, id); ok && err == nil && onlyID(query) {
			return v.redirect("/request?" + url.Values{"id": {id}}.Encode())
		}
	}
	now, err := c.operator.Now(ctx)
	if err != nil {
		return err
	}
	d := requestsData{Now: now, States: request.States[:], Lanes: lanes(), Reasons: texts(slices.Concat(fault.Holds(), fault.Ends())), path: "/requests"}
	d.Form, d.Filtered = readForm(query, filters()...)
	f, problem, err := c.filter(ctx, d.Form, now)
	if err != nil {
		return err
	}
	if d.Problem = problem; problem == "" {
		if err := c.search(ctx, &d, f, query.Get("cursor")); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if d.Problem != "" {
		status = http.StatusUnprocessableEntity
	}
	return c.show(v, status, "requests", "Requests", d)
}

// onlyID reports whether the ID is the only filter.
func onlyID(query url.Values) bool {
	return !slices.ContainsFunc(filters(), func(name string) bool { return name != "id" && query.Get(name) != "" })
}

// filter converts the form. A problem is a mistake of the operator, in words.
func (c *Console) filter(ctx context.Context, form map[string]string, now time.Time) (f search.Filter, problem string, err error) {
	f = search.Filter{
		Status: request.State(form["status"]), Reason: form["reason"], Lane: request.Lane(form["lane"]), IDPrefix: form["id"],
	}
	for name, to := range map[string]*time.Time{"since": &f.Since, "before": &f.Before} {
		if form[name] == "" {
			continue
		}
		if *to, err = operator.ParseTime(legible.Shorten(form[name]), now); err != nil {
			return f, err.Error() + ".", nil //nolint:nilerr // it is the operator's mistake
		}
		// A cursor belongs to one filter, so that the next page needs this very time.
		form[name] = to.UTC().Truncate(time.Second).Format(time.RFC3339)
		*to = to.Truncate(time.Second)
	}
	if !f.Since.IsZero() && !f.Before.IsZero() && !f.Since.Before(f.Before) {
		return f, "The beginning of the period is not earlier than its end, so that nothing can match.", nil
	}
	if form["batch"] == "" {
		return f, "", nil
	}
	number, ok, err := c.Stores.Batches.Number(ctx, form["batch"])
	if err == nil && !ok {
		problem = "There is no batch of this name."
	}
	f.Batch = number
	return f, problem, err
}

// search adds a page of requests.
func (c *Console) search(ctx context.Context, d *requestsData, f search.Filter, cursor string) error {
	page, err := search.New(c.Redis, c.Stores.Keys).Page(ctx, f, cursor, pageSize)
	if refused, ok := errors.AsType[*search.CursorError](err); ok {
		d.Problem = "The address does not continue this list: " + refused.Error() + "."
		return nil
	}
	if err != nil {
		return err
	}
	names := map[int]string{0: ""}
	for _, r := range page.Records {
		if _, ok := names[r.Batch]; !ok {
			if names[r.Batch], err = c.Stores.Batches.Name(ctx, r.Batch); err != nil {
				return err
			}
		}
		d.Rows = append(d.Rows, requestRow{r, names[r.Batch]})
	}
	d.Examined, d.Unreadable = page.Examined, page.Unreadable
	if page.Next != "" {
		d.Next = address(d.path, with(d.Form, "cursor", page.Next))
	}
	return nil
}

// Why is the reason of a request's outcome with its message, for people.
func (r requestRow) Why() string {
	return cmp.Or(r.Outcome.Message, strings.ReplaceAll(r.Outcome.Reason, "_", " "))
}
