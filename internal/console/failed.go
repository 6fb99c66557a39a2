package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/apikey"
	"github.com/kyclink/kyclink/internal/fault"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/search"
)

// deadData is the failed or the held requests: their groups by reason, and a list of those
// that match the filters.
type deadData struct {
	requestsData
	bulkData
	State request.State
}

// Matching is how many requests match all filters.
func (d deadData) Matching() int { return d.Tally.Number(d.Form["reason"]) }

// Meaning explains a reason.
func (d deadData) Meaning(reason string) meaning { return requestMeaning(reason) }

// Query returns the filters as the query of an address.
func (d deadData) Query() string { return query(d.Form) }

// With returns the address of the page with another reason.
func (d deadData) With(reason string) string {
	return address(d.Address, with(d.Form, "reason", reason))
}

// address returns the address of a page with the filters of a form.
func address(path string, form map[string]string) string {
	if q := query(form); q != "" {
		return path + "?" + q
	}
	return path
}

func query(form map[string]string) string {
	q := url.Values{}
	for name, value := range form {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q.Encode()
}

// with returns a form with another value of a field.
func with(form map[string]string, name, value string) map[string]string {
	other := map[string]string{name: value}
	for n, v := range form {
		if n != name {
			other[n] = v
		}
	}
	return other
}

func failedData() deadData {
	return deadData{requestsData{Reasons: texts(fault.Ends())}, bulkData{listText: failedList(), Retry: action.RetryFailed, Drop: action.DropFailed}, request.Failed}
}

func heldData() deadData {
	return deadData{requestsData{Reasons: texts(fault.Holds())}, bulkData{listText: heldList(), Retry: action.RetryHeld, Drop: action.DropHeld}, request.Held}
}

func (c *Console) failedPage(ctx context.Context, v *visit) error {
	return c.deadPage(ctx, v, failedData(), "Failed requests")
}

func (c *Console) heldPage(ctx context.Context, v *visit) error {
	return c.deadPage(ctx, v, heldData(), "Held requests")
}

func (c *Console) failedGroups(ctx context.Context, v *visit) error {
	return c.deadGroups(ctx, v, failedData())
}

func (c *Console) heldGroups(ctx context.Context, v *visit) error {
	return c.deadGroups(ctx, v, heldData())
}

// deadGroups sends the part of the page that changes while requests are counted.
func (c *Console) deadGroups(ctx context.Context, v *visit, d deadData) error {
	if _, err := c.readDead(ctx, v, &d); err != nil {
		return err
	}
	return c.fragment(v, "failed", "groups", d)
}

// deadPage shows a list of requests that wait for a person.
func (c *Console) deadPage(ctx context.Context, v *visit, d deadData, title string) error {
	f, err := c.readDead(ctx, v, &d)
	if err != nil {
		return err
	}
	if d.Problem == "" {
		if err := c.search(ctx, &d.requestsData, f, v.r.URL.Query().Get("cursor")); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if d.Problem != "" {
		status = http.StatusUnprocessableEntity
	}
	return c.show(v, status, "failed", title, d)
}

// readDead reads the filters of a page and, if they have no problem, the groups.
func (c *Console) readDead(ctx context.Context, v *visit, d *deadData) (f search.Filter, err error) {
	if d.Now, err = c.operator.Now(ctx); err != nil {
		return f, err
	}
	d.Lanes, d.Of, d.Selectable, d.path = lanes(), d.State, v.session.key.Allows(apikey.Operate), d.Address
	d.Form, d.Filtered = readForm(v.r.URL.Query(), "reason", "batch", "lane", "since", "before")
	f, d.Problem, err = c.filter(ctx, d.Form, d.Now)
	f.Status = d.State
	if err != nil || d.Problem != "" {
		return f, err
	}
	all := with(d.Form, "reason", "")
	d.Tally, err = c.tallies.get(ctx, address(d.Address, all), c.countRequests(d.State, selectionOf(all), request.Lane(all["lane"])))
	return f, err
}

// readForm returns the filters that an address has.
func readForm(q url.Values, names ...string) (form map[string]string, filtered bool) {
	form = map[string]string{}
	for _, name := range names {
		form[name] = strings.TrimSpace(q.Get(name))
		filtered = filtered || form[name] != ""
	}
	return form, filtered
}

func lanes() []request.Lane { return []request.Lane{request.Interactive, request.Bulk} }

// selectionOf converts a form whose times were converted by [Console.filter].
func selectionOf(form map[string]string) operator.Selection {
	return operator.Selection{Reason: form["reason"], Batch: form["batch"], Host: form["host"], Since: form["since"], Before: form["before"]}
}

// countRequests returns a counter of failed or held requests by reason.
func (c *Console) countRequests(state request.State, s operator.Selection, lane request.Lane) counter {
	return func(ctx context.Context, add func([]member)) error {
		pages, err := c.operator.Requests(ctx, state, s, operator.Omitted{})
		if err != nil {
			return err
		}
		for page, err := range pages {
			if err != nil {
				return err
			}
			members := make([]member, 0, len(page))
			for _, r := range page {
				if lane == "" || r.Lane == lane {
					members = append(members, member{group: r.Outcome.Reason, at: r.ChangedAt, message: r.Outcome.Message, reason: r.Outcome.Reason})
				}
			}
			add(members)
		}
		return nil
	}
}

// filterTime returns a time of a form for an address.
func filterTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
