// Package search lists requests and deliveries by what they are, a page at a time, newest first where an
// index permits that.
//
// No index names every request: with a million of them it would cost more memory than their
// records save. A search therefore reads the narrowest list that contains all that match
// (the failed or held requests, or a batch) or, if there is none, walks through
// the keys. A page reads a bounded number of requests and may have fewer than asked for, or
// none, although others follow: [Page.Next] says so.
package search

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
)

// MaxLimit is the most requests of a page.
const MaxLimit = 500

// What a page reads at most, about: requests, and keys and rows of a batch of which no
// request is read. Both keep a page well under 50 ms. On a slow or busy machine a page ends
// after pageTime, if it has read a part of this.
const (
	mostExamined = 3_000
	mostVisited  = 40_000
	pageTime     = 20 * time.Millisecond
	slowPart     = 8 // an eighth
)

// mostPart is how many requests are read at a time, if few of them match.
const mostPart = 500

// Filter says which requests are wanted; a zero field does not matter. Since and Before are
// about the time at which a request came to its present state.
type Filter struct {
	Status        request.State `json:"status,omitempty"`
	Reason        string        `json:"reason,omitempty"`
	Lane          request.Lane  `json:"lane,omitempty"`
	Batch         int           `json:"batch,omitempty"` // its number
	Since, Before time.Time     `json:",omitzero"`
	IDPrefix      string        `json:"id_prefix,omitempty"`
}

func (f Filter) matches(r request.Record) bool {
	return f.matchesHeader(r) && (f.Reason == "" || r.Outcome.Reason == f.Reason)
}

// matchesHeader reports whether the header of a record matches.
func (f Filter) matchesHeader(r request.Record) bool {
	return (f.Status == "" || r.State == f.Status) &&
		(f.Lane == "" || r.Lane == f.Lane) &&
		(f.Batch == 0 || r.Batch == f.Batch) &&
		(f.Since.IsZero() || !r.ChangedAt.Before(f.Since)) &&
		(f.Before.IsZero() || r.ChangedAt.Before(f.Before)) &&
		strings.HasPrefix(r.ApplicationID, f.IDPrefix)
}

// Page is a part of the requests that match.
type Page struct {
	Records []request.Record
	// Next continues after this page; "" if there is nothing more.
	Next string
	// Examined is how many requests were read.
	Examined int
	// Unreadable is how many of these may match, but cannot be decoded by this version of the
	// program; they are in no page.
	Unreadable int
}

// Searcher searches the requests and deliveries of one account. It is safe for concurrent use.
type Searcher struct {
	rdb     redis.UniversalClient
	keys    keyspace.Keys
	batches *batch.Store
	records *record.Reader

	deliveries *delivery.Store
	now        func() time.Time
}

// New returns a searcher that uses, and does not close, rdb.
func New(rdb redis.UniversalClient, keys keyspace.Keys) *Searcher {
	return &Searcher{rdb, keys, batch.NewStore(rdb, keys), record.NewReader(rdb, keys), delivery.NewStore(rdb, keys), time.Now}
}

// Page returns the requests that match, at most limit of them, from cursor on: "" for the
// first page, then [Page.Next]. A request that does not change meanwhile is on exactly one
// of the pages, except that a walk through the keys may return one twice while Redis resizes
// its table. It fails with [*CursorError] if the cursor is not one of this filter.
func (s *Searcher) Page(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	from, err := decode(cursor, f)
	if err != nil {
		return Page{}, err
	}
	limit = min(max(limit, 1), MaxLimit)
	var p Page
	list, err := s.list(ctx, f, from)
	if err != nil || list == nil {
		return p, err
	}
	next, err := s.read(ctx, list, from, limit, mostExamined, func(part []entry) (full string, err error) {
		return s.add(ctx, &p, f, part, limit)
	})
	p.Next = encode(next, f)
	return p, err
}

