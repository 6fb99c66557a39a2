package erasure

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var (
	retireScript       = scripts.Script("retire.lua")
	eraseEarlierScript = scripts.Script("erase_earlier.lua")
)

const (
	maxMinutes = 100 // of which one call erases requests
	maxRetired = 200 // scripts of one call, each for eraseRows requests
	// searchEvery is the time between two searches of long lists.
	searchEvery = time.Hour
)

// Requests that an earlier version ended are in no list: they are found by scanning all
// keys, in small parts, until all of them are erased.
const (
	scanRound = time.Hour // duration of one scan of all keys
	scanPage  = 1000      // keys of one command
	maxScans  = 50        // commands of one call
)

// unlistedErased is the field of the account that is set when no scan is needed any more.
const unlistedErased = "unlisted_erased"

// EraseExpired erases ended requests, and earlier generations, whose end is older than the
// retention, and returns the number of erased requests. Each call erases a limited number.
// Events stay until their age, since consumers may not have read them. For requests of
// earlier versions, calls at the given interval scan all keys once an hour.
func (er *Eraser) EraseExpired(ctx context.Context, interval time.Duration) (erased int, err error) {
	if er.retention == 0 {
		return 0, nil
	}
	now, err := er.keys.Clock(ctx, er.rdb).Time()
	if err != nil {
		return 0, err
	}
	endedBy := now.Add(-er.retention).UnixMilli()
	if erased, err = er.eraseListed(ctx, endedBy); err != nil {
		return erased, err
	}
	if ms := now.UnixMilli(); ms-er.searched.Load() >= searchEvery.Milliseconds() {
		if _, err := er.eraseUnsearched(ctx); err != nil {
			return erased, err
		}
		er.searched.Store(ms)
	}
	state, err := er.rdb.HMGet(ctx, er.keys.State(), unlistedErased, "retention").Result()
	if err != nil {
		return erased, readError("the progress of retention", err)
	}
	if state[0] != nil {
		return erased, nil
	}
	p := progress{began: now.UnixMilli()}
	text, _ := state[1].(string)
	if n, _ := fmt.Sscan(text, &p.cursor, &p.began); n < 2 || p.cursor == 0 { // an unreadable one restarts the scan
		p = progress{began: now.UnixMilli()}
	}
	n, err := er.scan(ctx, &p, interval, endedBy)
	if erased += n; err != nil || p.cursor != 0 {
		return erased, err
	}
	return erased, er.endScan(ctx, p)
}

// eraseListed erases the listed requests that ended by a time, in ms.
func (er *Eraser) eraseListed(ctx context.Context, endedBy int64) (erased int, err error) {
	minutes, err := er.rdb.ZRangeByScore(ctx, er.keys.Tag()+":ended", &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(endedBy/time.Minute.Milliseconds(), 10), Count: maxMinutes,
	}).Result()
	if err != nil {
		return 0, readError("when requests ended", err)
	}
	scripts := maxRetired
	for _, minute := range minutes {
		for more := true; more && scripts > 0; scripts-- {
			reply, err := retireScript.Run(ctx, er.rdb, []string{er.keys.Tag()},
				lua.Args{"minute": minute, "ended_by": endedBy, "max": eraseRows}).Int64Slice()
			if err != nil {
				return erased, fmt.Errorf("erase expired requests: %w", err)
			}
			erased, more = erased+int(reply[0]), reply[1] == 1
		}
	}
	return erased, nil
}

// progress is the progress of a scan: the cursor, and when it began, in ms.
type progress struct {
	cursor uint64
	began  int64
}

// scan does a part of a scan of all keys, and stores the progress. At the end of the scan
// the cursor is 0.
func (er *Eraser) scan(ctx context.Context, p *progress, interval time.Duration, endedBy int64) (erased int, err error) {
	node, err := er.keys.Node(ctx, er.rdb)
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
	part := interval.Seconds() / scanRound.Seconds() * float64(size.Val()) / scanPage
	for range min(1+int(part), maxScans) {
		var keys []string
		if keys, p.cursor, err = node.Scan(ctx, p.cursor, er.keys.Tag()+"*", scanPage).Result(); err != nil {
			return erased, fmt.Errorf("scan the keys: %w", err)
		}
		n, err := er.eraseKeys(ctx, keys, endedBy)
		if erased += n; err != nil {
			return erased, err
		}
		if p.cursor == 0 {
			break
		}
	}
	if err := er.rdb.HSet(ctx, er.keys.State(), "retention", fmt.Sprint(p.cursor, p.began)).Err(); err != nil {
		return erased, fmt.Errorf("store the progress of retention: %w", err)
	}
	return erased, nil
}

// endScan ends the scans if the last one found all requests that are in no list: those that
// ended before workers of this version ran alone.
func (er *Eraser) endScan(ctx context.Context, p progress) error {
	since, err := er.rdb.HGet(ctx, er.keys.State(), eventsIndexed).Int64()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return readError("since when ended requests are listed", err)
	}
	if time.UnixMilli(p.began).Before(time.UnixMilli(since).Add(mixedFor + er.retention)) {
		return nil
	}
	if err := er.rdb.HSet(ctx, er.keys.State(), unlistedErased, 1).Err(); err != nil {
		return fmt.Errorf("store that no scan is needed: %w", err)
	}
	return nil
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
