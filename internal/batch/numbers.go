package batch

import (
	"context"
	"fmt"
	"iter"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// NumbersFrom returns the numbers of at most limit batches, from a number on, in order.
func (s *Store) NumbersFrom(ctx context.Context, from, limit int) ([]int, error) {
	return s.numbers(ctx, redis.ZRangeArgs{Start: strconv.Itoa(from), Stop: "+inf", Count: int64(limit)})
}

// numbersBefore returns the numbers of at most limit batches before a number, the latest
// first; 0 is after all of them.
func (s *Store) numbersBefore(ctx context.Context, number, limit int) ([]int, error) {
	start := "+inf"
	if number > 0 {
		start = "(" + strconv.Itoa(number)
	}
	return s.numbers(ctx, redis.ZRangeArgs{Start: start, Stop: "-inf", Rev: true, Count: int64(limit)})
}

// numbers returns the numbers in a range.
func (s *Store) numbers(ctx context.Context, part redis.ZRangeArgs) ([]int, error) {
	if err := s.index(ctx); err != nil {
		return nil, err
	}
	part.Key, part.ByScore = s.keys.Numbered(), true
	texts, err := s.rdb.ZRangeArgs(ctx, part).Result()
	if err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	numbers := make([]int, len(texts))
	for i, text := range texts {
		if numbers[i], err = strconv.Atoi(text); err != nil {
			return nil, fmt.Errorf("batch number %q: %w", text, err)
		}
	}
	return numbers, nil
}

// Numbers iterates over the numbers of all batches. The first is 0, for requests without a
// batch.
func (s *Store) Numbers(ctx context.Context) iter.Seq2[int, error] {
	return func(yield func(int, error) bool) {
		for page := []int{0}; len(page) > 0; {
			for _, number := range page {
				if !yield(number, nil) {
					return
				}
			}
			var err error
			if page, err = s.NumbersFrom(ctx, page[len(page)-1]+1, batchesPage); err != nil {
				yield(0, err)
				return
			}
		}
	}
}

// index adds the batches of older versions, which had no index of numbers. It also has the
// feeder serve each once, since such a version may have stopped at a missing chunk.
func (s *Store) index(ctx context.Context) error {
	var named, numbered *redis.IntCmd
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		named, numbered = pipe.HLen(ctx, s.keys.Batches()), pipe.ZCard(ctx, s.keys.Numbered())
		return nil
	}); err != nil {
		return fmt.Errorf("count the batches: %w", err)
	}
	if numbered.Val() >= named.Val() {
		return nil
	}
	for cursor := uint64(0); ; {
		page, next, err := s.rdb.HScan(ctx, s.keys.Batches(), cursor, "", batchesPage).Result()
		if err != nil {
			return fmt.Errorf("read the batches: %w", err)
		}
		members := make([]redis.Z, 0, len(page)/2)
		for i := 1; i < len(page); i += 2 {
			number, err := strconv.Atoi(page[i])
			if err != nil {
				return fmt.Errorf("batch number %q: %w", page[i], err)
			}
			members = append(members, redis.Z{Score: float64(number), Member: number})
		}
		if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			if len(members) > 0 {
				pipe.ZAddNX(ctx, s.keys.Numbered(), members...)
				pipe.ZAddNX(ctx, s.keys.Running(), members...)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("index the batches: %w", err)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}
