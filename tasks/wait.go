package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// readBlock is how long one read of the results stream blocks, and therefore how long
// a stop may take.
const readBlock = time.Second

// Wait returns when the latest generation of a request has ended or is held. If ctx ends
// first, it returns the link as it was then and the error of ctx; the request continues.
func (c *Client) Wait(ctx context.Context, applicationID string) (Link, error) {
	link, err := c.wait(ctx, applicationID)
	if deadline, ok := ctx.Deadline(); err != nil && ok && !time.Now().Before(deadline) {
		<-ctx.Done() // a connection's deadline can pass a moment before the context's
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

// lastEvent returns the stream entry ID of the newest event.
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

// nextEvent blocks until the request has an event after the entry last. It returns the
// entry from which to continue.
func (c *Client) nextEvent(ctx context.Context, last, applicationID string) (string, error) {
	for {
		streams, err := c.rdb.XRead(ctx, &redis.XReadArgs{
			Streams: []string{c.keys.Results(), last}, Count: 1000, Block: readBlock,
		}).Result()
		if ctx.Err() != nil {
			return last, ctx.Err()
		}
		if err != nil && !errors.Is(err, redis.Nil) { // redis.Nil: no entry arrived
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
