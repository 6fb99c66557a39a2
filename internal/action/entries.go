package action

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/operator"
	"github.com/kyclink/kyclink/internal/request"
)

// entry is a request or a delivery that matches, or that may match and cannot be decoded.
type entry struct {
	planned
	place place
	// change makes the change, unless the entry has changed since it was read.
	change     func(context.Context) (changed bool, err error)
	unreadable error // why it cannot be decoded; change is nil then
}

// unreadables collects the entries of a page that cannot be decoded.
type unreadables struct {
	wanted func(header request.Record) bool
	found  []entry
}

func (u *unreadables) add(e deadletter.Unreadable) {
	if e.Header.State != "" && !u.wanted(e.Header) {
		return
	}
	u.found = append(u.found, entry{
		planned: planned{ID: e.ID, Unreadable: true}, place: place{max(0, e.At.UnixMilli()), e.ID}, unreadable: e.Why,
	})
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

// countable is entries for a plan, which reads all that match at once: of requests it parses
// only what tells whether they match.
func (s *Store) countable(ctx context.Context, r Request, none func(id string)) (iter.Seq2[[]entry, error], error) {
	f := r.Filter
	if r.Kind.state() == "" || len(r.IDs) > 0 {
		return s.entries(ctx, r, none)
	}
	number, err := s.batch(ctx, f)
	if err != nil {
		return nil, err
	}
	damaged := &unreadables{wanted: func(request.Record) bool { return true }}
	pages := s.stores.DeadLetters.Columns(ctx, r.Kind.state(), f.Since, f.Before, f.Reason != "", damaged.add)
	return converted(pages, damaged, func(rec request.Record) (entry, bool) {
		wanted := (f.Batch == "" || rec.Batch == number) && f.hasLane(rec) && (f.Reason == "" || rec.Outcome.Reason == f.Reason)
		return s.request(r.Kind, rec), wanted
	}), nil
}

func (f Filter) hasLane(r request.Record) bool { return f.Lane == "" || r.Lane == f.Lane }

func (s *Store) list(ctx context.Context, r Request, none func(id string)) (iter.Seq2[[]entry, error], error) {
	selection, damaged := r.Filter.selection(r.IDs), &unreadables{wanted: r.Filter.hasLane}
	omitted := operator.Omitted{Other: func(id string, _ request.State) { none(id) }, Unreadable: damaged.add}
	if r.Kind.state() == "" {
		pages, err := s.operator.Deliveries(ctx, selection, false, omitted)
		return converted(pages, damaged, func(d delivery.Delivery) (entry, bool) { return s.delivery(r.Kind, d), true }), err
	}
	pages, err := s.operator.Requests(ctx, r.Kind.state(), selection, omitted)
	return converted(pages, damaged, func(rec request.Record) (entry, bool) {
		return s.request(r.Kind, rec), r.Filter.hasLane(rec)
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
		planned: planned{ID: r.ApplicationID, Generation: r.Generation, Run: r.Run, Attempts: r.Attempts}, place: place{r.ChangedAt.UnixMilli(), r.ApplicationID},
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
		planned: planned{ID: d.EventID, Generation: d.Generation, Run: d.Run, Attempts: d.Attempts}, place: place{d.GivenUpAt.UnixMilli(), d.EventID},
		change: func(ctx context.Context) (bool, error) {
			_, changed, err := do(s.operator, ctx, d)
			return changed, err
		},
	}
}

// converted converts the entries of pages; those that are not wanted are left out. It adds
// the damaged ones that were found while a page was read.
func converted[T any](pages iter.Seq2[[]T, error], damaged *unreadables, convert func(T) (entry, bool)) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		for page, err := range pages {
			list := make([]entry, 0, len(page))
			for _, item := range page {
				if e, wanted := convert(item); wanted {
					list = append(list, e)
				}
			}
			if len(damaged.found) > 0 {
				list, damaged.found = append(list, damaged.found...), nil
				slices.SortFunc(list, func(a, b entry) int { return compare(a.place, b.place) })
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
	Count int `json:"count"`
	// Token starts the action, once. It has a digest of the entries with their generations and
	// runs, and a random part, which another plan of the same entries does not have.
	Token string `json:"token"`
	// Unreadable is how many more entries may match, but cannot be decoded; the action will
	// skip them.
	Unreadable int `json:"unreadable,omitempty"`
	// Unmatched are the given IDs that have no entry in the list.
	Unmatched []string `json:"unmatched_ids,omitempty"`

	request Request
	digest  string
}

// Matches reports whether the plan of a token had the same entries as this one.
func (p Plan) Matches(token string) bool {
	return len(token) == len(p.Token) && strings.HasPrefix(token, p.digest+"-")
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
			if e.Unreadable {
				p.Unreadable++
			} else {
				p.Count++
			}
		}
	}
	p.digest = hex.EncodeToString(digest.Sum(nil)[:16])
	p.Token = p.digest + "-" + rand.Text()
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
