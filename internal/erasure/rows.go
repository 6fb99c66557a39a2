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
	scrubChunks = 5   // of one script: it must not hold Redis for long
	unlistRows  = 500 // the same
)

// EraseRows takes the ids of requests that are not kept out of everything that
// batches keep in order or are to be fed, and gives how many it took. It reads
// all of it, page by page.
func (er *Eraser) EraseRows(ctx context.Context) (taken int, err error) {
	for number, err := range er.batches.Numbers(ctx) {
		if err != nil {
			return taken, err
		}
		n, _, err := er.scrub(ctx, scrubbing{batch: number}, math.MaxInt)
		if taken += n; err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// scrubbing is how far a walk through all batches is: the next chunk of one.
type scrubbing struct{ batch, chunk int }

// scrub goes on through a batch, for that many scripts at most, and gives where to go
// on: at the next batch, where it is through.
func (er *Eraser) scrub(ctx context.Context, at scrubbing, scripts int) (taken int, next scrubbing, err error) {
	if at.chunk == 0 {
		for _, list := range []string{er.keys.Requeued(at.batch), er.keys.Off(at.batch)} {
			n, err := er.unlist(ctx, list)
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
		for i := range scrubChunks {
			rows.Add(at.chunk + i)
		}
		n, err := eraseRowsScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"batch": at.batch}, rows).Int()
		if err != nil {
			return taken, at, fmt.Errorf("scrub the order of batch %d: %w", at.batch, err)
		}
		at.chunk += scrubChunks
		taken += n
	}
	return taken, scrubbing{batch: at.batch + 1}, nil
}

func (er *Eraser) unlist(ctx context.Context, list string) (taken int, err error) {
	for passed := 0; ; passed += unlistRows {
		reply, err := eraseRequeuedScript.Run(ctx, er.rdb, []string{er.keys.Tag()}, lua.Args{"list": list, "skip": passed, "max": unlistRows}).Int64Slice()
		if err != nil {
			return taken, fmt.Errorf("take ids out of what is to be fed: %w", err)
		}
		taken += int(reply[1])
		if reply[0] < unlistRows {
			return taken, nil
		}
	}
}

// scrubPart is how many scripts one call of [Eraser.scrubOn] runs.
const scrubPart = 20

// scrubOn goes a part of the way through all batches, from where it was left.
// over says that it is at its end.
func (er *Eraser) scrubOn(ctx context.Context, at scrubbing) (next scrubbing, over bool, err error) {
	if at.batch > 0 { // 0 is for what is in no batch, and always there
		numbers, err := er.batches.NumbersFrom(ctx, at.batch, 1)
		if err != nil || len(numbers) == 0 {
			return at, err == nil, err
		}
		if numbers[0] != at.batch {
			at = scrubbing{batch: numbers[0]}
		}
	}
	_, next, err = er.scrub(ctx, at, scrubPart)
	return next, false, err
}
