package batch

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

var dropBatchScript = scripts.Script("drop_batch.lua")

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

const (
	emptyInterval = time.Hour      // between two passes over all batches
	emptyPage     = 100            // batches that one call examines
	emptyFor      = 24 * time.Hour // minimum time since the last import
)

// DropEmpty deletes empty batches, whose rows were all erased or never accepted, if nothing
// was imported into them for a day. Each call examines some of the batches and returns the
// number that it deleted; a pass over all of them begins an hour after the previous one.
func (s *Store) DropEmpty(ctx context.Context) (dropped int, err error) {
	now, err := s.keys.Clock(ctx, s.rdb).Time()
	if err != nil {
		return 0, err
	}
	text, err := s.rdb.HGet(ctx, s.keys.State(), "emptied").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read the progress of deleting empty batches: %w", err)
	}
	var from int
	var begun int64
	_, _ = fmt.Sscan(text, &from, &begun) // an unreadable progress starts over
	if since := now.Sub(time.UnixMilli(begun)); from == 0 && since >= 0 && since < emptyInterval {
		return 0, nil
	}
	if from == 0 {
		begun = now.UnixMilli()
	}
	numbers, err := s.NumbersFrom(ctx, from+1, emptyPage)
	if err != nil {
		return 0, err
	}
	for _, number := range numbers {
		gone, err := s.dropIfEmpty(ctx, number, now.Add(-emptyFor))
		if err != nil {
			return dropped, err
		}
		if gone {
			dropped++
		}
	}
	from = 0
	if len(numbers) == emptyPage {
		from = numbers[len(numbers)-1]
	}
	if err := s.rdb.HSet(ctx, s.keys.State(), "emptied", fmt.Sprint(from, begun)).Err(); err != nil {
		return dropped, fmt.Errorf("store the progress of deleting empty batches: %w", err)
	}
	return dropped, nil
}

func (s *Store) dropIfEmpty(ctx context.Context, number int, before time.Time) (bool, error) {
	hash, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err != nil {
		return false, fmt.Errorf("read batch %d: %w", number, err)
	}
	b, err := parseBatch(number, hash)
	if err != nil || b.Rows != b.Joined+b.Counts[Erased] {
		return false, err
	}
	if b.Joined > 0 {
		for rows, err := range s.Order(ctx, number) {
			if err != nil {
				return false, err
			}
			for _, row := range rows {
				if row.ApplicationID != "" {
					return false, nil
				}
			}
		}
	}
	gone, err := dropBatchScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"batch": number, "joined": b.Joined, "unused_since": before.UnixMilli(),
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("delete the empty batch %d: %w", number, err)
	}
	return gone, nil
}
