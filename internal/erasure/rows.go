package erasure

import (
	"context"
	"fmt"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
)

var (
	indexRowsScript     = scripts.Script("index_rows.lua")
	eraseRequeuedScript = scripts.Script("erase_requeued.lua")
)

const (
	rowChunks    = 5   // chunks of one script, which must not block Redis for long
	requeuedRows = 500 // requeued ids of one script
	// scriptsPerCall is the number of scripts in one call of [Eraser.IndexRows].
	scriptsPerCall = 20
)

// Fields of the account. rowsIndexed is set when the index of mentions has all rows, to the
// beginning of the last pass over all batches, in ms; indexPosition is how far a pass is,
// and when it began. indexesSince is when the first worker joined whose version ends the
// passes.
const (
	rowsIndexed   = "rows_indexed"
	indexPosition = "rows_indexing"
	indexesSince  = "indexes_since"
)

// EraseRows finishes an erasure: it removes ids of erased requests from lists that were too
// long for [Eraser.Erase], and from the rows that an earlier version wrote, which the index
// of mentions may not have yet. Then, or if all is set, it reads the rows of all batches,
// page by page. It returns the number of removed ids.
func (er *Eraser) EraseRows(ctx context.Context, all bool) (erased int, err error) {
	if erased, err = er.eraseUnsearched(ctx); err != nil {
		return erased, err
	}
	indexed, err := er.rdb.HExists(ctx, er.keys.State(), rowsIndexed).Result()
	if err != nil {
		return erased, fmt.Errorf("read whether the rows are indexed: %w", err)
	}
	if indexed && !all {
		return erased, nil
	}
	for number, err := range er.batches.Numbers(ctx) {
		if err != nil {
			return erased, err
		}
		n, _, err := er.indexFrom(ctx, position{batch: number}, math.MaxInt)
		if erased += n; err != nil {
			return erased, err
		}
		if all {
			n, err := er.eraseRequeued(ctx, number)
			if erased += n; err != nil {
				return erased, err
			}
		}
	}
	if err := er.rdb.HSetNX(ctx, er.keys.State(), rowsIndexed, 1).Err(); err != nil {
		return erased, fmt.Errorf("store that the rows are indexed: %w", err)
	}
	return erased, nil
}

// IndexRows does a part of a pass over the rows of all batches, which adds those to the
// index of mentions that an earlier version wrote. There is one pass if the index has never
// had all rows, and one a day after the first worker of this version joined, for what an
// earlier version wrote beside it.
func (er *Eraser) IndexRows(ctx context.Context) error {
	if er.indexed.Load() {
		return nil
	}
	at, err := er.nextPosition(ctx)
	if err != nil || at == nil {
		return err
	}
	if at.batch > 0 { // 0 is for requests without a batch, and always exists
		numbers, err := er.batches.NumbersFrom(ctx, at.batch, 1)
		switch {
		case err != nil:
			return err
		case len(numbers) == 0:
			return er.endIndexing(ctx, at.began)
		case numbers[0] != at.batch:
			at.batch, at.chunk = numbers[0], 0
		}
	}
	next := *at
	if _, next.position, err = er.indexFrom(ctx, at.position, scriptsPerCall); err != nil {
		return err
	}
	if err := er.rdb.HSet(ctx, er.keys.State(), indexPosition, fmt.Sprint(next.batch, next.chunk, next.began)).Err(); err != nil {
		return fmt.Errorf("store how far the rows are indexed: %w", err)
	}
	return nil
}

// indexing is the progress of a pass over the rows of all batches.
type indexing struct {
	position
	began int64 // ms
}

