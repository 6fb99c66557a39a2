// Package deadletter lists what waits for an operator: requests that failed or are held, and
// callback deliveries that were given up.
package deadletter

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/record"
	"github.com/kyclink/kyclink/internal/request"
)

var (
	dropFailedScript   = scripts.Script("drop_failed.lua")
	dropDeliveryScript = scripts.Script("drop_delivery.lua")
)

// Lists reads and shortens the lists of one account. It is safe for concurrent use.
type Lists struct {
	rdb        redis.UniversalClient
	keys       keyspace.Keys
	records    *record.Reader
	deliveries *delivery.Store
}

// New returns lists that use, and do not close, rdb.
func New(rdb redis.UniversalClient, keys keyspace.Keys) *Lists {
	return &Lists{rdb, keys, record.NewReader(rdb, keys), delivery.NewStore(rdb, keys)}
}

// pageSize is how many requests are read at a time.
const pageSize = 500

// Requests iterates over the failed or held requests that came to that state from since on
// and before before, in that order, a page at a time. Requests may come and go meanwhile:
// none that stays is missed, and none is returned twice. The state is [request.Failed] or
// [request.Held]; dropped requests are left out.
func (s *Lists) Requests(ctx context.Context, state request.State, since, before time.Time) iter.Seq2[[]request.Record, error] {
	return walk(ctx, s, s.keys.OperatorList(state), since, before, s.records.Read, func(r request.Record) bool { return r.State == state })
}

// walk iterates over the entries of a sorted set from since on and before before, a page at a
// time. It reads what is listed, and returns what is wanted.
func walk[T any](ctx context.Context, s *Lists, set string, since, before time.Time,
	read func(context.Context, []string) ([]T, error), wanted func(T) bool,
) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		last := place{float64(since.UnixMilli()), ""}
		for {
			places, err := s.places(ctx, set, last, before)
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
			found, err := read(ctx, ids)
			page := make([]T, 0, len(found))
			for _, entry := range found {
				if wanted(entry) {
					page = append(page, entry)
				}
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// place is a place in a list: by time, then by id.
type place struct {
	at float64 // ms
	id string
}

// places returns the next places after last. Any number of them may share the time of last
// and precede it, so that it reads more until there are some.
func (s *Lists) places(ctx context.Context, set string, last place, before time.Time) ([]place, error) {
	for count := int64(pageSize); ; count *= 2 {
		found, err := s.rdb.ZRangeArgsWithScores(ctx, redis.ZRangeArgs{
			Key: set, ByScore: true, Count: count,
			Start: strconv.FormatFloat(last.at, 'f', 0, 64), Stop: fmt.Sprintf("(%d", before.UnixMilli()),
		}).Result()
		if err != nil {
			return nil, fmt.Errorf("read the dead letters: %w", err)
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

// DropRequest removes a failed request from [Lists.Requests]; its record does not change. ok
// is false if it is not there, or failed again since.
func (s *Lists) DropRequest(ctx context.Context, r request.Record) (ok bool, err error) {
	ok, err = dropFailedScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run,
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop %s: %w", r.ApplicationID, err)
	}
	return ok, nil
}

// DropDelivery removes a given-up delivery from [Lists.Deliveries]; ok is false if it is not
// there, or was retried since.
func (s *Lists) DropDelivery(ctx context.Context, d delivery.Delivery) (ok bool, err error) {
	ok, err = dropDeliveryScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"event_id": d.EventID, "attempts": d.Attempts}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop the delivery of %s: %w", d.EventID, err)
	}
	return ok, nil
}

// Deliveries iterates over the deliveries that were given up from since on and before before,
// in that order, a page at a time. Dropped deliveries are left out.
func (s *Lists) Deliveries(ctx context.Context, since, before time.Time) iter.Seq2[[]delivery.Delivery, error] {
	return walk(ctx, s, s.keys.Undelivered(), since, before, s.deliveries.Read, func(d delivery.Delivery) bool {
		return d.Status == delivery.GivenUp && !d.Dropped
	})
}

// Retrying iterates over the deliveries that were not accepted and will be retried, by the
// time of the retry, a page at a time. A delivery that is attempted meanwhile may be returned
// twice.
func (s *Lists) Retrying(ctx context.Context) iter.Seq2[[]delivery.Delivery, error] {
	return walk(ctx, s, s.keys.Pending(), time.Time{}, time.Unix(math.MaxInt32, 0), s.deliveries.Read, func(d delivery.Delivery) bool {
		return d.Status == delivery.Pending && !d.Last.Accepted()
	})
}
