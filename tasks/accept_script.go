package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/request"
)

// reply is the reply of accept.lua: either everything was applied, or nothing.
type reply struct {
	applied     bool
	backlogFull bool
	stored      []stored // of the first row of each ID, after the script ran
	room        capacity // if backlogFull
}

// usualContent is more than most contents take, in bytes.
const usualContent = 256

// runAccept runs accept.lua with the first row of each ID or, where all of them can only
// be new bulk requests, accept_new.lua.
func (c *Client) runAccept(ctx context.Context, s step, decisions []decision) (reply, error) {
	script, rows := acceptScript, lua.NewRows("op", "id", "lane", "generation", "not_after", "content")
	plain := !slices.ContainsFunc(decisions, func(d decision) bool { return d.op != "new" }) &&
		!slices.ContainsFunc(s.rows, func(r Row) bool { return r.Request.Lane != Bulk || !r.Request.NotAfter.IsZero() })
	if plain {
		script, rows = acceptNewScript, lua.NewRows("id", "content")
	}
	written := append(make([]chunkRow, 0, len(s.written)+len(s.rows)), s.written...)
	contents := make([]byte, 0, usualContent*len(s.rows))
	for i, row := range s.rows {
		d, req := &decisions[i], &row.Request
		if d.err == nil && !d.retry {
			written = append(written, chunkRow{row.Number, req.ApplicationID, d.joined})
		}
		if s.firsts[i] != i {
			continue
		}
		given := content(s.into, row)
		if d.op == "next" {
			given.Row = d.row
		}
		from := len(contents)
		var err error
		if contents, err = given.AppendStored(contents); err != nil {
			return reply{}, fmt.Errorf("encode %s: %w", req.ApplicationID, err)
		}
		content := contents[from:]
		if plain {
			rows.Add(req.ApplicationID, content)
			continue
		}
		due := ""
		if !req.NotAfter.IsZero() {
			due = strconv.FormatInt(req.NotAfter.UnixMilli(), 10)
		}
		rows.Add(d.op, req.ApplicationID, string(req.Lane[:1]), d.generation, due, content)
	}
	text, joined := encodeChunk(written)
	args := lua.Args{"batch": s.into.batch, "chunk": "", "chunk_rows": text, "size": len(written), "joined": joined, "max_backlog": ""}
	if c.limit > 0 {
		args["max_backlog"] = c.limit
	}
	if s.into.chunk != noChunk && !slices.ContainsFunc(decisions, func(d decision) bool { return d.retry }) {
		args["chunk"] = s.into.chunk // otherwise the last step writes the whole chunk
	}
	raw, err := script.Run(ctx, c.rdb, []string{c.keys.Tag()}, args, rows).Slice()
	if err != nil {
		return reply{}, fmt.Errorf("accept %d requests: %w", len(s.rows), err)
	}
	return c.parseReply(ctx, raw, s)
}

// parseReply parses what accept.lua and accept_new.lua return.
func (c *Client) parseReply(ctx context.Context, raw []any, s step) (reply, error) {
	switch raw[0].(int64) {
	case -1:
		name, _ := c.nameOf(ctx, s.into.batch) // cached: the batch has just been opened
		return reply{}, &CancelledError{name}
	case -2:
		room, err := parseCapacity(raw)
		return reply{backlogFull: true, room: room}, err
	case -3:
		return reply{}, errDeleted
	}
	now, err := parseRecords(raw, s)
	return reply{applied: raw[0].(int64) > 0, stored: now}, err
}

// errDeleted can happen to an import that waits for more than a day.
var errDeleted = errors.New("the batch was deleted because it was empty for a day; import it again")

// parseRecords reads the records in the reply of accept.lua.
func parseRecords(reply []any, s step) ([]stored, error) {
	now := make([]stored, len(s.rows))
	var when time.Time
	if reply[0].(int64) == 2 {
		ms, err := strconv.ParseInt(reply[1].(string), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("accept: unexpected time %v", reply[1])
		}
		when = time.UnixMilli(ms).UTC()
	}
	var fresh []request.Record
	if !when.IsZero() {
		if fresh = s.into.fresh; len(fresh) < len(s.rows) {
			fresh = make([]request.Record, len(s.rows))
		}
	}
	next := 1
	for i, row := range s.rows {
		if s.firsts[i] != i {
			continue
		}
		if !when.IsZero() {
			fresh[i] = firstRecord(s.into, row, when)
			now[i].record = &fresh[i]
			continue
		}
		raw := reply[next].(string)
		if next++; raw == "" {
			continue
		}
		if r, err := request.Parse(row.Request.ApplicationID, []byte(raw)); err != nil {
			now[i].err = err
		} else {
			now[i].record = &r
		}
	}
	return now, nil
}

// usualRow is more than most rows of a chunk take, in bytes.
const usualRow = 32

// encodeChunk returns the text of a chunk, which order.ParseChunk reads, and how many of
// its rows joined.
func encodeChunk(rows []chunkRow) (text []byte, joined int) {
	slices.SortFunc(rows, func(a, b chunkRow) int { return a.number - b.number })
	text = make([]byte, 0, usualRow*len(rows))
	for _, r := range rows {
		text = strconv.AppendInt(text, int64(r.number), 10)
		text = append(append(append(text, ' '), r.id...), '\n')
		if r.joined {
			joined++
		}
	}
	return text, joined
}

// content returns the stored part of a row.
func content(into target, row Row) request.Content {
	c := row.Request.content()
	c.By, c.Trace = into.by, into.trace
	if into.batch != 0 {
		c.Row = row.Number
	}
	return c
}

// firstRecord returns the record that accept.lua writes for an unknown ID.
func firstRecord(into target, row Row, when time.Time) request.Record {
	r := request.Record{
		ApplicationID: row.Request.ApplicationID, State: request.Waiting, Lane: request.Lane(row.Request.Lane),
		Generation: 1, Run: 1, Batch: into.batch, AcceptedAt: when, ChangedAt: when,
		Deadline: !row.Request.NotAfter.IsZero(), Content: content(into, row),
	}
	if row.Request.Lane == Interactive {
		r.State, r.Turn = request.Queued, 1
	}
	return r
}