// nextPosition returns where the pass continues that is in progress, or begins that is
// needed; nil if none is needed now.
func (er *Eraser) nextPosition(ctx context.Context) (*indexing, error) {
	state, err := er.rdb.HMGet(ctx, er.keys.State(), rowsIndexed, indexPosition, indexesSince).Result()
	if err != nil {
		return nil, fmt.Errorf("read how far the rows are indexed: %w", err)
	}
	now, err := er.keys.Clock(ctx, er.rdb).Time()
	if err != nil {
		return nil, err
	}
	number := func(i int) int64 {
		text, _ := state[i].(string)
		n, _ := strconv.ParseInt(text, 10, 64) // an unreadable time is long ago
		return n
	}
	alone := number(2) + mixedFor.Milliseconds() // from then on this version writes alone
	if done := number(0); done >= alone {
		er.indexed.Store(true)
		return nil, nil
	} else if done > 0 && now.UnixMilli() < alone {
		return nil, nil
	}
	at := &indexing{}
	text, _ := state[1].(string)
	if n, _ := fmt.Sscan(text, &at.batch, &at.chunk, &at.began); n < 3 { // none, or an earlier version's
		return &indexing{began: now.UnixMilli()}, nil
	}
	return at, nil
}

// endIndexing stores that the index of mentions has all rows that were written before a pass
// began, in ms.
func (er *Eraser) endIndexing(ctx context.Context, began int64) error {
	if _, err := er.rdb.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSet(ctx, er.keys.State(), rowsIndexed, began)
		pipe.HDel(ctx, er.keys.State(), indexPosition)
		return nil
	}); err != nil {
		return fmt.Errorf("store that the rows are indexed: %w", err)
	}
	return nil
}

// position is the progress of a pass over all batches: the next chunk of a batch.
type position struct{ batch, chunk int }

// indexFrom indexes rows of a batch from a position on, with at most so many scripts. It
// returns the number of rows that lost the id of an erased request, and the next position,
// in the next batch if this one is done.
func (er *Eraser) indexFrom(ctx context.Context, at position, scripts int) (erased int, next position, err error) {
	last, err := er.batches.LastChunk(ctx, at.batch)
	if err != nil {
		return erased, at, err
	}
	for ; at.chunk <= last; scripts-- {
		if scripts == 0 {
			return erased, at, nil
		}
		rows := lua.NewRows("chunk")
		for i := range rowChunks {
			rows.Add(at.chunk + i)
		}
		n, err := indexRowsScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"batch": at.batch}, rows).Int()
		if err != nil {
			return erased, at, fmt.Errorf("index rows of batch %d: %w", at.batch, err)
		}
		at.chunk += rowChunks
		erased += n
	}
	return erased, position{batch: at.batch + 1}, nil
}

// eraseUnsearched removes the ids of requests without a record from the lists of requeued
// requests that were too long for an erasure.
func (er *Eraser) eraseUnsearched(ctx context.Context) (erased int, err error) {
	// Those that are being searched are in a set of their own, so that a batch that is added
	// meanwhile is searched again.
	unsearched, searching := er.keys.Tag()+":unsearched", er.keys.Tag()+":searching"
	batches, err := er.rdb.SUnion(ctx, unsearched, searching).Result()
	if err != nil {
		return 0, readError("the batches whose lists are to be searched", err)
	}
	for _, text := range batches {
		number, err := strconv.Atoi(text)
		if err != nil {
			return erased, fmt.Errorf("batch number %q: %w", text, err)
		}
		if err := er.rdb.SMove(ctx, unsearched, searching, text).Err(); err != nil {
			return erased, fmt.Errorf("store that the lists of batch %d are searched: %w", number, err)
		}
		n, err := er.eraseRequeued(ctx, number)
		if erased += n; err != nil {
			return erased, err
		}
		if err := er.rdb.SRem(ctx, searching, text).Err(); err != nil {
			return erased, fmt.Errorf("store that the lists of batch %d were searched: %w", number, err)
		}
	}
	return erased, nil
}

// eraseRequeued removes the ids of requests without a record from the lists of the requeued
// requests of a batch, page by page.
func (er *Eraser) eraseRequeued(ctx context.Context, number int) (erased int, err error) {
	for _, list := range []string{er.keys.Requeued(number), er.keys.CancelledRequeued(number)} {
		for skipped, more := 0, true; more; skipped += requeuedRows {
			reply, err := eraseRequeuedScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"list": list, "skip": skipped, "max": requeuedRows}).Int64Slice()
			if err != nil {
				return erased, fmt.Errorf("erase requeued ids of batch %d: %w", number, err)
			}
			erased += int(reply[1])
			more = reply[0] == requeuedRows
		}
	}
	return erased, nil
}
