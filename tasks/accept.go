package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/record"
)

// Row is one request of a batch and the number of its row in the input, from 1.
type Row struct {
	Number  int
	Request Request
}

// noChunk is given where the requests are no part of a batch's order.
const noChunk = -1

// maxRounds bounds how often accepting looks again because another producer
// changed one of the requests in between.
const maxRounds = 10

// accepted is what became of one row.
type accepted struct {
	record record.Record
	err    error
}

// verdict is what is to be done with a row, given what is known of its id: the
// script's op, the generation that it is said of, and the error for the asker.
type verdict struct {
	op         string
	generation int
	joined     bool
	err        error
}

// acceptAll accepts rows with different ids in one atomic step. It first takes
// all of them to be unknown, and decides anew from what the script saw instead.
func (c *Client) acceptAll(ctx context.Context, batch, chunk int, rows []Row) ([]accepted, error) {
	known := make([]*record.Record, len(rows))
	verdicts := make([]verdict, len(rows))
	for range maxRounds {
		for i, row := range rows {
			verdicts[i] = judge(row.Request, known[i], batch)
		}
		applied, seen, err := c.callAccept(ctx, batch, chunk, rows, verdicts)
		if err != nil {
			return nil, err
		}
		if !applied {
			known = seen
			continue
		}
		results := make([]accepted, len(rows))
		for i := range rows {
			results[i].err = verdicts[i].err
			if seen[i] == nil {
				continue
			}
			results[i].record = *seen[i]
			if want := rows[i].Request.Generation; want > 0 && want < seen[i].Generation {
				results[i] = c.earlier(ctx, rows[i].Request)
			}
		}
		return results, nil
	}
	return nil, errors.New("other producers changed the same requests again and again; try again")
}

// judge decides what becomes of a request whose latest generation is known, or
// nil where the id is not.
func judge(req Request, known *record.Record, batch int) verdict {
	late := !req.NotAfter.IsZero() && !req.NotAfter.After(time.Now())
	if known == nil {
		switch {
		case req.Generation > 1:
			return verdict{op: "none", err: &GapError{req.ApplicationID, req.Generation, 0, ""}}
		case late:
			return verdict{op: "none", err: pastError()}
		}
		return verdict{op: "new", generation: 1}
	}
	want, v := req.Generation, verdict{op: "keep", generation: known.Generation, joined: known.Batch != batch}
	if want == 0 {
		want = known.Generation
	}
	switch {
	case want < known.Generation:
	case want == known.Generation:
		if keys := differences(known.Content, req.content()); len(keys) > 0 {
			v.err = &ConflictError{req.ApplicationID, keys}
		} else if req.Lane == Interactive && known.Lane == record.Bulk {
			v.op = "promote"
		}
	case want > known.Generation+1 || !known.State.Ended():
		v.err = &GapError{req.ApplicationID, want, known.Generation, Status(known.State)}
	case late:
		v.err = pastError()
	default:
		v.op, v.generation = "next", want
	}
	return v
}

func pastError() error {
	return &InvalidError{[]Problem{{"not_after", "has passed already"}}}
}

// earlier answers for a generation that is not the latest one.
func (c *Client) earlier(ctx context.Context, req Request) accepted {
	raw, err := c.rdb.Get(ctx, c.keys.Old(req.ApplicationID, req.Generation)).Bytes()
	if errors.Is(err, redis.Nil) {
		return accepted{err: ErrNotFound}
	}
	if err != nil {
		return accepted{err: err}
	}
	r, err := record.Parse(req.ApplicationID, raw)
	if err != nil {
		return accepted{err: err}
	}
	if keys := differences(r.Content, req.content()); len(keys) > 0 {
		return accepted{err: &ConflictError{req.ApplicationID, keys}}
	}
	return accepted{record: r}
}

// callAccept runs the script. It returns whether everything applied, and the
// records as they are after it, nil where there is none.
func (c *Client) callAccept(ctx context.Context, batch, chunk int, rows []Row, verdicts []verdict) (bool, []*record.Record, error) {
	args := make([]any, 4, 4+6*len(rows))
	var (
		lines  strings.Builder
		joined int
	)
	for i, row := range rows {
		v, req := verdicts[i], row.Request
		content, err := json.Marshal(req.content())
		if err != nil {
			return false, nil, fmt.Errorf("encode %s: %w", req.ApplicationID, err)
		}
		due := ""
		if !req.NotAfter.IsZero() {
			due = strconv.FormatInt(req.NotAfter.UnixMilli(), 10)
		}
		args = append(args, v.op, req.ApplicationID, string(req.Lane[0]), v.generation, due, content)
		if v.err == nil {
			fmt.Fprintf(&lines, "%d %s\n", row.Number, req.ApplicationID)
			if v.joined {
				joined++
			}
		}
	}
	args[0], args[1], args[2], args[3] = batch, "", lines.String(), joined
	if chunk != noChunk {
		args[1] = chunk
	}
	reply, err := c.accept.Run(ctx, c.rdb, []string{c.keys.Tag()}, args...).Slice()
	if err != nil {
		return false, nil, fmt.Errorf("accept %s: %w", rows[0].Request.ApplicationID, err)
	}
	seen := make([]*record.Record, len(rows))
	if reply[0].(int64) == 2 {
		ms, err := strconv.ParseInt(reply[1].(string), 10, 64)
		if err != nil {
			return false, nil, fmt.Errorf("accept: unexpected time %v", reply[1])
		}
		for i, row := range rows {
			seen[i] = firstRecord(row.Request, batch, time.UnixMilli(ms).UTC())
		}
		return true, seen, nil
	}
	for i, row := range rows {
		raw := reply[i+1].(string)
		if raw == "" {
			continue
		}
		r, err := record.Parse(row.Request.ApplicationID, []byte(raw))
		if err != nil {
			return false, nil, err
		}
		seen[i] = &r
	}
	return reply[0].(int64) == 1, seen, nil
}

// firstRecord is what the script wrote for a request that was unknown.
func firstRecord(req Request, batch int, at time.Time) *record.Record {
	r := &record.Record{
		ApplicationID: req.ApplicationID, State: record.Waiting, Lane: record.Lane(req.Lane),
		Generation: 1, Run: 1, Batch: batch, AcceptedAt: at, ChangedAt: at,
		Deadline: !req.NotAfter.IsZero(), Content: req.content(),
	}
	if req.Lane == Interactive {
		r.State, r.Turn = record.Queued, 1
	}
	return r
}
