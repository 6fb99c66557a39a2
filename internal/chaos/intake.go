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

// entries records what was added to the intake stream. It is safe for concurrent use.
type entries struct {
	mu  sync.Mutex
	all map[string]intakeEntry // acknowledged entries by stream id
}

// intakeEntry is one entry of the intake stream.
type intakeEntry struct {
	id string // application id; "" if the entry is invalid
	at time.Time
}

func (e *entries) add(entry, id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.all == nil {
		e.all = map[string]intakeEntry{}
	}
	e.all[entry] = intakeEntry{id, time.Now()}
}

// addEntry adds an entry for a request, or an invalid one.
func (p *producer) addEntry(ctx context.Context, stream, id string, invalid bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	body, err := json.Marshal(p.generator.request(id))
	if err != nil {
		p.journal.addProblem("encode %s: %v", id, err)
		return
	}
	if invalid {
		id, body = "", body[:len(body)/2]
	} else {
		p.journal.addRequest(id, 1)
	}
	entry, err := p.rdb.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []any{"request", body}}).Result()
	if err == nil { // otherwise it is unknown whether the entry exists
		p.entries.add(entry, id)
	}
}

// addEntries adds entries to the intake stream.
func (r *rig) addEntries(ctx context.Context, p *producer) {
	p.each(ctx, p.pace, func(n int) {
		p.addEntry(ctx, r.keys.Requests(), fmt.Sprintf("%s%s%d", p.name, kindOf(n), n), n%23 == 0)
	})
}

func (r *rig) intakeKinds() []kind {
	const group = "intake"
	return []kind{
		// The consumer group is deleted, so that all entries are delivered again.
		{"intake-group-gone", group, moment, moment, func(ctx context.Context, _ injection) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = r.rdb.XGroupDestroy(ctx, r.keys.Requests(), intakeGroup).Err() // Redis may be unavailable
			return nil
		}},
		// A consumer reads entries and never acknowledges them.
		{"intake-stolen", group, moment, moment, func(ctx context.Context, o injection) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			_ = r.rdb.XReadGroup(ctx, &redis.XReadGroupArgs{Group: intakeGroup, Consumer: fmt.Sprintf("dead-consumer-%d", o.random),
				Streams: []string{r.keys.Requests(), ">"}, Count: 50, Block: time.Second}).Err()
			return nil
		}},
		{"intake-flood", group, moment, moment, func(ctx context.Context, o injection) error {
			p := &producer{rdb: r.rdb, generator: r.generator, journal: r.journal, entries: &r.entries}
			for i := range 100 {
				p.addEntry(ctx, r.keys.Requests(), fmt.Sprintf("flood-%d-%d", o.random%1_000_000, i), i%2 == 0)
			}
			return nil
		}},
	}
}

// intakeGroup is the consumer group of the workers' intake.
const intakeGroup = "kyclink"

// rejected returns the ids of the intake entries in the stream of rejects.
func (r *rig) rejected(ctx context.Context) (map[string]bool, error) {
	raw, err := r.rdb.XRange(ctx, r.keys.Rejects(), "-", "+").Result()
	if err != nil {
		return nil, fmt.Errorf("read the stream of rejects: %w", err)
	}
	all := map[string]bool{}
	for _, e := range raw {
		all[fmt.Sprint(e.Values["entry"])] = true
	}
	return all, nil
}

// unsettled describes entries that are still in the intake stream.
func (r *rig) unsettled(ctx context.Context) ([]string, error) {
	few, err := r.rdb.XRangeN(ctx, r.keys.Requests(), "-", "+", 5).Result()
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
	return []string{fmt.Sprintf("%s still contains %s", r.keys.Requests(), strings.Join(ids, ", "))}, nil
}

// checkIntake checks that every entry was accepted or rejected.
func (e evidence) checkIntake() (found []string) {
	for _, entry := range sortedIDs(e.entries) {
		added := e.entries[entry]
		accepted := added.id != "" && len(e.records[added.id]) > 0
		if !accepted && !e.rejected[entry] && !e.mayBeLost(added.at) {
			found = append(found, fmt.Sprintf("intake entry %s for %q was neither accepted nor rejected", entry, added.id))
		}
	}
	return found
}
