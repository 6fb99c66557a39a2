package tasks

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// capacity is the number of requests that each lane's backlog still accepts.
type capacity map[Lane]int

func unlimited() capacity { return capacity{Interactive: math.MaxInt, Bulk: math.MaxInt} }

// parseCapacity reads the reply of accept.lua.
func parseCapacity(reply []any) (capacity, error) {
	interactive, err := strconv.Atoi(fmt.Sprint(reply[1]))
	bulk, bulkErr := strconv.Atoi(fmt.Sprint(reply[2]))
	if err := errors.Join(err, bulkErr); err != nil {
		return nil, fmt.Errorf("accept: unexpected capacity: %w", err)
	}
	return capacity{Interactive: interactive, Bulk: bulk}, nil
}

// reserve reserves a place for a request that is new to its lane. If the lane has no
// capacity left, it returns a decision that refuses the request. latest is the latest
// generation of its ID, or nil.
func (c capacity) reserve(d decision, lane Lane, latest *request.Record, limit int) decision {
	switch d.op {
	case "new", "next":
	case "promote":
		if latest.State != request.Waiting && latest.State != request.Queued {
			return d
		}
	default:
		return d
	}
	if c[lane] > 0 {
		c[lane]--
		return d
	}
	d.err = &BacklogError{lane, limit}
	if d.op = "none"; latest != nil {
		d.op, d.generation = "keep", latest.Generation
	}
	return d
}

// backlogPause is short, so that a lane with a small limit does not run empty.
const backlogPause = 100 * time.Millisecond

// awaitBacklog pauses if err says that a lane's backlog is full.
func (c *Client) awaitBacklog(ctx context.Context, err error) error {
	full, ok := errors.AsType[*BacklogError](err)
	if !ok {
		return nil
	}
	c.onFull(full)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(backlogPause):
		return nil
	}
}
