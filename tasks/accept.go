package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// line is a row's place in its batch's order.
type line struct {
	number int
	id     string
	joined bool // the request is not the batch's own
}

// verdict is what is to be done with a row, given what is known of its id.
type verdict struct {
	op         string // the script's
	generation int    // that op is said of
	joined     bool
	err        error          // for the asker
	old        *record.Record // the answer, where an earlier generation is asked for
}

// acceptAll accepts rows with different ids in one atomic step, which writes
// the chunk with lines and theirs as well. It first takes all of them to be
// unknown, and decides anew from what the script saw instead.
func (c *Client) acceptAll(ctx context.Context, batch, chunk int, lines []line, rows []Row) ([]accepted, error) {
	known := make([]*record.Record, len(rows))
	verdicts := make([]verdict, len(rows))
	for range maxRounds {
		for i, row := range rows {
			var err error
			if verdicts[i], err = c.decide(ctx, row.Request, known[i]); err != nil {
				return nil, err
			}
			verdicts[i].joined = known[i] != nil && known[i].Batch != batch
		}
		applied, seen, err := c.callAccept(ctx, batch, chunk, lines, rows, verdicts)
		if err != nil {
			return nil, err
		}
		if !applied {
			known = seen
			continue
		}
		results := make([]accepted, len(rows))
		for i, v := range verdicts {
			if v.old != nil {
				seen[i] = v.old
			}
			if results[i].err = v.err; v.err == nil {
				results[i].record = *seen[i]
			}
		}
		return results, nil
	}
	return nil, errors.New("other producers changed the same requests again and again; try again")
}

// decide is [judge], and what an earlier generation has to say.
func (c *Client) decide(ctx context.Context, req Request, known *record.Record) (verdict, error) {
	v := judge(req, known, c.now())
	if known == nil || req.Generation == 0 || req.Generation >= known.Generation {
		return v, nil
	}
	old, err := c.read(ctx, c.keys.Old(req.ApplicationID, req.Generation), req.ApplicationID)
	switch {
	case errors.Is(err, ErrNotFound):
		v.err = err
		return v, nil
	case err != nil:
		return v, err
	}
	v.old, v.err = &old, conflict(req, &old)
	return v, nil
}

// judge decides what becomes of a request whose latest generation is known, or
// nil where the id is not.
func judge(req Request, known *record.Record, now time.Time) verdict {
	late := !req.NotAfter.IsZero() && !req.NotAfter.After(now)
	if known == nil {
		switch {
		case req.Generation > 1:
			return verdict{op: "none", err: &GapError{req.ApplicationID, req.Generation, 0, ""}}
		case late:
			return verdict{op: "none", err: pastError()}
		}
		return verdict{op: "new", generation: 1}
	}
	want, v := req.Generation, verdict{op: "keep", generation: known.Generation}
	if want == 0 {
		want = known.Generation
	}
	switch {
	case want < known.Generation:
	case want == known.Generation:
		v.err = conflict(req, known)
		if v.err == nil && req.Lane == Interactive && known.Lane == record.Bulk {
			v.op = "promote" // if it still waits when the script looks
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

func conflict(req Request, known *record.Record) error {
	if keys := differences(known.Content, req.content()); len(keys) > 0 {
		return &ConflictError{req.ApplicationID, keys}
	}
	return nil
}

// callAccept runs the script. It returns whether everything applied, and the
// records as they are after it, nil where there is none.
func (c *Client) callAccept(ctx context.Context, batch, chunk int, lines []line, rows []Row, verdicts []verdict) (bool, []*record.Record, error) {
	args := make([]any, 4, 4+6*len(rows))
	lines = slices.Clone(lines)
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
			lines = append(lines, line{row.Number, req.ApplicationID, v.joined})
		}
	}
	args[0], args[1] = batch, ""
	args[2], args[3] = order(lines)
	if chunk != noChunk {
		args[1] = chunk
	}
	reply, err := c.accept.Run(ctx, c.rdb, []string{c.keys.Tag()}, args...).Slice()
	if err != nil {
		return false, nil, fmt.Errorf("accept %d requests: %w", len(rows), err)
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

// order is a chunk's text, and how many of its rows joined.
func order(lines []line) (text string, joined int) {
	slices.SortFunc(lines, func(a, b line) int { return a.number - b.number })
	var out strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&out, "%d %s\n", l.number, l.id)
		if l.joined {
			joined++
		}
	}
	return out.String(), joined
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
