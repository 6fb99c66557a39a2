package ledger

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/record"
)

// Keys names the account's keys.
func (l *Ledger) Keys() record.Keys { return l.keys }

// Backlog is how many requests wait or are queued in each lane.
type Backlog struct {
	Interactive int `json:"interactive"`
	Bulk        int `json:"bulk"`
}

// Account reads of which kind the account's links are, "" before the first one,
// what waits, and how many worker processes live.
func (l *Ledger) Account(ctx context.Context) (upstream string, waits Backlog, workers int, err error) {
	fields, err := l.rdb.HMGet(ctx, l.keys.State(), "upstream").Result()
	if err != nil {
		return "", Backlog{}, 0, fmt.Errorf("read the account: %w", err)
	}
	upstream, _ = fields[0].(string)
	waits, workers, err = l.backlog(ctx)
	return upstream, waits, workers, err
}

// backlog adds the batches' counters up. An interactive request never waits to
// be fed: it is in the sorted set of its lane from its acceptance on.
func (l *Ledger) backlog(ctx context.Context) (Backlog, int, error) {
	numbers, err := l.rdb.HVals(ctx, l.keys.Batches()).Result()
	if err != nil {
		return Backlog{}, 0, fmt.Errorf("read the batches: %w", err)
	}
	now, err := l.keys.Clock(ctx, l.rdb).Time()
	if err != nil {
		return Backlog{}, 0, fmt.Errorf("read the time: %w", err)
	}
	alive := now.Add(-l.cfg.DeadAfter).UnixMilli()
	var interactive, workers *redis.IntCmd
	var counts []*redis.SliceCmd
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		interactive = pipe.ZCard(ctx, l.keys.Queued(record.Interactive))
		workers = pipe.ZCount(ctx, l.keys.Workers(), strconv.FormatInt(alive, 10), "+inf")
		for _, n := range append(numbers, "0") {
			number, err := strconv.Atoi(n)
			if err != nil {
				return fmt.Errorf("batch number %q: %w", n, err)
			}
			counts = append(counts, pipe.HMGet(ctx, l.keys.Batch(number), string(record.Waiting), string(record.Queued)))
		}
		return nil
	})
	if err != nil {
		return Backlog{}, 0, fmt.Errorf("read the backlog: %w", err)
	}
	total := 0
	for _, c := range counts {
		for _, v := range c.Val() {
			text, _ := v.(string)
			n, _ := strconv.Atoi(text) // absent is 0
			total += n
		}
	}
	waits := Backlog{Interactive: int(interactive.Val())}
	waits.Bulk = max(0, total-waits.Interactive)
	return waits, int(workers.Val()), nil
}
