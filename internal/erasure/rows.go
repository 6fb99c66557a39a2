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
	rowChunks    = 5   // of one script: it must not hold Redis for long
	requeuedRows = 500 // the same
)

// EraseRows removes the ids of requests that are not kept from the orders of all batches and
// from what is requeued, and returns how many. It reads all of it, page by page.
func (er *Eraser) EraseRows(ctx context.Context) (taken int, err error) {
	for number, err := range er.batches.Numbers(ctx) {
		if err != nil {
			return taken, err
		}
		n, _, err := er.eraseFrom(ctx, position{batch: number}, math.MaxInt)
		if taken += n; err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// position is the progress of a walk through all batches: the next chunk of one.
type position struct{ batch, chunk int }

// eraseFrom continues in a batch, for that many scripts at most, and returns where to
// continue: at the next batch if this one is done.
func (er *Eraser) eraseFrom(ctx context.Context, at position, scripts int) (taken int, next position, err error) {
	if at.chunk == 0 {
		for _, list := range []string{er.keys.Requeued(at.batch), er.keys.CancelledRequeued(at.batch)} {
			n, err := er.eraseRequeued(ctx, list)
			if taken += n; err != nil {
				return taken, at, err
			}
		}
	}
	last, err := er.batches.LastChunk(ctx, at.batch)
	if err != nil {
		return taken, at, err
	}
	for ; at.chunk <= last; scripts-- {
		if scripts == 0 {
			return taken, at, nil
		}
		rows := lua.NewRows("chunk")
		for i := range rowChunks {
			rows.Add(at.chunk + i)
		}
		n, err := eraseRowsScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"batch": at.batch}, rows).Int()
		if err != nil {
			return taken, at, fmt.Errorf("erase rows of the order of batch %d: %w", at.batch, err)
		}
		at.chunk += rowChunks
		taken += n
	}
	return taken, position{batch: at.batch + 1}, nil
}

func (er *Eraser) eraseRequeued(ctx context.Context, list string) (taken int, err error) {
	for skipped := 0; ; skipped += requeuedRows {
		reply, err := eraseRequeuedScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"list": list, "skip": skipped, "max": requeuedRows}).Int64Slice()
		if err != nil {
			return taken, fmt.Errorf("erase requeued ids: %w", err)
		}
		taken += int(reply[1])
		if reply[0] < requeuedRows {
			return taken, nil
		}
	}
}

// scriptsPerCall is how many scripts one call of [Eraser.eraseRowsOn] runs.
const scriptsPerCall = 20

// eraseRowsOn does a part of the walk through all batches. over says that it is at its
// end.
func (er *Eraser) continueRows(ctx context.Context, at position) (next position, over bool, err error) {
	if at.batch > 0 { // 0 is for what is in no batch, and always there
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
