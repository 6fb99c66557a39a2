package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/request"
)

// Answer is what is known of one request.
type Answer struct {
	// Link is what exists. Where Err refuses the request, it is what was accepted
	// for the id before; zero where nothing was.
	Link Link
	// Err is [ErrNotFound], or why the request was not accepted as it is given.
	Err error
}

// Preview gives for each request what [Client.Enqueue] would answer, and accepts
// nothing: an id that is not known yet is [ErrNotFound], a next generation that
// was not asked for yet a [*GapError]. The answers are in the
// order of reqs; up to a few hundred at a time are read in one round trip. The
// error says that Redis could not be read.
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
		var known *request.Record
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
			known = &r
		}
		if answers[i], err = c.answer(ctx, req, known); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (c *Client) answer(ctx context.Context, req Request, known *request.Record) (Answer, error) {
	if refusal := req.acceptable(c.destinations); refusal != nil {
		return Answer{Err: refusal}, nil //nolint:nilerr // a refusal is an answer
	}
	v, err := c.decide(ctx, place{}, req, known)
	if err != nil {
		return Answer{}, err
	}
	refusal := v.err
	switch {
	case v.op == "new":
		refusal = ErrNotFound
	case v.op == "next" && refusal == nil:
		refusal = &GapError{req.ApplicationID, req.Generation, known.Generation, Status(known.State)}
	}
	if v.old != nil {
		known = v.old
	}
	if known == nil {
		return Answer{Err: refusal}, nil
	}
	link, err := c.link(ctx, *known)
	return Answer{link, refusal}, err
}

// Wait returns when the latest generation of a request has ended or is held. It
// is woken by the results stream, and fails with ctx's error where ctx ends
// first, with the link as it was then; nothing is lost.
func (c *Client) Wait(ctx context.Context, applicationID string) (Link, error) {
	link, err := c.wait(ctx, applicationID)
	if deadline, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a connection's deadline may pass a moment before the context's
	}
	if err != nil && ctx.Err() != nil {
		return link, ctx.Err()
	}
	return link, err
}

func (c *Client) wait(ctx context.Context, applicationID string) (link Link, err error) {
	last, err := c.lastEvent(ctx)
	if err != nil {
		return link, err
	}
	for {
		now, err := c.Get(ctx, applicationID)
		if err != nil {
			return link, err
		}
		if link = now; link.Status.Ended() || link.Status == Held {
			return link, nil
		}
		if last, err = c.nextEvent(ctx, last, applicationID); err != nil {
			return link, err
		}
	}
}

func (c *Client) lastEvent(ctx context.Context) (string, error) {
	entries, err := c.rdb.XRevRangeN(ctx, c.keys.Results(), "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the results stream: %w", err)
	}
	if len(entries) == 0 {
		return "0", nil
	}
	return entries[0].ID, nil
}

// nextEvent blocks until the request has an event after last, and gives the
// place in the stream from which to read on.
func (c *Client) nextEvent(ctx context.Context, last, applicationID string) (string, error) {
	for {
		streams, err := c.rdb.XRead(ctx, &redis.XReadArgs{
			Streams: []string{c.keys.Results(), last}, Count: 1000, Block: waitBlock,
		}).Result()
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		if err != nil && !errors.Is(err, redis.Nil) { // which says that nothing came
			return last, fmt.Errorf("read the results stream: %w", err)
		}
		for _, stream := range streams {
			for _, entry := range stream.Messages {
				last = entry.ID
				if entry.Values["application_id"] == applicationID {
					return last, nil
				}
			}
		}
	}
}
