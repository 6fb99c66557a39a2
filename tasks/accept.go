package tasks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// verdict is what is to be done with a row, given what is known of its id.
type verdict struct {
	op         string // the script's
	generation int    // that op is said of
	err        error  // for the asker
	old        *record.Record
	alone      bool // op follows another one on the same id, in a step of its own
}

func (v verdict) changes() bool { return v.op == "new" || v.op == "next" || v.op == "promote" }

// step is what the script does with one id.
type step struct {
	op         string
	generation int
	req        Request
}

// plan is one run of the script for some rows.
type plan struct {
	verdicts []verdict // by row
	steps    []step    // each id once
	lines    strings.Builder
	joined   int // lines whose request is not the batch's own
}

// acceptAll accepts rows in one atomic step. It first takes all of them to be
// unknown, and decides anew from what the script saw instead.
func (c *Client) acceptAll(ctx context.Context, batch, chunk int, rows []Row) ([]accepted, error) {
	known := make(map[string]*record.Record)
	for range maxRounds {
		p, err := c.plan(ctx, batch, rows, known)
		if err != nil {
			return nil, err
		}
		applied, seen, err := c.callAccept(ctx, batch, chunk, p)
		if err != nil {
			return nil, err
		}
		if applied {
			return c.results(ctx, batch, rows, p, seen)
		}
		known = seen
	}
	return nil, errors.New("other producers changed the same requests again and again; try again")
}

// plan decides row by row, as if each were asked for after the ones before.
func (c *Client) plan(ctx context.Context, batch int, rows []Row, known map[string]*record.Record) (*plan, error) {
	p := &plan{verdicts: make([]verdict, len(rows))}
	place := make(map[string]int, len(rows))
	current := make(map[string]*record.Record, len(rows))
	for i, row := range rows {
		id := row.Request.ApplicationID
		at, again := place[id]
		if !again {
			at = len(p.steps)
			place[id], current[id] = at, known[id]
		}
		v, err := c.decide(ctx, row.Request, current[id])
		if err != nil {
			return nil, err
		}
		switch {
		case !again:
			p.steps = append(p.steps, step{v.op, v.generation, row.Request})
		case v.changes() && p.steps[at].op == "promote" && v.op == "promote": // twice is once
		case v.changes() && (verdict{op: p.steps[at].op}).changes():
			v.alone = true
		case v.changes():
			p.steps[at] = step{v.op, v.generation, row.Request}
		}
		p.verdicts[i] = v
		if v.err != nil {
			continue
		}
		current[id] = v.foresee(row.Request, current[id], batch)
		fmt.Fprintf(&p.lines, "%d %s\n", row.Number, id)
		if current[id].Batch != batch {
			p.joined++
		}
	}
	return p, nil
}

// results gives what became of each row, once the plan was applied.
func (c *Client) results(ctx context.Context, batch int, rows []Row, p *plan, seen map[string]*record.Record) ([]accepted, error) {
	results := make([]accepted, len(rows))
	for i, v := range p.verdicts {
		switch {
		case v.err != nil:
			results[i].err = v.err
		case v.alone:
			alone, err := c.acceptAll(ctx, batch, noChunk, rows[i:i+1])
			if err != nil {
				return nil, err
			}
			results[i] = alone[0]
		case v.old != nil:
			results[i].record = *v.old
		default:
			results[i].record = *seen[rows[i].Request.ApplicationID]
		}
	}
	return results, nil
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

// foresee is the record as the verdict leaves it, as far as judging goes.
func (v verdict) foresee(req Request, known *record.Record, batch int) *record.Record {
	switch v.op {
	case "new":
		return firstRecord(req, batch, time.Time{})
	case "next":
		r := firstRecord(req, known.Batch, time.Time{})
		r.Generation = v.generation
		return r
	case "promote":
		r := *known
		r.Lane = record.Interactive
		return &r
	}
	return known
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
// records that there are after it.
func (c *Client) callAccept(ctx context.Context, batch, chunk int, p *plan) (bool, map[string]*record.Record, error) {
	args := make([]any, 4, 4+6*len(p.steps))
	args[0], args[1], args[2], args[3] = batch, "", p.lines.String(), p.joined
	if chunk != noChunk {
		args[1] = chunk
	}
	for _, s := range p.steps {
		content, err := json.Marshal(s.req.content())
		if err != nil {
			return false, nil, fmt.Errorf("encode %s: %w", s.req.ApplicationID, err)
		}
		due := ""
		if !s.req.NotAfter.IsZero() {
			due = strconv.FormatInt(s.req.NotAfter.UnixMilli(), 10)
		}
		args = append(args, s.op, s.req.ApplicationID, string(s.req.Lane[0]), s.generation, due, content)
	}
	reply, err := c.accept.Run(ctx, c.rdb, []string{c.keys.Tag()}, args...).Slice()
	if err != nil {
		return false, nil, fmt.Errorf("accept %d requests: %w", len(p.steps), err)
	}
	seen := make(map[string]*record.Record, len(p.steps))
	if reply[0].(int64) == 2 {
		ms, err := strconv.ParseInt(reply[1].(string), 10, 64)
		if err != nil {
			return false, nil, fmt.Errorf("accept: unexpected time %v", reply[1])
		}
		for _, s := range p.steps {
			seen[s.req.ApplicationID] = firstRecord(s.req, batch, time.UnixMilli(ms).UTC())
		}
		return true, seen, nil
	}
	for i, s := range p.steps {
		raw := reply[i+1].(string)
		if raw == "" {
			continue
		}
		r, err := record.Parse(s.req.ApplicationID, []byte(raw))
		if err != nil {
			return false, nil, err
		}
		seen[s.req.ApplicationID] = &r
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
