package search

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/order"
)

// timelineStep is how many entries of a timeline are read at a time.
const timelineStep = 500

// timeline is a sorted set of requests or deliveries by time, in ms, which is read from the
// newest on or, if it rises, from the oldest. A place is the time and the ID of the entry
// before it.
type timeline struct {
	rdb           redis.Cmdable
	key           string
	since, before time.Time
	rises         bool
}

func (t timeline) step(ctx context.Context, from string) (step, error) {
	newest, oldest := "+inf", "-inf"
	if !t.before.IsZero() {
		newest = "(" + strconv.FormatInt(t.before.UnixMilli(), 10)
	}
	if !t.since.IsZero() {
		oldest = strconv.FormatInt(t.since.UnixMilli(), 10)
	}
	last := place{}
	if from != "" {
		var err error
		if last, err = parsePlace(from); err != nil {
			return step{}, err
		}
		begin := &newest
		if t.rises {
			begin = &oldest
		}
		*begin = strconv.FormatInt(last.at, 10)
	}
	start, stop := newest, oldest
	if t.rises {
		start, stop = oldest, newest
	}
	// Any number of entries may share the time of the last one and precede the place.
	for count := int64(timelineStep); ; count *= 2 {
		found, err := t.rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: t.key, ByScore: true, Start: start, Stop: stop, Rev: !t.rises, Count: count,
		}).Result()
		if err != nil {
			return step{}, fmt.Errorf("read a list by time: %w", err)
		}
		entries := make([]entry, 0, len(found))
		for _, z := range found {
			p := place{int64(z.Score), z.Member.(string)}
			behind := p.compare(last) < 0
			if t.rises {
				behind = p.compare(last) > 0
			}
			if from == "" || behind {
				entries = append(entries, entry{p.id, p.String()})
			}
		}
		end := int64(len(found)) < count
		if len(entries) == 0 && !end {
			continue
		}
		s := step{entries: entries, end: end, next: from}
		if len(entries) > 0 {
			s.next = entries[len(entries)-1].after
		}
		return s, nil
	}
}

// place is a place in a timeline.
type place struct {
	at int64 // ms
	id string
}

func (p place) String() string { return fmt.Sprintf("%d %s", p.at, p.id) }

func (p place) compare(q place) int { return cmp.Or(cmp.Compare(p.at, q.at), cmp.Compare(p.id, q.id)) }

// isPlace reports whether a place is in a timeline, and not in the rows of a batch.
func isPlace(text string) bool { return strings.Contains(text, " ") }

func parsePlace(text string) (place, error) {
	at, id, ok := strings.Cut(text, " ")
	ms, err := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil {
		return place{}, &CursorError{"is damaged"}
	}
	return place{ms, id}, nil
}

// rows are the rows of a batch in the input's order. A place is the row before it.
type rows struct {
	batches *batch.Store
	number  int
	// only, if it is set, is the key of a sorted set that must contain them.
	only string
	rdb  redis.Cmdable
}

func (b rows) step(ctx context.Context, from string) (step, error) {
	after := 0
	if from != "" {
		var err error
		if after, err = strconv.Atoi(from); err != nil || after < 0 {
			return step{}, &CursorError{"is damaged"}
		}
	}
	page, next, err := b.batches.OrderAfter(ctx, b.number, after)
	if err != nil {
		return step{}, err
	}
	s := step{next: strconv.Itoa(next), end: next == 0, visited: max(len(page), order.ChunkRows)} // erased rows and missing chunks cost as well
	for _, row := range page {
		if row.ApplicationID != "" {
			s.entries = append(s.entries, entry{row.ApplicationID, strconv.Itoa(row.Row)})
		}
	}
	if b.only != "" {
		s.entries, err = b.members(ctx, s.entries)
	}
	return s, err
}

// members returns the entries that are in the sorted set, whose scores are times after 0.
func (b rows) members(ctx context.Context, entries []entry) (members []entry, err error) {
	if len(entries) == 0 {
		return nil, nil
	}
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.id
	}
	scores, err := b.rdb.ZMScore(ctx, b.only, ids...).Result()
	if err != nil {
		return nil, fmt.Errorf("read a list by ID: %w", err)
	}
	for i, e := range entries {
		if scores[i] != 0 {
			members = append(members, e)
		}
	}
	return members, nil
}

// How many keys one step of a walk visits: more of them if few are read. Redis does nothing
// else meanwhile, and needs more than a microsecond for each of a million keys.
const (
	walkStep       = 1000
	prefixWalkStep = 2000
)

// walk is a walk through all keys. A place is the cursor of a step, and the ID after which
// its entries continue.
type walk struct {
	rdb    redis.UniversalClient
	keys   keyspace.Keys
	prefix string
}

func (w walk) step(ctx context.Context, from string) (step, error) {
	cursor, after := uint64(0), ""
	if from != "" {
		number, id, _ := strings.Cut(from, " ")
		var err error
		if cursor, err = strconv.ParseUint(number, 10, 64); err != nil {
			return step{}, &CursorError{"is damaged"}
		}
		after = id
	}
	node, err := w.keys.Node(ctx, w.rdb)
	if err != nil {
		return step{}, err
	}
	start := w.keys.Record("")
	visited := walkStep
	if w.prefix != "" {
		visited = prefixWalkStep
	}
	found, next, err := node.Scan(ctx, cursor, escape(start+w.prefix)+"*", int64(visited)).Result()
	if err != nil {
		return step{}, fmt.Errorf("walk through the requests: %w", err)
	}
	ids := make([]string, 0, len(found))
	for _, key := range found {
		if id := strings.TrimPrefix(key, start); id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	s := step{next: fmt.Sprintf("%d ", next), end: next == 0, visited: visited}
	for _, id := range slices.Compact(ids) {
		s.entries = append(s.entries, entry{id, fmt.Sprintf("%d %s", cursor, id)})
	}
	return s, nil
}

// escape quotes the characters that have a meaning in a pattern of Redis.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