// read reads a list from a place on, in growing parts of at first some entries, until one
// fills the page or until it has read about as many entries as it may. It returns the place
// after the page; "" at the end of the list.
func (s *Searcher) read(ctx context.Context, l list, from string, part, most int, add func([]entry) (full string, err error)) (next string, err error) {
	began := s.now()
	for examined, visited := 0, 0; ; {
		step, err := l.step(ctx, from)
		if err != nil {
			return "", err
		}
		for entries := step.entries; len(entries) > 0; part = max(part, min(2*part, mostPart)) {
			now := entries[:min(part, len(entries))]
			entries = entries[len(now):]
			examined += len(now)
			if full, err := add(now); err != nil || full != "" {
				return full, err
			}
		}
		visited += step.visited
		if from = step.next; step.end {
			return "", nil
		}
		slow := s.now().Sub(began) > pageTime && (examined >= most/slowPart || visited >= mostVisited/slowPart)
		if examined >= most || visited >= mostVisited || slow {
			return from, nil
		}
	}
}

// add reads entries and adds those that match. If the page is full, it returns the place
// after its last request.
func (s *Searcher) add(ctx context.Context, p *Page, f Filter, entries []entry, limit int) (full string, err error) {
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.id
	}
	stored, err := s.records.Latest(ctx, ids)
	if err != nil {
		return "", err
	}
	for i, raw := range stored {
		p.Examined++
		if raw == nil { // it was erased
			continue
		}
		r, err := request.Peek(ids[i], raw)
		if err == nil && !f.matchesHeader(r) {
			continue
		}
		if err == nil {
			r, err = request.Parse(ids[i], raw)
		}
		if err != nil {
			p.Unreadable++
			continue
		}
		if !f.matches(r) {
			continue
		}
		if p.Records = append(p.Records, r); len(p.Records) == limit {
			return entries[i].after, nil
		}
	}
	return "", nil
}

// list is what a search reads, in steps.
type list interface {
	// step returns the entries from a place on; "" is the first place.
	step(ctx context.Context, from string) (step, error)
}

type step struct {
	entries []entry
	next    string // the place after all entries
	end     bool   // there is nothing after them
	visited int    // keys or rows that were looked at
}

// entry is a request in a list.
type entry struct {
	id    string
	after string // the place after it
}

// list returns the narrowest list that has all requests that match, or the one that a page
// before the place from has begun; nil if no request matches.
func (s *Searcher) list(ctx context.Context, f Filter, from string) (list, error) {
	listed := f.Status == request.Failed || f.Status == request.Held
	byTime := timeline{s.rdb, s.keys.OperatorList(f.Status), f.Since, f.Before, false}
	ofBatch := rows{batches: s.batches, number: f.Batch}
	switch {
	case listed && f.Batch != 0:
		ofBatch.rdb, ofBatch.only = s.rdb, byTime.key
		if from != "" {
			if isPlace(from) {
				return byTime, nil
			}
			return ofBatch, nil
		}
		return s.narrower(ctx, f, byTime, ofBatch)
	case listed:
		return byTime, nil
	case f.Batch != 0:
		return ofBatch, nil
	}
	return walk{s.rdb, s.keys, f.IDPrefix}, nil
}

// narrower returns the shorter one of two lists for the failed or held requests of a batch;
// nil if the batch has none.
func (s *Searcher) narrower(ctx context.Context, f Filter, byTime timeline, ofBatch rows) (list, error) {
	found, err := s.batches.Counted(ctx, []int{f.Batch})
	if err != nil || len(found) == 0 || found[0].Counts[f.Status] == 0 {
		return nil, err
	}
	n, err := s.rdb.ZCard(ctx, byTime.key).Result()
	if err != nil {
		return nil, fmt.Errorf("count the %s requests: %w", f.Status, err)
	}
	if found[0].Rows >= int(n) {
		return byTime, nil
	}
	last, err := s.batches.LastChunk(ctx, f.Batch)
	if last < 0 { // the rows of a batch that was restored are not known until it is imported again
		return byTime, err
	}
	return ofBatch, err
}

// CursorError says that a cursor cannot be used.
type CursorError struct{ why string }

func (e *CursorError) Error() string { return fmt.Sprintf("the cursor %s", e.why) }
