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

// movedSets are the requests that may have changed state: those that are queued, called or
// requeued, or have a new event.
type movedSets struct {
	queued   [][]string
	calls    []string
	requeued []string
	events   []redis.XMessage
}

const (
	// movedPage is the number of members of a set that one command reads, and
	// maxFinalRequests the number of requests in the step that reads the counters: more
	// would block Redis for too long.
	movedPage        = 1000
	maxFinalRequests = 2000
	// maxRequeued is the number of requeued requests that are read at first, and
	// requeuedEnd the number at either end of their list, where it grows, later.
	maxRequeued = 20 * movedPage
	requeuedEnd = 250
	// dueSoon limits the due times of queued requests in the final step: a request whose
	// attempt failed a moment ago is due within this time.
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

// readMovedSets reads the requests that may have changed state since the previous read.
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

// readRequeued reads the requeued requests: all of them at first, then both ends of the list.
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

// ids returns the ids of the requests, each once.
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
