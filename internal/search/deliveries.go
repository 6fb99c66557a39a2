package search

import (
	"context"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/hostname"
)

// mostDeliveries is how many deliveries a page reads at most, about. Each is read with the
// body of its event.
const mostDeliveries = 2_000

// DeliveryFilter says which deliveries are wanted; a zero field does not matter.
type DeliveryFilter struct {
	// Retrying selects the deliveries that failed and will be attempted again, the next one
	// first, instead of those that were given up, of which the latest is first.
	Retrying bool
	Host     string // of the receiver, with or without a port
	Reason   string // of the latest failure
	Batch    int    // its number
	// Since and Before are about the time at which a delivery was given up or, with
	// Retrying, of its latest attempt.
	Since, Before time.Time
}

func (f DeliveryFilter) matches(d delivery.Delivery) bool {
	at, listed := d.GivenUpAt, d.Status == delivery.GivenUp && !d.Dropped
	if f.Retrying {
		at, listed = d.Last.At, d.Status == delivery.Pending && !d.Last.Accepted()
	}
	return listed && hostname.Matches(d.Host, f.Host) &&
		(f.Reason == "" || d.Last.Reason == f.Reason) &&
		(f.Batch == 0 || d.Batch == f.Batch) &&
		(f.Since.IsZero() || !at.Before(f.Since)) &&
		(f.Before.IsZero() || at.Before(f.Before))
}

// DeliveryPage is a part of the deliveries that match.
type DeliveryPage struct {
	Deliveries []delivery.Delivery
	Next       string // continues after this page; "" if there is nothing more
	Examined   int    // how many deliveries were read
	Unreadable int    // how many of these cannot be decoded; they are on no page
}

// Deliveries returns the deliveries that match, at most limit of them, as [Searcher.Page]
// does with requests. A delivery that is attempted meanwhile may be on two pages, and is
// missing on none.
func (s *Searcher) Deliveries(ctx context.Context, f DeliveryFilter, cursor string, limit int) (DeliveryPage, error) {
	from, err := decode(cursor, f)
	if err != nil {
		return DeliveryPage{}, err
	}
	limit = min(max(limit, 1), MaxLimit)
	list := timeline{s.rdb, s.keys.Undelivered(), f.Since, f.Before, false}
	if f.Retrying { // by the time of the next attempt
		list = timeline{rdb: s.rdb, key: s.keys.Pending(), rises: true}
	}
	var p DeliveryPage
	next, err := s.read(ctx, list, from, limit, mostDeliveries, func(part []entry) (full string, err error) {
		return s.addDeliveries(ctx, &p, f, part, limit)
	})
	p.Next = encode(next, f)
	return p, err
}

// addDeliveries reads entries and adds those that match. If the page is full, it returns the
// place after its last delivery.
func (s *Searcher) addDeliveries(ctx context.Context, p *DeliveryPage, f DeliveryFilter, entries []entry, limit int) (full string, err error) {
	events, after := make([]string, len(entries)), map[string]string{}
	for i, e := range entries {
		events[i], after[e.id] = e.id, e.after
	}
	found, err := s.deliveries.Readable(ctx, events, func(string, error) { p.Unreadable++ })
	if err != nil {
		return "", err
	}
	for _, d := range found {
		if !f.matches(d) {
			continue
		}
		if p.Deliveries = append(p.Deliveries, d); len(p.Deliveries) == limit {
			p.Examined += len(entries)
			return after[d.EventID], nil
		}
	}
	p.Examined += len(entries)
	return "", nil
}
