package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/action"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/diagnosis"
	"github.com/kyclink/kyclink/internal/hostname"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/search"
)

// callbacksData is the deliveries that were given up or are being retried: their groups by
// receiver, and a list of those that match the filters.
type callbacksData struct {
	bulkData
	// Form are the filters as they were given; Filtered says whether there is one.
	Form     map[string]string
	Filtered bool
	Problem  string // with the filters

	Rows     []operator.Delivery
	Next     string // the address of the next page; "" if there is none
	Examined int

	Numbers diagnosis.Deliveries
	Reasons []string
	Now     time.Time

	CanTest bool
	Test    *callbackTest // the result of a test event, if one was sent
}

// callbackTest is a test event and its result.
type callbackTest struct {
	URL, Host string
	Problem   string // why it was not sent
	Reply     delivery.Reply
	Took      time.Duration
}

// retrying is the status that lists deliveries that failed and will be attempted again.
const retrying = "retrying"

// Retrying reports whether the list has deliveries that will be attempted again.
func (d callbacksData) Retrying() bool { return d.Form["status"] == retrying }

// Matching is how many deliveries of the list match all filters. While receivers have not
// been counted, it is 0.
func (d callbacksData) Matching() (n int) {
	for _, g := range d.Tally.Groups {
		switch {
		case !hostname.Matches(g.Name, d.Form["host"]):
		case d.Retrying():
			n += g.Retrying
		default:
			n += g.GivenUp()
		}
	}
	return n
}

// Meaning explains a reason.
func (d callbacksData) Meaning(reason string) meaning { return deliveryMeaning(reason) }

// Query returns the filters as the query of an address.
func (d callbacksData) Query() string { return query(d.Form) }

// With returns the address of the page with another value of a filter.
func (d callbacksData) With(name, value string) string {
	return address(d.Address, with(d.Form, name, value))
}

// Of returns the address of the list of a receiver's deliveries of a status.
func (d callbacksData) Of(host, status string) string {
	return address(d.Address, with(with(d.Form, "host", host), "status", status))
}

func (c *Console) callbacksPage(ctx context.Context, v *visit) error {
	return c.showCallbacks(ctx, v, v.r.URL.Query(), nil)
}

// showCallbacks shows the page, with the result of a test event if there is one.
func (c *Console) showCallbacks(ctx context.Context, v *visit, q url.Values, test *callbackTest) error {
	d, f, err := c.readCallbacks(ctx, q)
	if err != nil {
		return err
	}
	d.Test = test
	if d.Problem == "" {
		if err := c.searchDeliveries(ctx, &d, f, q.Get("cursor")); err != nil {
			return err
		}
	}
	status := http.StatusOK
	if d.Problem != "" || test != nil && test.Problem != "" {
		status = http.StatusUnprocessableEntity
	}
	return c.show(v, status, "callbacks", "Callbacks", d)
}

// readCallbacks reads the filters of the page and, if they have no problem, the groups.
func (c *Console) readCallbacks(ctx context.Context, q url.Values) (d callbacksData, f search.DeliveryFilter, err error) {
	s, err := c.snapshots.Snapshot(ctx)
	if err != nil {
		return d, f, err
	}
	d = callbacksData{
		bulkData: bulkData{listText: callbackList(), Retry: action.RetryDeliveries, Drop: action.DropDeliveries},
		Numbers:  s.Deliveries, Reasons: deliveryReasons(), CanTest: c.Ping != nil,
	}
	if d.Now, err = c.operator.Now(ctx); err != nil {
		return d, f, err
	}
	d.Form, d.Filtered = readForm(q, "host", "reason", "batch", "since", "before")
	d.Form["status"] = q.Get("status")
	known, problem, err := c.filter(ctx, d.Form, d.Now)
	if status := d.Form["status"]; !slices.Contains([]string{"", string(delivery.GivenUp), retrying}, status) {
		problem = "There is no list of deliveries with this status."
	}
	d.Problem = problem
	if err != nil || problem != "" {
		return d, f, err
	}
	f = search.DeliveryFilter{
		Retrying: d.Retrying(), Host: d.Form["host"], Reason: d.Form["reason"], Batch: known.Batch, Since: known.Since, Before: known.Before,
	}
	all := with(with(d.Form, "host", ""), "status", "")
	d.Tally, err = c.tallies.get(ctx, address(d.Address, all), c.countDeliveries(selectionOf(all), true))
	return d, f, err
}

