package erasure

import (
	"context"
	"fmt"
	"math"

	"github.com/kyclink/kyclink/internal/lua"
)

var (
	eraseRowsScript     = scripts.Script("erase_rows.lua")
	eraseRequeuedScript = scripts.Script("erase_requeued.lua")
)

const (
	rowChunks    = 5   // chunks of one script, which must not block Redis for long
	requeuedRows = 500 // requeued ids of one script
)

// EraseRows removes the ids of requests without a record from the rows and the requeued lists
// of all batches, and returns their number. It reads all of them, page by page.
func (er *Eraser) EraseRows(ctx context.Context) (erased int, err error) {
	for number, err := range er.batches.Numbers(ctx) {
		if err != nil {
			return erased, err
		}
		n, _, err := er.eraseFrom(ctx, position{batch: number}, math.MaxInt)
		if erased += n; err != nil {
			return erased, err
		}
	}
	return erased, nil
}

// position is the progress of a pass over all batches: the next chunk of a batch.
type position struct{ batch, chunk int }

// eraseFrom erases rows of a batch from a position on, with at most so many scripts. It
// returns the next position, in the next batch if this one is done.
func (er *Eraser) eraseFrom(ctx context.Context, at position, scripts int) (erased int, next position, err error) {
	if at.chunk == 0 {
		for _, list := range []string{er.keys.Requeued(at.batch), er.keys.CancelledRequeued(at.batch)} {
			n, err := er.eraseRequeued(ctx, list)
			if erased += n; err != nil {
				return erased, at, err
			}
		}
	}
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
		n, err := eraseRowsScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"batch": at.batch}, rows).Int()
		if err != nil {
			return erased, at, fmt.Errorf("erase rows of batch %d: %w", at.batch, err)
		}
		at.chunk += rowChunks
		erased += n
	}
	return erased, position{batch: at.batch + 1}, nil
}

func (er *Eraser) eraseRequeued(ctx context.Context, list string) (erased int, err error) {
	for skipped := 0; ; skipped += requeuedRows {
		reply, err := eraseRequeuedScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"list": list, "skip": skipped, "max": requeuedRows}).Int64Slice()
		if err != nil {
			return erased, fmt.Errorf("erase requeued ids: %w", err)
		}
		erased += int(reply[1])
		if reply[0] < requeuedRows {
			return erased, nil
		}
	}
}

// scriptsPerCall is the number of scripts in one call of [Eraser.continueRows].
const scriptsPerCall = 20

// continueRows does a part of a pass over all batches. over reports its end.
func (er *Eraser) continueRows(ctx context.Context, at position) (next position, over bool, err error) {
	if at.batch > 0 { // 0 is for requests without a batch, and always exists
		numbers, err := er.batches.NumbersFrom(ctx, at.batch, 1)
		if err != nil || len(numbers) == 0 {
			return at, err == nil, err
		}
		if numbers[0] != at.batch {
			at = position{batch: numbers[0]}
		}
	}
	_, next, err = er.eraseFrom(ctx, at, scriptsPerCall)
	return next, false, err
}
