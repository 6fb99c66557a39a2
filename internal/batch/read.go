package batch

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Names returns the names of all batches, sorted.
func (s *Store) Names(ctx context.Context) (names []string, err error) {
	for cursor := uint64(0); ; {
		var page []string // each name is followed by its number
		if page, cursor, err = s.rdb.HScan(ctx, s.keys.Batches(), cursor, "", batchesPage).Result(); err != nil {
			return nil, fmt.Errorf("read the batches: %w", err)
		}
		for i := 0; i < len(page); i += 2 {
			names = append(names, page[i])
		}
		if cursor == 0 {
			slices.Sort(names)
			return slices.Compact(names), nil
		}
	}
}

// batchesPage is the number of batches in one read.
const batchesPage = 500

// All reads all batches in the order of their creation.
func (s *Store) All(ctx context.Context) ([]Batch, error) {
	all, _, err := s.After(ctx, 0, math.MaxInt)
	return all, err
}

// After reads at most limit batches, in the order of their creation, from the one after a
// number; 0 for the first. more reports that there are others after them.
func (s *Store) After(ctx context.Context, number, limit int) (batches []Batch, more bool, err error) {
	ends, err := s.recentEnds(ctx)
	if err != nil {
		return nil, false, err
	}
	batches = []Batch{}
	for len(batches) < limit {
		page, err := s.NumbersFrom(ctx, number+1, batchesPage)
		if err != nil {
			return nil, false, err
		}
		if len(page) == 0 {
			return batches, false, nil
		}
		page = page[:min(len(page), limit-len(batches))]
		number = page[len(page)-1]
		read, err := s.readBatches(ctx, page)
		if err != nil {
			return nil, false, err
		}
		for _, b := range read {
			batches = append(batches, ends.estimate(b))
		}
	}
	after, err := s.NumbersFrom(ctx, number+1, 1)
	return batches, len(after) > 0, err
}

// Before reads at most limit batches that were created before that of a number, the newest
// first; 0 starts with the newest of all. next is the number with which the list continues, 0
// at its end. Batches that no longer exist are omitted, so that there may be fewer.
func (s *Store) Before(ctx context.Context, number, limit int) (batches []Batch, next int, err error) {
	ends, err := s.recentEnds(ctx)
	if err != nil {
		return nil, 0, err
	}
	page, err := s.numbersBefore(ctx, number, limit+1)
	if err != nil {
		return nil, 0, err
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1]
	}
	batches, err = s.readBatches(ctx, page)
	for i, b := range batches {
		batches[i] = ends.estimate(b)
	}
	return batches, next, err
}

// Counted reads batches as [Store.ByName] does, in one round trip. Those that no longer exist
// are omitted.
func (s *Store) Counted(ctx context.Context, numbers []int) ([]Batch, error) {
	hashes := make([]*redis.MapStringStringCmd, len(numbers))
	if _, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, number := range numbers {
			hashes[i] = pipe.HGetAll(ctx, s.keys.Batch(number))
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the batches: %w", err)
	}
	batches := make([]Batch, 0, len(numbers))
	for i, number := range numbers {
		if len(hashes[i].Val()) == 0 {
			continue
		}
		b, err := parseBatch(number, hashes[i].Val())
		if err != nil {
			return nil, err
		}
		batches = append(batches, b)
	}
	return batches, nil
}

// Named reads batches by their names. Those that do not exist are omitted.
func (s *Store) Named(ctx context.Context, names []string) ([]Batch, error) {
	if len(names) == 0 {
		return nil, nil
	}
	ends, err := s.recentEnds(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.rdb.HMGet(ctx, s.keys.Batches(), names...).Result()
	if err != nil {
		return nil, fmt.Errorf("read the numbers of batches: %w", err)
	}
	numbers := make([]int, 0, len(names))
	for _, text := range found {
		if text != nil {
			numbers = append(numbers, parseCount(text))
		}
	}
	batches, err := s.readBatches(ctx, numbers)
	for i, b := range batches {
		batches[i] = ends.estimate(b)
	}
	return batches, err
}

// readBatches is [Store.Counted] with the states of joined rows.
func (s *Store) readBatches(ctx context.Context, numbers []int) ([]Batch, error) {
	batches, err := s.Counted(ctx, numbers)
	if err != nil {
		return nil, err
	}
	for i, b := range batches {
		if batches[i], err = s.withJoined(ctx, b); err != nil {
			return nil, err
		}
	}
	return batches, nil
}

// Get reads a batch by its number; ok is false if there is none. The time depends on the
// number of joined rows, and not on the number of all rows.
func (s *Store) Get(ctx context.Context, number int) (b Batch, ok bool, err error) {
	hash, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err == nil && len(hash) == 0 {
		return b, false, nil
	}
	if err == nil {
		b, err = parseBatch(number, hash)
	}
	if err == nil {
		b, err = s.withJoined(ctx, b)
	}
	if err != nil {
		return b, false, fmt.Errorf("read batch %d: %w", number, err)
	}
	ends, err := s.recentEnds(ctx)
	return ends.estimate(b), err == nil, err
}
