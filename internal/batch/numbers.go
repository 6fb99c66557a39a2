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

// NumbersFrom are the numbers of the first batches from one on.
func (s *Store) NumbersFrom(ctx context.Context, from, most int) ([]int, error) {
	if err := s.index(ctx); err != nil {
		return nil, err
	}
	texts, err := s.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
		Key: s.keys.Numbered(), Start: strconv.Itoa(from), Stop: "+inf", ByScore: true, Count: int64(most),
	}).Result()
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

// Numbers are those of all batches, 0 for what is in none first.
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

// index numbers the batches of versions that kept no numbers in order. The feeder looks
// at each once: such a version may have left it behind a gap in its chunks.
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
			return fmt.Errorf("number the batches: %w", err)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

const (
	emptyInterval = time.Hour      // between two walks through all batches
	emptyPage     = 100            // that one call looks at
	emptyFor      = 24 * time.Hour // for which nothing was imported
)

// DropEmpty deletes batches of which nothing is left: all of their rows were erased,
// or none was ever accepted, and nothing was imported into them for a day. It goes a
// part of its way through all batches, and gives how many it deleted; another walk
// begins an hour after the last one.
func (s *Store) DropEmpty(ctx context.Context) (dropped int, err error) {
	now, err := s.keys.Clock(ctx, s.rdb).Time()
	if err != nil {
		return 0, err
	}
	text, err := s.rdb.HGet(ctx, s.keys.State(), "emptied").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read which batches were looked at: %w", err)
	}
	var from int
	var begun int64
	_, _ = fmt.Sscan(text, &from, &begun) // it starts over if that cannot be read
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
		return dropped, fmt.Errorf("keep which batches were looked at: %w", err)
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
		for lines, err := range s.Order(ctx, number) {
			if err != nil {
				return false, err
			}
			for _, line := range lines {
				if line.ApplicationID != "" {
					return false, nil
				}
			}
		}
	}
	gone, err := dropBatchScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"batch": number, "joined": b.Joined, "unused_since": before.UnixMilli(),
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("delete batch %d, of which nothing is left: %w", number, err)
	}
	return gone, nil
}
