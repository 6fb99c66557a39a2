package account

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
)

const (
	maxHeads   = 10 // queued requests of a lane that are read, as its order is not quite that of their ages
	maxRunning = 20 // batches whose next request is read; they take turns
)

// Oldest is how long ago the oldest request of each lane was accepted among those that are
// called next; 0 for an empty lane.
type Oldest struct{ Interactive, Bulk time.Duration }

// oldest reads it. It reads requests that are waiting in running batches, but not those of
// paused ones, which wait because a person wants them to.
func (a *Reader) oldest(ctx context.Context) (Oldest, error) {
	clock := a.keys.Clock(ctx, a.rdb)
	interactive, bulk, batches, err := a.heads(ctx)
	if err != nil {
		return Oldest{}, err
	}
	next, err := a.nextOfBatches(ctx, batches)
	if err != nil {
		return Oldest{}, err
	}
	now, err := clock.Time()
	if err != nil {
		return Oldest{}, err
	}
	records := record.NewReader(a.rdb, a.keys)
	age := func(ids []string) (oldest time.Duration, err error) {
		found, err := records.Headers(ctx, ids)
		for _, r := range found {
			if r.State == request.Waiting || r.State == request.Queued {
				oldest = max(oldest, now.Sub(r.AcceptedAt))
			}
		}
		return oldest, err
	}
	var o Oldest
	if o.Interactive, err = age(interactive); err != nil {
		return o, err
	}
	o.Bulk, err = age(append(bulk, next...))
	return o, err
}

// heads reads the first queued requests of both lanes, and the batches that are fed next.
func (a *Reader) heads(ctx context.Context) (interactive, bulk []string, batches []int, err error) {
	var first, second, running *redis.StringSliceCmd
	_, err = a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		first = pipe.ZRange(ctx, a.keys.Queued(request.Interactive), 0, maxHeads-1)
		second = pipe.ZRange(ctx, a.keys.Queued(request.Bulk), 0, maxHeads-1)
		running = pipe.ZRange(ctx, a.keys.Running(), 0, maxRunning-1)
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read the heads of the lanes: %w", err)
	}
	for _, text := range running.Val() {
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("read the running batches: unexpected number %q", text)
		}
		batches = append(batches, number)
	}
	return first.Val(), second.Val(), batches, nil
}

// nextOfBatches returns the requests of batches that are fed next: at most two of each.
func (a *Reader) nextOfBatches(ctx context.Context, batches []int) (ids []string, err error) {
	if len(batches) == 0 {
		return nil, nil
	}
	requeued, cursors := make([]*redis.StringCmd, len(batches)), make([]*redis.SliceCmd, len(batches))
	if _, err := a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, n := range batches {
			requeued[i], cursors[i] = pipe.LIndex(ctx, a.keys.Requeued(n), 0), pipe.HMGet(ctx, a.keys.Batch(n), "cursor", "lines")
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the running batches: %w", err)
	}
	chunks := make([]*redis.StringCmd, len(batches))
	if _, err := a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, n := range batches {
			cursor, _ := cursors[i].Val()[0].(string) // absent for requests without a batch
			chunks[i] = pipe.HGet(ctx, a.keys.Order(n), cursor)
		}
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the next rows of the running batches: %w", err)
	}
	for i := range batches {
		if id := requeued[i].Val(); id != "" {
			ids = append(ids, id)
		}
		lines, _ := cursors[i].Val()[1].(string)
		fed, _ := strconv.Atoi(lines) // absent is 0
		if rows := order.ParseChunk(chunks[i].Val()); fed < len(rows) && rows[fed].ApplicationID != "" {
			ids = append(ids, rows[fed].ApplicationID)
		}
	}
	return ids, nil
}
