package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// noChunk is the chunk number of requests that are not rows of a batch.
const noChunk = -1

// maxRounds limits how often a step is repeated because other producers changed the
// same requests meanwhile.
const maxRounds = 10

// target is what requests are accepted into: one chunk of a batch, or no batch.
type target struct {
	batch    int       // 0 for no batch
	chunk    int       // or noChunk
	notAfter time.Time // of the batch; zero if it has none
	by       string    // the ID of the caller
	trace    string    // the stored context of requests without a batch; "" for none
	// fresh is memory for the records of new requests, which is overwritten by the next step
	// into the same chunk; nil: they get memory of their own.
	fresh []request.Record
}

// step is one atomic step: rows and where they go.
type step struct {
	into    target
	written []chunkRow // rows of the same chunk that earlier steps accepted
	rows    []Row
	firsts  []int // for each row, the index of the first row with the same ID
}

// accepted is the result of accepting one row.
type accepted struct {
	record *request.Record // nil with an error
	isNew  bool            // this call wrote the record
	err    error
	// retry is set on a row that repeats an earlier row of the step: it is accepted in
	// another step, when the earlier row has been recorded.
	retry bool
}

// chunkRow is an entry of a chunk, which keeps the order of a batch.
type chunkRow struct {
	number int
	id     string
	joined bool // the request belongs to another batch, or to none
}

// stored is what Redis has for an application ID. The zero value means that it has
// nothing, or that nothing has been read.
type stored struct {
	record *request.Record // the latest generation
	err    error           // why the record cannot be decoded
}

// acceptAll accepts rows in one atomic step, which also writes the chunk with the rows
// of earlier steps and of this one. It assumes at first that every ID is unknown. If
// the script finds records instead, it decides again with these.
func (c *Client) acceptAll(ctx context.Context, into target, written []chunkRow, rows []Row) ([]accepted, error) {
	s := step{into, written, rows, firstRows(rows)}
	known, room := make([]stored, len(rows)), unlimited()
	for round := range maxRounds {
		decisions, err := c.decideAll(ctx, s, known, room)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 && !slices.ContainsFunc(decisions, func(d decision) bool { return !d.backlogFull() }) {
			return c.results(s, decisions, nil), nil
		}
		reply, err := c.runAccept(ctx, s, decisions)
		switch {
		case err != nil:
			return nil, err
		case reply.applied:
			return c.results(s, decisions, reply.stored), nil
		case reply.backlogFull:
			// If other producers take the capacity every time, refuse these rows.
			if room = reply.room; round > maxRounds/2 {
				room = nil
			}
		default:
			known = reply.stored
		}
	}
	return nil, fmt.Errorf("accept %d requests: other producers kept changing them; try again", len(rows))
}

// results combines the decisions with what the script left in Redis.
func (c *Client) results(s step, decisions []decision, now []stored) []accepted {
	results := make([]accepted, len(decisions))
	for i, d := range decisions {
		results[i].err, results[i].retry = d.err, d.retry
		results[i].isNew = d.op == "new" || d.op == "next"
		switch {
		case d.err != nil || d.retry:
		case d.old != nil:
			results[i].record = d.old
		case !c.caller.maySee(now[s.firsts[i]].record): // it was erased and created again after the decision
			results[i].err = foreign(s.rows[i].Request)
		default:
			results[i].record = now[s.firsts[i]].record
		}
	}
	return results
}

// firstRows returns for each row the index of the first row with the same ID.
func firstRows(rows []Row) []int {
	firsts, index := make([]int, len(rows)), make(map[string]int, len(rows))
	for i, row := range rows {
		first, ok := index[row.Request.ApplicationID]
		if !ok {
			first = i
			index[row.Request.ApplicationID] = i
		}
		firsts[i] = first
	}
	return firsts
}

func (c *Client) decideAll(ctx context.Context, s step, known []stored, room capacity) ([]decision, error) {
	decisions, at := make([]decision, len(s.rows)), c.now()
	for i, row := range s.rows {
		if known[i].err != nil {
			decisions[i] = decision{op: "leave", err: &UnreadableError{row.Request.ApplicationID, known[i].err}}
			continue
		}
		latest := known[i].record
		if f := s.firsts[i]; f != i {
			if decisions[f].backlogFull() {
				decisions[i].err = decisions[f].err
				continue
			}
			if latest = decisions[f].result(s.into, s.rows[f], known[f].record); latest == nil {
				decisions[i].retry = true
				continue
			}
		}
		d, err := c.decide(ctx, s.into, row.Request, latest, at)
		if err != nil {
			return nil, err
		}
		if latest != nil {
			d.joined, d.row = latest.Batch != s.into.batch, latest.Content.Row
		}
		d.retry = s.firsts[i] != i && d.op != "keep"
		if !d.retry {
			d = room.reserve(d, row.Request.Lane, latest, c.limit)
		}
		decisions[i] = d
	}
	return decisions, nil
}

// decide decides about one request whose latest generation is known, or nil. It reads
// an earlier generation if the request names one.
func (c *Client) decide(ctx context.Context, into target, req Request, latest *request.Record, at time.Time) (decision, error) {
	d := decide(req, latest, into.notAfter, at)
	earlier := latest != nil && req.Generation != 0 && req.Generation < latest.Generation
	switch {
	case latest == nil:
		return d, nil
	case !earlier && !c.caller.maySee(latest):
		return decision{op: "keep", generation: latest.Generation, err: foreign(req)}, nil
	case !earlier:
		return d, nil
	}
	old, err := c.read(ctx, c.keys.Old(req.ApplicationID, req.Generation), req.ApplicationID)
	switch {
	case errors.Is(err, ErrNotFound) && c.caller.maySee(latest):
		d.err = err
		return d, nil
	case err == nil && !c.caller.maySee(&old) || errors.Is(err, ErrNotFound):
		d.err = foreign(req)
		return d, nil
	case err != nil:
		return d, err
	}
	d.old, d.err = &old, conflict(req, &old)
	return d, nil
}
