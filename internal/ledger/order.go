package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
)

const (
	orderPage = 5 // chunks that are read at a time
	// leftOut is how many chunks a version may have left out that did not keep the
	// number of the last one: more than an import has on its way.
	leftOut = 16
)

// lastChunk is the number of the last chunk of a batch's order, or one after it;
// below 0 where there is none. Chunks come in any order, and some never come: those
// of an import that was killed.
func (l *Ledger) lastChunk(ctx context.Context, batch int) (int, error) {
	var length *redis.IntCmd
	var last *redis.StringCmd
	if _, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		length, last = pipe.HLen(ctx, l.keys.Order(batch)), pipe.HGet(ctx, l.keys.Batch(batch), "last")
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return -1, fmt.Errorf("read the order of batch %d: %w", batch, err)
	}
	if length.Val() == 0 {
		return -1, nil
	}
	return max(whole(last.Val()), int(length.Val())-1+leftOut), nil
}

// Order walks through the rows of a batch in the input's order, up to 500 at a
// time. Rows that are imported meanwhile may or may not be among them.
func (l *Ledger) Order(ctx context.Context, number int) iter.Seq2[[]batch.Row, error] {
	return func(yield func([]batch.Row, error) bool) {
		for chunks, err := range l.chunks(ctx, number) {
			var page []batch.Row
			for _, c := range chunks {
				page = append(page, batch.ParseChunk(c.text)...)
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// chunk is one of an order.
type chunk struct {
	number int
	text   string
}

// chunks walks through an order, a few at a time, to the last chunk that there was
// when it began.
func (l *Ledger) chunks(ctx context.Context, batch int) iter.Seq2[[]chunk, error] {
	return func(yield func([]chunk, error) bool) {
		last, err := l.lastChunk(ctx, batch)
		if err != nil {
			yield(nil, err)
			return
		}
		for at := 0; at <= last; at += orderPage {
			page, err := l.chunksAt(ctx, batch, at, orderPage)
			if (len(page) > 0 || err != nil) && !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// chunksAt reads those of n chunks that are there.
func (l *Ledger) chunksAt(ctx context.Context, batch, at, n int) ([]chunk, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(at + i)
	}
	values, err := l.rdb.HMGet(ctx, l.keys.Order(batch), names...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the order of batch %d: %w", batch, err)
	}
	page := make([]chunk, 0, n)
	for i, v := range values {
		if text, ok := v.(string); ok {
			page = append(page, chunk{at + i, text})
		}
	}
	return page, nil
}
