package erasure

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var eraseEarlierScript = scripts.Script("erase_earlier.lua")

// Retention finds ended records by scanning all keys in small parts. An index would cost
// 100 MB for a million ended requests, one more command for every end, and one more place
// that names a person. The scan reads one header per record and hour.
const (
	retentionRound = time.Hour // duration of one scan of all keys
	scanPage       = 1000      // keys of one command
	maxScans       = 50        // commands of one call
)

// EraseExpired erases ended requests, and earlier generations, whose end is older than the
// retention, and returns the number of erased requests. Each call scans a part of the keys,
// so that calls at the given interval examine every request once an hour. The progress is
// stored in Redis. Events stay until their age, since consumers may not have read them.
func (er *Eraser) EraseExpired(ctx context.Context, interval time.Duration) (erased int, err error) {
	if er.retention == 0 {
		return 0, nil
	}
	node, err := er.keys.Node(ctx, er.rdb)
	if err != nil {
		return 0, err
	}
	now, err := er.keys.Clock(ctx, er.rdb).Time()
	if err != nil {
		return 0, err
	}
	var size *redis.IntCmd
	if _, err := node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		size = pipe.DBSize(ctx)
		return nil
	}); err != nil {
		return 0, fmt.Errorf("count the keys: %w", err)
	}
	cursor, err := er.cursor(ctx)
	if err != nil {
		return 0, err
	}
	endedBy := now.Add(-er.retention).UnixMilli()
	part := interval.Seconds() / retentionRound.Seconds() * float64(size.Val()) / scanPage
	for range min(1+int(part), maxScans) {
		var keys []string
		if keys, cursor, err = node.Scan(ctx, cursor, er.keys.Tag()+"*", scanPage).Result(); err != nil {
			return erased, fmt.Errorf("scan the keys: %w", err)
		}
		n, err := er.eraseKeys(ctx, keys, endedBy)
		if erased += n; err != nil {
			return erased, err
		}
		if cursor == 0 {
			if _, err := er.eraseUnsearched(ctx); err != nil {
				return erased, err
			}
			break
		}
	}
	if err := er.rdb.HSet(ctx, er.keys.State(), "retention", cursor).Err(); err != nil {
		return erased, fmt.Errorf("store the progress of retention: %w", err)
	}
	return erased, nil
}

// cursor returns where the scan of the keys continues.
func (er *Eraser) cursor(ctx context.Context) (cursor uint64, err error) {
	text, err := er.rdb.HGet(ctx, er.keys.State(), "retention").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read the progress of retention: %w", err)
	}
	_, _ = fmt.Sscan(text, &cursor) // an unreadable one restarts the scan
	return cursor, nil
}

// eraseKeys erases the records of some keys that ended by a time, in ms.
func (er *Eraser) eraseKeys(ctx context.Context, keys []string, endedBy int64) (erased int, err error) {
	var ids []string
	old := lua.NewRows("id", "generation")
	for _, key := range keys {
		if id, ok := strings.CutPrefix(key, er.keys.Record("")); ok {
			ids = append(ids, id)
			continue
		}
		rest, ok := strings.CutPrefix(key, er.keys.Tag()+":old:")
		if generation, id, cut := strings.Cut(rest, ":"); ok && cut {
			old.Add(id, generation)
		}
	}
	results, err := er.eraseAll(ctx, ids, false, endedBy)
	for _, e := range results {
		if e.Erased {
			erased++
		}
	}
	if err != nil || old.Len() == 0 {
		return erased, err
	}
	if err := eraseEarlierScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"ended_by": endedBy}, old).Err(); err != nil {
		return erased, fmt.Errorf("erase earlier generations: %w", err)
	}
	return erased, nil
}

// AcceptedIDs scans all keys for the ids of a batch's own requests, including those without
// a row.
func (er *Eraser) AcceptedIDs(ctx context.Context, batch int) iter.Seq2[[]string, error] {
	return func(yield func([]string, error) bool) {
		node, err := er.keys.Node(ctx, er.rdb)
		for cursor := uint64(0); err == nil; {
			var keys, ids []string
			if keys, cursor, err = node.Scan(ctx, cursor, er.keys.Record("*"), scanPage).Result(); err != nil {
				err = fmt.Errorf("scan the keys: %w", err)
				break
			}
			for _, key := range keys {
				ids = append(ids, strings.TrimPrefix(key, er.keys.Record("")))
			}
			var found []request.Record
			if found, err = er.records.Headers(ctx, ids); err != nil {
				break
			}
			ids = ids[:0]
			for _, r := range found {
				if r.Batch == batch {
					ids = append(ids, r.ApplicationID)
				}
			}
			if len(ids) > 0 && !yield(ids, nil) || cursor == 0 {
				return
			}
		}
		yield(nil, err)
	}
}
