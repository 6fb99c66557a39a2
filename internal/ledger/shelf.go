package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

var dropFailedScript = scripts.Script("drop_failed.lua")

// shelfPage is how many requests are read at a time.
const shelfPage = 500

// Shelved walks through what failed, or is held, from since on and before
// before, in the order in which it came there, a page at a time. Requests may
// come and go meanwhile: none is passed over that stays, and none is given twice.
// The state is [request.Failed] or [request.Held]; what was hidden is left out.
func (l *Ledger) Shelved(ctx context.Context, state request.State, since, before time.Time) iter.Seq2[[]request.Record, error] {
	return func(yield func([]request.Record, error) bool) {
		last := place{float64(since.UnixMilli()), ""}
		for {
			places, err := l.places(ctx, l.keys.Shelf(state), last, before)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(places) == 0 {
				return
			}
			last = places[len(places)-1]
			ids := make([]string, len(places))
			for i, p := range places {
				ids[i] = p.id
			}
			found, err := l.Read(ctx, ids)
			page := make([]request.Record, 0, len(found))
			for _, r := range found {
				if r.State == state {
					page = append(page, r)
				}
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// place is one of a shelf's: by time, then by id.
type place struct {
	at float64 // ms
	id string
}

// places are the next ones after last. As many as share its moment may come
// before them, so that more is read until there are some.
func (l *Ledger) places(ctx context.Context, set string, last place, before time.Time) ([]place, error) {
	for count := int64(shelfPage); ; count *= 2 {
		found, err := l.rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: set, ByScore: true, Count: count,
			Start: strconv.FormatFloat(last.at, 'f', 0, 64), Stop: fmt.Sprintf("(%d", before.UnixMilli()),
		}).Result()
		if err != nil {
			return nil, fmt.Errorf("read what waits for a person: %w", err)
		}
		places := make([]place, 0, len(found))
		for _, z := range found {
			p := place{z.Score, z.Member.(string)}
			if cmp.Or(cmp.Compare(p.at, last.at), cmp.Compare(p.id, last.id)) > 0 {
				places = append(places, p)
			}
		}
		if len(places) > 0 || int64(len(found)) < count {
			return places, nil
		}
	}
}

// Hide takes a failed request out of [Ledger.Shelved]; its record stays as it
// is. ok is false where it is not there, or failed anew since.
func (l *Ledger) Hide(ctx context.Context, r request.Record) (ok bool, err error) {
	ok, err = dropFailedScript.Run(ctx, l.rdb, []string{l.keys.Tag()}, lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run,
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("hide %s: %w", r.ApplicationID, err)
	}
	return ok, nil
}

// BatchNumber is the number that records have of a batch; ok is false where
// there is none of that name.
func (l *Ledger) BatchNumber(ctx context.Context, name string) (number int, ok bool, err error) {
	number, err = l.rdb.HGet(ctx, l.keys.Batches(), name).Int()
	if errors.Is(err, redis.Nil) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("read batch %q: %w", name, err)
	}
	return number, true, nil
}

// BatchName is a batch's name, "" for none.
func (l *Ledger) BatchName(ctx context.Context, number int) (string, error) {
	return l.names.Name(ctx, number)
}
