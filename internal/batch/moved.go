package batch

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/attempt"
	"github.com/kyclink/kyclink/internal/request"
)

// sets are where requests are that moved: each is queued, called, about to be fed
// again, or has an event.
type movedSets struct {
	queued   [][]string
	calls    []string
	requeued []string
	events   []redis.XMessage
}

const (
	// movedPage is how many members of a set one command reads, and lastMost how many
	// requests are looked at in the step that reads the counters: more would hold Redis
	// for long.
	movedPage        = 1000
	maxFinalRequests = 2000
	// requeuedDeep is how much of what is requeued is looked at once, and requeuedEnd
	// how much of either end of it, where it grows, each time after that.
	maxRequeued = 20 * movedPage
	requeuedEnd = 250
	// soon is the most that what is queued now may be due later for its last attempt to
	// have ended while the counters were read.
	dueSoon = 10 * time.Second
)

// pages reads a set page by page.
func pages[T any](read func(from int64) ([]T, error)) (all []T, err error) {
	for {
		page, err := read(int64(len(all)))
		if all = append(all, page...); err != nil || len(page) < movedPage {
			return all, err
		}
	}
}

// movedSets reads where requests are that moved since the last look.
func (n *recount) readMovedSets(ctx context.Context) (s movedSets, err error) {
	after := strconv.FormatInt(n.movedAfter.UnixMilli(), 10)
	if n.movedAfter, err = n.keys.Clock(ctx, n.rdb).Time(); err != nil {
		return s, err
	}
	for _, lane := range []request.Lane{request.Bulk, request.Interactive} {
		queued, err := pages(func(from int64) ([]string, error) {
			return n.rdb.ZRangeByScore(ctx, n.keys.Queued(lane), &redis.ZRangeBy{Min: after, Max: "+inf", Offset: from, Count: movedPage}).Result()
		})
		if err != nil {
			return s, err
		}
		s.queued = append(s.queued, queued)
	}
	if s.calls, err = pages(func(from int64) ([]string, error) {
		return n.rdb.ZRange(ctx, n.keys.Calls(), from, from+movedPage-1).Result()
	}); err != nil {
		return s, err
	}
	if s.requeued, err = n.readRequeued(ctx); err != nil {
		return s, err
	}
	s.events, err = pages(func(int64) ([]redis.XMessage, error) {
		events, err := n.rdb.XRangeN(ctx, n.keys.Results(), "("+n.lastEvent, "+", movedPage).Result()
		if len(events) > 0 {
			n.lastEvent = events[len(events)-1].ID
		}
		return events, err
	})
	return s, err
}

// toFeed reads what is requeued: once all of it, then where it grows.
func (n *recount) readRequeued(ctx context.Context) (ids []string, err error) {
	key := n.keys.Requeued(n.batch)
	if n.requeuedRead {
		var head, tail *redis.StringSliceCmd
		_, err = n.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			head, tail = pipe.LRange(ctx, key, 0, requeuedEnd-1), pipe.LRange(ctx, key, -requeuedEnd, -1)
			return nil
		})
		return append(head.Val(), tail.Val()...), err
	}
	n.requeuedRead = true
	return pages(func(from int64) ([]string, error) {
		if from >= maxRequeued {
			return nil, nil
		}
		return n.rdb.LRange(ctx, key, -from-movedPage, -from-1).Result()
	})
}

// ids are those of the requests that are there, each once.
func (s movedSets) ids() []string {
	ids := slices.Clone(s.requeued)
	for _, e := range s.events {
		id, _ := e.Values["application_id"].(string)
		ids = append(ids, id)
	}
	for _, call := range s.calls {
		ids = append(ids, attempt.ApplicationIDOfCall(call))
	}
	ids = append(ids, slices.Concat(s.queued...)...)
	slices.Sort(ids)
	return slices.Compact(ids)
}
