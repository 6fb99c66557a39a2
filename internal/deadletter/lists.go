// Package deadletter lists failed and held requests and given-up callback deliveries, which
// wait for an operator.
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

// Lists are the lists of one account. They are safe for concurrent use.
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

// pageSize is the number of entries in one read.
const pageSize = 500

// Unreadable is an entry that cannot be decoded: a newer version wrote it, or it is damaged.
type Unreadable struct {
	ID  string
	At  time.Time // when it came to the list; zero if it was read by its ID
	Why error
	// Header has the columns of a request's header. Its state is empty if these cannot be
	// decoded either, and for deliveries.
	Header request.Record
}

// Requests iterates over failed or held requests, a page at a time, by the time at which they
// came to that state: from since on, and earlier than before. Requests may be added and
// removed during the iteration: it returns every other one once. The state is
// [request.Failed] or [request.Held]; dropped requests are omitted. It calls unreadable for
// those that cannot be decoded, before it returns the page in whose place they are.
func (s *Lists) Requests(ctx context.Context, state request.State, since, before time.Time, unreadable func(Unreadable)) iter.Seq2[[]request.Record, error] {
	return s.requests(ctx, state, since, before, unreadable, s.records.Readable)
}

// Columns is [Lists.Requests] with only what the columns of each record's header have and,
// with reasons, the reason of its outcome, for callers that read very many.
func (s *Lists) Columns(ctx context.Context, state request.State, since, before time.Time, reasons bool, unreadable func(Unreadable)) iter.Seq2[[]request.Record, error] {
	return s.requests(ctx, state, since, before, unreadable, func(ctx context.Context, ids []string, unreadable func(request.Record, error)) ([]request.Record, error) {
		return s.records.Columns(ctx, ids, reasons, unreadable)
	})
}

func (s *Lists) requests(ctx context.Context, state request.State, since, before time.Time, unreadable func(Unreadable),
	read func(context.Context, []string, func(request.Record, error)) ([]request.Record, error),
) iter.Seq2[[]request.Record, error] {
	return walk(ctx, s, s.keys.OperatorList(state), since, before, func(ctx context.Context, ids []string, at map[string]time.Time) ([]request.Record, error) {
		return read(ctx, ids, func(header request.Record, why error) {
			if header.State == "" || header.State == state {
				unreadable(Unreadable{header.ApplicationID, at[header.ApplicationID], why, header})
			}
		})
	}, func(r request.Record) bool { return r.State == state })
}

// walk iterates over the members of a sorted set with times from since on and earlier than
// before, a page at a time. It reads the members, given the times of all, and returns those
// that are wanted.
func walk[T any](ctx context.Context, s *Lists, set string, since, before time.Time,
	read func(ctx context.Context, ids []string, at map[string]time.Time) ([]T, error), wanted func(T) bool,
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
			ids, at := make([]string, len(places)), make(map[string]time.Time, len(places))
			for i, p := range places {
				ids[i], at[p.id] = p.id, time.UnixMilli(int64(p.at)).UTC()
			}
			found, err := read(ctx, ids, at)
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

// place is a position in a list, which is sorted by time, then by id.
type place struct {
	at float64 // ms
	id string
}

// places returns the next places after last. Since any number of places may have the same
// time as last and precede it, the function reads more until it finds one.
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

// DropRequest removes a failed request from the list; its record does not change. ok is false
// if the request is not in the list, or has another run.
func (s *Lists) DropRequest(ctx context.Context, r request.Record) (ok bool, err error) {
	ok, err = dropFailedScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{
		"id": r.ApplicationID, "generation": r.Generation, "run": r.Run,
	}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop %s: %w", r.ApplicationID, err)
	}
	return ok, nil
}

// DropDelivery removes a given-up delivery from the list; ok is false if it is not in the
// list, or was retried meanwhile.
func (s *Lists) DropDelivery(ctx context.Context, d delivery.Delivery) (ok bool, err error) {
	ok, err = dropDeliveryScript.Run(ctx, s.rdb, []string{s.keys.Tag()}, lua.Args{"event_id": d.EventID, "attempts": d.Attempts}).Bool()
	if err != nil {
		return false, fmt.Errorf("drop the delivery of %s: %w", d.EventID, err)
	}
	return ok, nil
}

// Deliveries iterates over given-up deliveries, a page at a time, by the time at which they
// were given up: from since on, and earlier than before. Dropped deliveries are omitted. It
// calls unreadable as [Lists.Requests] does.
func (s *Lists) Deliveries(ctx context.Context, since, before time.Time, unreadable func(Unreadable)) iter.Seq2[[]delivery.Delivery, error] {
	return walk(ctx, s, s.keys.Undelivered(), since, before, s.readDeliveries(unreadable), func(d delivery.Delivery) bool {
		return d.Status == delivery.GivenUp && !d.Dropped
	})
}

// Retrying iterates over the deliveries that were not accepted and will be retried, a page at
// a time, by the time of the retry. A delivery that is attempted during the iteration may be
// returned twice. It calls unreadable as [Lists.Requests] does.
func (s *Lists) Retrying(ctx context.Context, unreadable func(Unreadable)) iter.Seq2[[]delivery.Delivery, error] {
	return walk(ctx, s, s.keys.Pending(), time.Time{}, time.Unix(math.MaxInt32, 0), s.readDeliveries(unreadable), func(d delivery.Delivery) bool {
		return d.Status == delivery.Pending && !d.Last.Accepted()
	})
}

func (s *Lists) readDeliveries(unreadable func(Unreadable)) func(context.Context, []string, map[string]time.Time) ([]delivery.Delivery, error) {
	return func(ctx context.Context, events []string, at map[string]time.Time) ([]delivery.Delivery, error) {
		return s.deliveries.Readable(ctx, events, func(event string, why error) {
			unreadable(Unreadable{ID: event, At: at[event], Why: why})
		})
	}
}
