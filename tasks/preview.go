package tasks

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
)

// Preview returns what [Client.Enqueue] would answer to each request, and accepts
// nothing. Its answer to an unknown ID is [ErrNotFound], and to a generation that has not
// been requested yet a [*GapError]. The answers are in the order of reqs. All records are
// read in one round trip: pass at most a few hundred requests. An error means that Redis
// could not be read.
func (c *Client) Preview(ctx context.Context, reqs []Request) ([]Answer, error) {
	answers := make([]Answer, len(reqs))
	gets := make([]*redis.StringCmd, len(reqs))
	_, err := c.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, r := range reqs {
			gets[i] = pipe.Get(ctx, c.keys.Record(r.ApplicationID))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read %d requests: %w", len(reqs), err)
	}
	for i, req := range reqs {
		var latest *request.Record
		raw, err := gets[i].Bytes()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, fmt.Errorf("read %s: %w", req.ApplicationID, err)
		}
		if err == nil {
			r, err := request.Parse(req.ApplicationID, raw)
			if err != nil {
				answers[i].Err = &UnreadableError{req.ApplicationID, err}
				continue
			}
			latest = &r
		}
		if answers[i], err = c.preview(ctx, req, latest); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (c *Client) preview(ctx context.Context, req Request, latest *request.Record) (Answer, error) {
	if refusal := req.check(c.destinations); refusal != nil {
		return Answer{Err: refusal}, nil //nolint:nilerr // a refusal is an answer
	}
	d, err := c.decide(ctx, target{}, req, latest, c.now())
	if err != nil {
		return Answer{}, err
	}
	refusal := d.err
	switch {
	case d.op == "new":
		refusal = ErrNotFound
	case d.op == "next" && refusal == nil:
		refusal = &GapError{req.ApplicationID, req.Generation, latest.Generation, Status(latest.State)}
	}
	if d.old != nil {
		latest = d.old
	}
	if latest == nil {
		return Answer{Err: refusal}, nil
	}
	link, err := c.link(ctx, latest)
	return Answer{link, refusal}, err
}
