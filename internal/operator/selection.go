package operator

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/kyclink/kyclink/internal/deadletter"
	"github.com/kyclink/kyclink/internal/request"
)

// Selection selects entries of a list. Its zero value selects all of them; an empty field
// does not restrict it.
type Selection struct {
	IDs    []string // application IDs; of deliveries event IDs as well
	Host   string   // of deliveries: their receiver's, with or without a port
	Reason string
	Batch  string // by name
	// Since and Before restrict the time at which an entry was added to the list; see
	// [ParseTime]. Entries that are added after now are not selected, unless they are named
	// by ID, so that an action on all entries ends.
	Since, Before string
}

// String returns the selection as flags of a command.
func (s Selection) String() string {
	var flags []string
	for _, f := range [][2]string{{"--host", s.Host}, {"--reason", s.Reason}, {"--batch", s.Batch}, {"--since", s.Since}, {"--before", s.Before}} {
		if f[1] != "" {
			flags = append(flags, f[0]+" "+f[1])
		}
	}
	if len(flags) == 0 {
		return "--all"
	}
	return strings.Join(flags, " ")
}

// Targets returns what the audit trail records: the given IDs, each once, or else the
// selection as flags.
func (s Selection) Targets() []string {
	if len(s.IDs) > 0 {
		return distinct(s.IDs)
	}
	return []string{s.String()}
}

// distinct returns each ID once, in the given order.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		repeated := seen[id]
		seen[id] = true
		return repeated
	})
}

// filter is a selection with its batch and times resolved.
type filter struct {
	Selection
	batch         int // anyBatch for any
	since, before time.Time
}

const anyBatch = -1

func (o *Operator) filter(ctx context.Context, s Selection) (filter, error) {
	f := filter{Selection: s, batch: anyBatch}
	now, err := o.Now(ctx)
	if err != nil {
		return f, err
	}
	f.before = now.Add(time.Millisecond)
	if s.Since != "" {
		if f.since, err = ParseTime(s.Since, now); err != nil {
			return f, fmt.Errorf("since: %w", err)
		}
		f.since = f.since.Truncate(time.Millisecond)
	}
	if s.Before != "" {
		if f.before, err = ParseTime(s.Before, now); err != nil {
			return f, fmt.Errorf("before: %w", err)
		}
	}
	if s.Batch == "" {
		return f, nil
	}
	f.batch, err = o.BatchNumber(ctx, s.Batch)
	return f, err
}

// matches compares the properties that requests and deliveries have in common.
func (f filter) matches(batch int, reason string, at time.Time) bool {
	return (f.batch == anyBatch || batch == f.batch) && (f.Reason == "" || reason == f.Reason) &&
		!at.Before(f.since) && (len(f.IDs) > 0 && f.Before == "" || at.Before(f.before))
}

// matching removes entries that do not match from the pages.
func matching[T any](pages iter.Seq2[[]T, error], matches func(T) bool) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		for page, err := range pages {
			if !yield(slices.DeleteFunc(page, func(entry T) bool { return !matches(entry) }), err) {
				return
			}
		}
	}
}

// Omitted receives the entries that a reading leaves out. A nil function is not called.
type Omitted struct {
	// Other receives each ID of the selection that is in another state, which is empty for
	// an unknown ID.
	Other func(id string, now request.State)
	// Unreadable receives entries that cannot be decoded and may match, before the page in
	// whose place they are.
	Unreadable func(deadletter.Unreadable)
}

func (o Omitted) other(id string, now request.State) {
	if o.Other != nil {
		o.Other(id, now)
	}
}

func (o Omitted) unreadable(u deadletter.Unreadable) {
	if o.Unreadable != nil {
		o.Unreadable(u)
	}
}

// Requests reads the selected failed or held requests, a page at a time, in their state at
// the time of reading.
func (o *Operator) Requests(ctx context.Context, state request.State, s Selection, omitted Omitted) (iter.Seq2[[]request.Record, error], error) {
	f, err := o.filter(ctx, s)
	if err != nil {
		return nil, err
	}
	unreadable := func(u deadletter.Unreadable) {
		if u.Header.State == "" || f.batch == anyBatch || u.Header.Batch == f.batch {
			omitted.unreadable(u)
		}
	}
	pages := o.stores.DeadLetters.Requests(ctx, state, f.since, f.before, unreadable)
	if len(s.IDs) > 0 {
		pages = o.named(ctx, state, s.IDs, omitted)
	}
	return matching(pages, func(r request.Record) bool { return f.matches(r.Batch, r.Outcome.Reason, r.ChangedAt) }), nil
}

// readPage is how many requests are read by ID at a time.
const readPage = 500

// named reads the requests whose IDs were given and that are in a state.
func (o *Operator) named(ctx context.Context, state request.State, ids []string, omitted Omitted) iter.Seq2[[]request.Record, error] {
	return func(yield func([]request.Record, error) bool) {
		for page := range slices.Chunk(distinct(ids), readPage) {
			states := map[string]request.State{}
			found, err := o.stores.Records.Readable(ctx, page, func(header request.Record, why error) {
				if states[header.ApplicationID] = header.State; header.State == "" || header.State == state {
					states[header.ApplicationID] = state
					omitted.unreadable(deadletter.Unreadable{ID: header.ApplicationID, Why: why, Header: header})
				}
			})
			for _, r := range found {
				states[r.ApplicationID] = r.State
			}
			for _, id := range page {
				if err == nil && states[id] != state {
					omitted.other(id, states[id])
				}
			}
			found = slices.DeleteFunc(found, func(r request.Record) bool { return r.State != state })
			if !yield(found, err) || err != nil {
				return
			}
		}
	}
}
