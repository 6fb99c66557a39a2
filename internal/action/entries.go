package action

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

// entry is a request or a delivery that matches.
type entry struct {
	planned
	place place
	// change makes the change, unless the entry has changed since it was read.
	change func(context.Context) (changed bool, err error)
}

// entries reads the entries of a list that match, a page at a time, by their place. It
// calls none for each given ID without an entry in the list.
func (s *Store) entries(ctx context.Context, r Request, none func(id string)) (iter.Seq2[[]entry, error], error) {
	if _, err := s.batch(ctx, r.Filter); err != nil {
		return nil, err
	}
	pages, err := s.list(ctx, r, none)
	if err != nil || len(r.IDs) == 0 {
		return pages, err
	}
	return sorted(pages), nil
}

// batch returns the number of the batch that a filter names.
func (s *Store) batch(ctx context.Context, f Filter) (number int, err error) {
	if f.Batch == "" {
		return 0, nil
	}
	number, known, err := s.stores.Batches.Number(ctx, f.Batch)
	if err == nil && !known {
		err = &InvalidError{"filter.batch", fmt.Sprintf("is %q, which does not exist", f.Batch)}
	}
	return number, err
}

// countable is entries for a plan, which reads all that match at once: of requests it reads
// only the columns of their headers, if these tell whether a request matches.
func (s *Store) countable(ctx context.Context, r Request, none func(id string)) (iter.Seq2[[]entry, error], error) {
	f := r.Filter
	if r.Kind.state() == "" || len(r.IDs) > 0 || f.Reason != "" {
		return s.entries(ctx, r, none)
	}
	number, err := s.batch(ctx, f)
	if err != nil {
		return nil, err
	}
	pages := s.stores.DeadLetters.Columns(ctx, r.Kind.state(), f.Since, f.Before)
	return converted(pages, func(rec request.Record) (entry, bool) {
		return s.request(r.Kind, rec), (f.Batch == "" || rec.Batch == number) && (f.Lane == "" || rec.Lane == f.Lane)
	}), nil
}

func (s *Store) list(ctx context.Context, r Request, none func(id string)) (iter.Seq2[[]entry, error], error) {
	selection := r.Filter.selection(r.IDs)
	if r.Kind.state() == "" {
		pages, err := s.operator.Deliveries(ctx, selection, false, none)
		return converted(pages, func(d delivery.Delivery) (entry, bool) { return s.delivery(r.Kind, d), true }), err
	}
	pages, err := s.operator.Requests(ctx, r.Kind.state(), selection, func(id string, _ request.State) { none(id) })
	return converted(pages, func(rec request.Record) (entry, bool) {
		return s.request(r.Kind, rec), r.Filter.Lane == "" || rec.Lane == r.Filter.Lane
	}), err
}

func (s *Store) request(kind Kind, r request.Record) entry {
	do := (*operator.Operator).RetryInBulk // signups do not wait for what is retried
	switch kind {
	case DropFailed:
		do = (*operator.Operator).Hide
	case DropHeld:
		do = (*operator.Operator).Drop
	default:
	}
	return entry{
		planned: planned{r.ApplicationID, r.Generation, r.Run, r.Attempts}, place: place{r.ChangedAt.UnixMilli(), r.ApplicationID},
		change: func(ctx context.Context) (bool, error) {
			_, changed, err := do(s.operator, ctx, r)
			return changed, err
		},
	}
}

func (s *Store) delivery(kind Kind, d delivery.Delivery) entry {
	do := (*operator.Operator).RetryDelivery
	if kind.drops() {
		do = (*operator.Operator).HideDelivery
	}
	return entry{
		planned: planned{d.EventID, d.Generation, d.Run, d.Attempts}, place: place{d.GivenUpAt.UnixMilli(), d.EventID},
		change: func(ctx context.Context) (bool, error) {
			_, changed, err := do(s.operator, ctx, d)
			return changed, err
		},
	}
}

// converted converts the entries of pages; those that are not wanted are left out.
func converted[T any](pages iter.Seq2[[]T, error], convert func(T) (entry, bool)) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		for page, err := range pages {
			list := make([]entry, 0, len(page))
			for _, item := range page {
				if e, wanted := convert(item); wanted {
					list = append(list, e)
				}
			}
			if !yield(list, err) || err != nil {
				return
			}
		}
	}
}

// sorted returns all entries as one page, by their place. There are few: those of given IDs.
func sorted(pages iter.Seq2[[]entry, error]) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		var all []entry
		for page, err := range pages {
			if err != nil {
				yield(nil, err)
				return
			}
			all = append(all, page...)
		}
		slices.SortFunc(all, func(a, b entry) int { return compare(a.place, b.place) })
		yield(all, nil)
	}
}

func compare(a, b place) int { return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.ID, b.ID)) }

// Plan is what an action would change.
type Plan struct {
	Count int    `json:"count"`
	Token string `json:"token"` // a digest of the entries, with their generations and runs
	// Unmatched are the given IDs that have no entry in the list.
	Unmatched []string `json:"unmatched_ids,omitempty"`

	request Request
}

// Plan reads the entries that an action would change. It fails with *InvalidError if the
// request makes no sense. The action leaves out entries that come to the list afterwards.
func (s *Store) Plan(ctx context.Context, r Request) (p Plan, err error) {
	if p.request, err = r.validate(); err != nil {
		return p, err
	}
	if p.request.Filter.Before, err = s.before(ctx, r.Filter.Before); err != nil {
		return p, err
	}
	p.request.Filter.Since = r.Filter.Since.Truncate(time.Millisecond)
	pages, err := s.countable(ctx, p.request, func(id string) { p.Unmatched = append(p.Unmatched, id) })
	if err != nil {
		return p, err
	}
	digest := sha256.New()
	_, _ = fmt.Fprintf(digest, "%s\n", r.Kind)
	for page, err := range pages {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return p, err
		}
		for _, e := range page {
			_, _ = fmt.Fprintf(digest, "%q %d %d %d\n", e.ID, e.Generation, e.Run, e.Attempts)
		}
		p.Count += len(page)
	}
	p.Token = hex.EncodeToString(digest.Sum(nil)[:16])
	return p, nil
}

// before returns the end of the period of an action, which is not later than now. It
// returns only when no more entries can come to the list within the period.
func (s *Store) before(ctx context.Context, before time.Time) (time.Time, error) {
	now, err := s.operator.Now(ctx)
	if err != nil {
		return before, err
	}
	end := now.Add(time.Millisecond).Truncate(time.Millisecond)
	if !before.IsZero() && before.Before(end) {
		return before.Truncate(time.Millisecond), nil
	}
	for now.Before(end) && err == nil {
		now, err = s.operator.Now(ctx)
	}
	return end, err
}