// searchDeliveries adds a page of deliveries.
func (c *Console) searchDeliveries(ctx context.Context, d *callbacksData, f search.DeliveryFilter, cursor string) error {
	page, err := search.New(c.Redis, c.Stores.Keys).Deliveries(ctx, f, cursor, pageSize)
	if refused, ok := errors.AsType[*search.CursorError](err); ok {
		d.Problem = "The address does not continue this list: " + refused.Error() + "."
		return nil
	}
	if err != nil {
		return err
	}
	for _, found := range page.Deliveries {
		shown, err := c.operator.ShowDelivery(ctx, found)
		if err != nil {
			return err
		}
		d.Rows = append(d.Rows, shown)
	}
	if d.Examined = page.Examined; page.Next != "" {
		d.Next = address(d.Address, with(d.Form, "cursor", page.Next))
	}
	return nil
}

// callbackGroups sends the part of the page that changes while deliveries are counted.
func (c *Console) callbackGroups(ctx context.Context, v *visit) error {
	d, _, err := c.readCallbacks(ctx, v.r.URL.Query())
	if err != nil {
		return err
	}
	return c.fragment(v, "callbacks", "groups", d)
}

// countDeliveries returns a counter of given-up deliveries by receiver; with pending, also
// of those that failed and will be attempted again.
func (c *Console) countDeliveries(s operator.Selection, pending bool) counter {
	return func(ctx context.Context, add func([]member)) error {
		pages, err := c.operator.Deliveries(ctx, s, pending, operator.Omitted{})
		if err != nil {
			return err
		}
		for page, err := range pages {
			if err != nil {
				return err
			}
			members := make([]member, len(page))
			for i, d := range page {
				at := d.GivenUpAt
				if at.IsZero() {
					at = d.Last.At
				}
				members[i] = member{
					group: d.Host, at: at, next: d.NextAt, retrying: d.Status == delivery.Pending,
					message: d.Last.Message, reason: d.Last.Reason, code: d.Last.Code,
				}
			}
			add(members)
		}
		return nil
	}
}

// pingTimeout is longer than a receiver may take to answer.
const pingTimeout = 30 * time.Second

// testCallback sends a test event to a URL, and shows the answer.
func (c *Console) testCallback(ctx context.Context, v *visit) error {
	if c.Ping == nil {
		return &pageError{http.StatusConflict, "Callbacks are off", "This server has no settings for callbacks: set KYCLINK_CALLBACK_HOSTS and KYCLINK_CALLBACK_SECRET. Nothing was sent."}
	}
	test := callbackTest{URL: v.r.PostFormValue("url")}
	if u, err := url.Parse(test.URL); err == nil {
		test.Host = u.Host
	}
	if test.Host == "" {
		test.Problem = "Give the URL of a receiver, such as https://shop.example/hooks/kyc. Nothing was sent."
		return c.showCallbacks(ctx, v, nil, &test)
	}
	if err := c.record(ctx, v, "callbacks.test", test.Host); err != nil { // the path may be a secret
		return err
	}
	ctx, cancel := c.long(v, pingTimeout)
	defer cancel()
	began := time.Now()
	var err error
	if test.Reply, err = c.Ping(ctx, test.URL); err != nil {
		test.Problem = "The URL cannot be used: " + err.Error() + ". Nothing was sent."
	}
	test.Took = time.Since(began)
	return c.showCallbacks(ctx, v, nil, &test)
}
