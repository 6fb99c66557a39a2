package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// entries is what was put into the intake stream. It is safe for concurrent use.
type entries struct {
	mu  sync.Mutex
	all map[string]put // of each entry that Redis acknowledged
}

// put is one entry: for a request, or "" for junk.
type put struct {
	id string
	at time.Time
}

func (e *entries) note(entry, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[string]put{}
	}
	e.all[entry] = put{id, time.Now()}
}

// put adds an entry for a request, or junk that no request can be made of.
func (p *producer) put(ctx context.Context, stream, id string, junk bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
	defer cancel()
	body, err := json.Marshal(p.people.request(id))
	if err != nil {
		p.book.complain("encode %s: %v", id, err)
		return
	}
	if junk {
		id, body = "", body[:len(body)/2]
	} else {
		p.book.ask(id, 1)
	}
	entry, err := p.rdb.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"request", body}}).Result()
	if err == nil { // else nobody knows whether it is there
		p.entries.note(entry, id)
	}
}

// signUp puts one entry after the other into the intake stream.
func (r *rig) signUp(ctx context.Context, p *producer) {
	p.each(ctx, p.pace, func(n int) {
		p.put(ctx, r.tag.Requests(), fmt.Sprintf("%s%s%d", p.name, kindOf(n), n), n%23 == 0)
	})
}

func (r *rig) intakeKinds() []kind {
	const group = "intake"
	return []kind{
		// Somebody takes the group away: everything in the stream is delivered again.
		{"intake-group-gone", group, aBit, aBit, func(ctx context.Context, _ occasion) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = r.rdb.XGroupDestroy(ctx, r.tag.Requests(), intakeGroup).Err() // Redis may be away
			return nil
		}},
		// A consumer takes entries and dies with them.
		{"intake-stolen", group, aBit, aBit, func(ctx context.Context, o occasion) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = r.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: intakeGroup, Consumer: fmt.Sprintf("thief-%d", o.chance),
				Streams: []string{r.tag.Requests(), ">"}, Count: 50, Block: time.Second}).Err()
			return nil
		}},
		{"intake-flood", group, aBit, aBit, func(ctx context.Context, o occasion) error {
			p := &producer{rdb: r.rdb, people: r.people, book: r.book, entries: &r.entries}
			for i := range 100 {
				p.put(ctx, r.tag.Requests(), fmt.Sprintf("flood-%d-%d", o.chance%1_000_000, i), i%2 == 0)
			}
			return nil
		}},
	}
}

// intakeGroup is the consumer group of the workers' intake.
const intakeGroup = "kyclink"

// rejected gives which entries are in the stream of rejects.
func (r *rig) rejected(ctx context.Context) (map[string]bool, error) {
	raw, err := r.rdb.XRange(ctx, r.tag.Rejects(), "-", "+").Result()
	if err != nil {
		return nil, fmt.Errorf("read the rejects: %w", err)
	}
	all := map[string]bool{}
	for _, e := range raw {
		all[fmt.Sprint(e.Values["entry"])] = true
	}
	return all, nil
}

// unsettled names entries that are still in the intake stream.
func (r *rig) unsettled(ctx context.Context) ([]string, error) {
	few, err := r.rdb.XRangeN(ctx, r.tag.Requests(), "-", "+", 5).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the intake stream: %w", err)
	}
	if len(few) == 0 {
		return nil, nil
	}
	ids := make([]string, len(few))
	for i, e := range few {
		ids[i] = e.ID
	}
	return []string{fmt.Sprintf("%s still holds %s", r.tag.Requests(), strings.Join(ids, ", "))}, nil
}

// settled is that every entry was accepted or rejected, and junk was rejected.
func (e evidence) settled() (found []string) {
	for _, entry := range sortedIDs(e.entries) {
		of := e.entries[entry]
		accepted := of.id != "" && len(e.records[of.id]) > 0
		if !accepted && !e.rejected[entry] && !e.lost(of.at) {
			found = append(found, fmt.Sprintf("entry %s for %q was neither accepted nor rejected", entry, of.id))
		}
	}
	return found
}
