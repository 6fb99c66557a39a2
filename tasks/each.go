package tasks

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/request"
)

// dispatches is how many tasks of requests that are accepted together are enqueued
// at a time.
const dispatches = 16

// EnqueueEach is [Client.Enqueue] for many requests, in far fewer steps: a hundred
// are accepted at once. The answers are in the order of reqs. The error says that
// something else went wrong than with a request: any of them may have been
// accepted then, and all may be asked for again.
func (c *Client) EnqueueEach(ctx context.Context, reqs []Request) ([]Answer, error) {
	answers := make([]Answer, len(reqs))
	for from := 0; from < len(reqs); from += chunkRows {
		to := min(from+chunkRows, len(reqs))
		if err := c.enqueueEach(ctx, reqs[from:to], answers[from:to]); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (c *Client) enqueueEach(ctx context.Context, reqs []Request, answers []Answer) error {
	var left []int
	for i, req := range reqs {
		if answers[i].Err = req.acceptable(c.destinations); answers[i].Err == nil {
			left = append(left, i)
		}
	}
	known := make([]request.Record, len(reqs))
	for len(left) > 0 {
		rows := make([]Row, len(left))
		for n, i := range left {
			rows[n].Request = reqs[i]
			if reqs[i].Lane == "" {
				rows[n].Request.Lane = Interactive
			}
		}
		all, err := c.acceptAll(ctx, place{chunk: noChunk, by: c.caller.ID}, nil, rows)
		if err != nil {
			return err
		}
		var later []int
		for n, i := range left {
			switch a := all[n]; {
			case a.later:
				later = append(later, i)
			default:
				known[i], answers[i].Err = a.record, a.err
			}
		}
		left = later
	}
	group, going := errgroup.WithContext(ctx)
	group.SetLimit(dispatches)
	for i := range answers {
		if answers[i].Err != nil {
			continue
		}
		group.Go(func() (err error) {
			answers[i].Link, err = c.dispatched(going, known[i])
			return err
		})
	}
	return group.Wait()
}
