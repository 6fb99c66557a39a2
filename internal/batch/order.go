package batch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/order"
)

const (
	orderPage = 5 // chunks in one read
	// maxMissing is the number of chunks that may be missing in a batch of an older
	// version, which did not store the number of the last one. An import writes fewer
	// chunks at a time.
	maxMissing = 16
)

// LastChunk returns the number of the last chunk of a batch, or a higher one; -1 if it has
// no chunks. Chunks are written in any order, and those of a killed import may be missing.
func (s *Store) LastChunk(ctx context.Context, batch int) (int, error) {
	var length *redis.IntCmd
	var last *redis.StringCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		length, last = pipe.HLen(ctx, s.keys.Order(batch)), pipe.HGet(ctx, s.keys.Batch(batch), "last")
		return nil
	}); err != nil && !errors.Is(err, redis.Nil) {
		return -1, fmt.Errorf("read the order of batch %d: %w", batch, err)
	}
	if length.Val() == 0 {
		return -1, nil
	}
	return max(parseCount(last.Val()), int(length.Val())-1+maxMissing), nil
}

// Order iterates over the rows of a batch in input order, up to 500 at a time. Rows that are
// imported during the iteration may or may not be included.
func (s *Store) Order(ctx context.Context, number int) iter.Seq2[[]order.Row, error] {
	return func(yield func([]order.Row, error) bool) {
		for chunks, err := range s.Chunks(ctx, number) {
			var page []order.Row
			for _, c := range chunks {
				page = append(page, order.ParseChunk(c.Text)...)
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// OrderAfter returns some rows of a batch that follow a row, 0 for the first ones, and the
// row after which the next call continues, 0 if there are no more. It may return none
// although there are more.
func (s *Store) OrderAfter(ctx context.Context, number, row int) (rows []order.Row, next int, err error) {
	last, err := s.LastChunk(ctx, number)
	if err != nil {
		return nil, 0, err
	}
	chunk := row / order.ChunkRows
	chunks, err := s.chunksAt(ctx, number, chunk, orderPage)
	if err != nil {
		return nil, 0, err
	}
	for _, c := range chunks {
		for _, r := range order.ParseChunk(c.Text) {
			if r.Row > row {
				rows = append(rows, r)
			}
		}
	}
	if chunk += orderPage; chunk > last {
		return rows, 0, nil
	}
	return rows, chunk * order.ChunkRows, nil
}

// Chunk is a chunk of a batch's order, see [order.ParseChunk].
type Chunk struct {
	Number int
	Text   string
}

// Chunks iterates over the chunks of a batch, a few at a time, up to the last chunk at the
// beginning of the iteration.
func (s *Store) Chunks(ctx context.Context, batch int) iter.Seq2[[]Chunk, error] {
	return func(yield func([]Chunk, error) bool) {
		last, err := s.LastChunk(ctx, batch)
		if err != nil {
			yield(nil, err)
			return
		}
		for at := 0; at <= last; at += orderPage {
			page, err := s.chunksAt(ctx, batch, at, orderPage)
			if (len(page) > 0 || err != nil) && !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// chunksAt reads n chunks from a number on. Missing chunks are omitted.
func (s *Store) chunksAt(ctx context.Context, batch, at, n int) ([]Chunk, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = strconv.Itoa(at + i)
	}
	values, err := s.rdb.HMGet(ctx, s.keys.Order(batch), names...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the order of batch %d: %w", batch, err)
	}
	page := make([]Chunk, 0, n)
	for i, v := range values {
		if text, ok := v.(string); ok {
			page = append(page, Chunk{at + i, text})
		}
	}
	return page, nil
}

// parseCount parses a number; an absent one is 0.
func parseCount(value any) int {
	text, _ := value.(string)
	n, _ := strconv.Atoi(text)
	return n
}
