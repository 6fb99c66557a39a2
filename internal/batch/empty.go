package batch

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

var dropBatchScript = scripts.Script("drop_batch.lua")

const (
	emptyPage     = 100            // batches that one call examines
	emptyInterval = time.Hour      // between two passes over all batches
	mixedFor      = 24 * time.Hour // how long an earlier version may run beside this one
)

// Fields of the account. indexesSince is when the first worker of this version joined, in
// ms: it lists the batches that may be empty. emptyPass is the progress of a pass over all
// batches.
const (
	indexesSince = "indexes_since"
	emptyPass    = "emptied"
)

// DropEmpty deletes empty batches, whose rows were all erased or never accepted, if nothing
// was imported into them for a day. Each call examines some batches of those that may be
// empty, and returns the number that it deleted. Until a day after the first worker of this
// version joined, hourly passes over all batches find those that an earlier version has not
// listed.
func (s *Store) DropEmpty(ctx context.Context) (dropped int, err error) {
	now, err := s.keys.Clock(ctx, s.rdb).Time()
	if err != nil {
		return 0, err
	}
	// An entry of this very millisecond could be renewed without a change of its time.
	listed, err := s.rdb.ZRangeByScoreWithScores(ctx, s.keys.PerhapsEmpty(), &redis.ZRangeBy{
		Min: "-inf", Max: "(" + strconv.FormatInt(now.UnixMilli(), 10), Count: emptyPage,
	}).Result()
	if err != nil {
		return 0, fmt.Errorf("read which batches may be empty: %w", err)
	}
	for _, entry := range listed {
		number, err := strconv.Atoi(fmt.Sprint(entry.Member))
		if err != nil {
			return dropped, fmt.Errorf("batch number %q: %w", entry.Member, err)
		}
		gone, err := s.dropIfEmpty(ctx, number, strconv.FormatInt(int64(entry.Score), 10))
		if err != nil {
			return dropped, err
		}
		dropped += gone
	}
	unlisted, err := s.dropUnlisted(ctx, now)
	return dropped + unlisted, err
}

// dropUnlisted does a part of a pass over all batches, unless none is needed any more or the
// last one was within an hour.
func (s *Store) dropUnlisted(ctx context.Context, now time.Time) (dropped int, err error) {
	state, err := s.rdb.HMGet(ctx, s.keys.State(), emptyPass, indexesSince).Result()
	if err != nil {
		return 0, fmt.Errorf("read the progress of deleting empty batches: %w", err)
	}
	text, _ := state[0].(string)
	var from int
	var begun int64
	_, _ = fmt.Sscan(text, &from, &begun) // an unreadable progress starts over
	since, joined := state[1].(string)
	listed, err := strconv.ParseInt(since, 10, 64)
	switch {
	case from > 0:
	case joined && err == nil && begun >= listed+mixedFor.Milliseconds():
		return 0, nil // a whole pass began when all workers listed what they left
	case now.UnixMilli() >= begun && now.UnixMilli()-begun < emptyInterval.Milliseconds():
		return 0, nil
	default:
		begun = now.UnixMilli()
	}
	numbers, err := s.NumbersFrom(ctx, from+1, emptyPage)
	if err != nil {
		return 0, err
	}
	for _, number := range numbers {
		gone, err := s.dropIfEmpty(ctx, number, "")
		if err != nil {
			return dropped, err
		}
		dropped += gone
	}
	from = 0
	if len(numbers) == emptyPage {
		from = numbers[len(numbers)-1]
	}
	if err := s.rdb.HSet(ctx, s.keys.State(), emptyPass, fmt.Sprint(from, begun)).Err(); err != nil {
		return dropped, fmt.Errorf("store the progress of deleting empty batches: %w", err)
	}
	return dropped, nil
}

// dropIfEmpty returns 1 if it deleted the batch, else 0. due is the time of its entry among
// the batches that may be empty, in ms; "" if it has none.
func (s *Store) dropIfEmpty(ctx context.Context, number int, due string) (int, error) {
	hash, err := s.rdb.HGetAll(ctx, s.keys.Batch(number)).Result()
	if err != nil {
		return 0, fmt.Errorf("read batch %d: %w", number, err)
	}
	b, err := parseBatch(number, hash)
	if err != nil || due == "" && b.Rows != b.Joined+b.Counts[Erased] {
		return 0, err
	}
	left := false
	if b.Rows == b.Joined+b.Counts[Erased] && b.Joined > 0 {
		if left, err = s.hasRows(ctx, number); err != nil {
			return 0, err
		}
	}
	gone, err := dropBatchScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"batch": number, "joined": b.Joined, "rows_left": left, "due": due,
	}).Int()
	if err != nil {
		return 0, fmt.Errorf("delete the empty batch %d: %w", number, err)
	}
	return gone, nil
}

// hasRows reports whether a row of a batch has the id of a request.
func (s *Store) hasRows(ctx context.Context, number int) (bool, error) {
	for rows, err := range s.Order(ctx, number) {
		if err != nil {
			return false, err
		}
		for _, row := range rows {
			if row.ApplicationID != "" {
				return true, nil
			}
		}
	}
	return false, nil
}
