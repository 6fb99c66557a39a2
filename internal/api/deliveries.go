package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/legible"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/search"
)

// deliveryPage is one page of a list of deliveries.
type deliveryPage struct {
	Deliveries []operator.Delivery `json:"deliveries"`
	Next       string              `json:"next,omitempty"` // the cursor of the next page
	// Examined is how many deliveries were read for the page; absent if it has all of them.
	Examined int `json:"examined,omitempty"`
	// Unreadable is how many of these cannot be decoded.
	Unreadable int `json:"unreadable,omitempty"`
}

// listLinkDeliveries returns the deliveries of a request. A cursor is the number of those on
// the pages before. Deliveries are only added, at the end.
func (a *API) listLinkDeliveries(c *call) error {
	if err := c.noBody("cursor", "limit"); err != nil {
		return err
	}
	id, _, err := c.pathID("")
	if err != nil {
		return err
	}
	limit, err := c.pageSize(search.MaxLimit)
	if err != nil {
		return err
	}
	skip, err := c.number()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	if _, err := readLink(ctx, a.Client, id, 0); err != nil {
		return err
	}
	page := deliveryPage{}
	found, more, err := a.Stores.Deliveries.PageForRequest(ctx, id, skip, limit, func(string, error) { page.Unreadable++ })
	if err != nil {
		return err
	}
	if page.Deliveries, err = a.shownDeliveries(ctx, found); err != nil {
		return err
	}
	if more {
		page.Next = cursor(strconv.Itoa(skip + limit))
	}
	return c.json(http.StatusOK, page)
}

func (a *API) shownDeliveries(ctx context.Context, found []delivery.Delivery) ([]operator.Delivery, error) {
	shown := make([]operator.Delivery, len(found))
	for i, d := range found {
		var err error
		if shown[i], err = a.operator.ShowDelivery(ctx, d); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// retrying is the status of the list that selects pending deliveries that failed.
const retrying = "retrying"

// listDeliveries returns one page of the deliveries that were given up, or are retried.
func (a *API) listDeliveries(c *call) error {
	if err := c.noBody("status", "host", "reason", "batch", "since", "before", "cursor", "limit"); err != nil {
		return err
	}
	value := c.r.URL.Query().Get
	f := search.DeliveryFilter{Retrying: value("status") == retrying, Host: value("host"), Reason: value("reason")}
	if status := value("status"); status != "" && status != string(delivery.GivenUp) && !f.Retrying {
		return malformed("status", fmt.Sprintf("must be %s or %s", delivery.GivenUp, retrying))
	}
	limit, err := c.pageSize(search.MaxLimit)
	if err != nil {
		return err
	}
	if f.Since, f.Before, err = parsePeriod(value); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	if f.Batch, err = a.batchNumber(ctx, value("batch")); err != nil {
		return err
	}
	found, err := search.New(a.Redis, a.Stores.Keys).Deliveries(ctx, f, value("cursor"), limit)
	if refused, ok := errors.AsType[*search.CursorError](err); ok {
		return malformed("cursor", refused.Error())
	}
	if err != nil {
		return err
	}
	page := deliveryPage{Next: found.Next, Examined: found.Examined, Unreadable: found.Unreadable}
	if page.Deliveries, err = a.shownDeliveries(ctx, found.Deliveries); err != nil {
		return err
	}
	return c.json(http.StatusOK, page)
}

// retryDelivery enqueues a given-up delivery again.
func (a *API) retryDelivery(c *call) error {
	return a.actOnDelivery(c, "callbacks.retry", http.StatusAccepted, func(ctx context.Context, d delivery.Delivery) (delivery.Delivery, bool, error) {
		now, _, err := a.operator.RetryDelivery(ctx, d) // it is unchanged if it was enqueued before
		return now, err == nil, err
	})
}

// dropDelivery hides a given-up delivery from the list.
func (a *API) dropDelivery(c *call) error {
	return a.actOnDelivery(c, "callbacks.drop", http.StatusOK, func(ctx context.Context, d delivery.Delivery) (delivery.Delivery, bool, error) {
		if d.Dropped {
			return d, true, nil
		}
		return a.operator.HideDelivery(ctx, d)
	})
}

// actOnDelivery changes a given-up delivery, and responds with its state. It repeats do,
// which reports whether it changed the delivery, if the delivery changes meanwhile.
func (a *API) actOnDelivery(c *call, action string, status int, do func(context.Context, delivery.Delivery) (delivery.Delivery, bool, error)) error {
	if err := c.noBody(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), a.timeout)
	defer cancel()
	event, recorded := c.r.PathValue("event_id"), false
	for range cancelTries {
		found, err := a.Stores.Deliveries.Read(ctx, []string{event})
		switch {
		case err != nil:
			return err
		case len(found) == 0:
			return notFound(fmt.Sprintf("there is no delivery of event %q", legible.Shorten(event)))
		case found[0].Status != delivery.GivenUp:
			return wrongState(fmt.Sprintf("the delivery of event %s is %s; only given-up ones can be retried or dropped", event, found[0].Status))
		}
		if !recorded {
			if err := a.record(ctx, c, action, event); err != nil {
				return err
			}
			recorded = true
		}
		now, changed, err := do(ctx, found[0])
		if err != nil {
			return err
		}
		if !changed {
			continue
		}
		shown, err := a.operator.ShowDelivery(ctx, now)
		if err != nil {
			return err
		}
		return c.json(status, shown)
	}
	return unavailable(errors.New("the delivery kept changing"))
}
