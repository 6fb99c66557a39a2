package ledger

import (
	"context"
	"fmt"
	"math"

	"github.com/redis/go-redis/v9"

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

// Scrub takes the ids of requests that are not kept out of everything that
// batches keep in order or are to be fed, and gives how many it took. It reads
// all of it, page by page.
func (l *Ledger) Scrub(ctx context.Context) (taken int, err error) {
	for number, err := range l.numbers(ctx) {
		if err != nil {
			return taken, err
		}
		n, _, err := l.scrub(ctx, scrubbing{batch: number}, math.MaxInt)
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
func (l *Ledger) scrub(ctx context.Context, at scrubbing, scripts int) (taken int, next scrubbing, err error) {
	if at.chunk == 0 {
		for _, list := range []string{l.keys.Again(at.batch), l.keys.Off(at.batch)} {
			n, err := l.unlist(ctx, list)
			if taken += n; err != nil {
				return taken, at, err
			}
		}
	}
	last, err := l.lastChunk(ctx, at.batch)
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
		n, err := eraseRowsScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"batch": at.batch}, rows).Int()
		if err != nil {
			return taken, at, fmt.Errorf("scrub the order of batch %d: %w", at.batch, err)
		}
		at.chunk += scrubChunks
		taken += n
	}
	return taken, scrubbing{batch: at.batch + 1}, nil
}

func (l *Ledger) unlist(ctx context.Context, list string) (taken int, err error) {
	for passed := 0; ; passed += unlistRows {
		reply, err := eraseRequeuedScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{"list": list, "skip": passed, "max": unlistRows}).Int64Slice()
		if err != nil {
			return taken, fmt.Errorf("take ids out of what is to be fed: %w", err)
		}
		taken += int(reply[1])
		if reply[0] < unlistRows {
			return taken, nil
		}
	}
}

// scrubPart is how many scripts one call of [Ledger.scrubOn] runs.
const scrubPart = 20

// scrubOn goes a part of the way through all batches, from where it was left.
// over says that it is at its end.
func (l *Ledger) scrubOn(ctx context.Context, at scrubbing) (next scrubbing, over bool, err error) {
	if at.batch > 0 { // 0 is for what is in no batch, and always there
		numbers, err := l.numbersFrom(ctx, at.batch, 1)
		if err != nil || len(numbers) == 0 {
			return at, err == nil, err
		}
		if numbers[0] != at.batch {
			at = scrubbing{batch: numbers[0]}
		}
	}
	_, next, err = l.scrub(ctx, at, scrubPart)
	return next, false, err
}

// node is the one that has the account's keys.
func (l *Ledger) node(ctx context.Context) (redis.Cmdable, error) {
	cluster, ok := l.rdb.(*redis.ClusterClient)
	if !ok {
		return l.rdb, nil
	}
	node, err := cluster.MasterForKey(ctx, l.keys.Tag())
	if err != nil {
		return nil, fmt.Errorf("find the node that has the account: %w", err)
	}
	return node, nil
}
