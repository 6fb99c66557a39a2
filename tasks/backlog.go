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

// room is how many requests that are new to it each lane still takes.
type room map[Lane]int

func anyRoom() room { return room{Interactive: math.MaxInt, Bulk: math.MaxInt} }

// parseRoom reads the script's reply.
func parseRoom(reply []any) (room, error) {
	interactive, err := strconv.Atoi(fmt.Sprint(reply[1]))
	bulk, wrong := strconv.Atoi(fmt.Sprint(reply[2]))
	if err := errors.Join(err, wrong); err != nil {
		return nil, fmt.Errorf("accept: unexpected room: %w", err)
	}
	return room{Interactive: interactive, Bulk: bulk}, nil
}

// take gives a request its place, or refuses it where the lane that it is new to
// has none. known is what is known of its id.
func (r room) take(v verdict, lane Lane, known *request.Record, limit int) verdict {
	switch v.op {
	case "new", "next":
	case "promote":
		if known.State != request.Waiting && known.State != request.Queued {
			return v
		}
	default:
		return v
	}
	if r[lane] > 0 {
		r[lane]--
		return v
	}
	v.err = &BacklogError{lane, limit}
	if v.op = "none"; known != nil {
		v.op, v.generation = "keep", known.Generation
	}
	return v
}

// roomPause is short, so that a lane of which little may wait does not run dry.
const roomPause = 100 * time.Millisecond

// awaitRoom waits for a moment where a lane was full.
func (c *Client) awaitRoom(ctx context.Context, err error) error {
	full, ok := errors.AsType[*BacklogError](err)
	if !ok {
		return nil
	}
	c.onFull(full)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(roomPause):
		return nil
	}
}

// full says that there is no room for the request.
func (v verdict) full() bool {
	_, full := errors.AsType[*BacklogError](v.err)
	return full
}
