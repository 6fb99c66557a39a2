package tasks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/kyclink/kyclink/internal/request"
)

// Row is one request of a batch and the number of its row in the input, from 1.
type Row struct {
	Number  int
	Request Request
	// Validated says that [ParseText], [ParseRequest] or [Request.Validate] found
	// nothing wrong with Request, which has not changed since: then it is not
	// looked at again, which is a sixth of the work of an import.
	Validated bool
}

func (r *Row) acceptable(d destinations) error {
	if !r.Validated {
		return r.Request.acceptable(d)
	}
	return invalid(d.problems(&r.Request))
}

// noChunk is given where the requests are no part of a batch's order.
const noChunk = -1

// maxRounds bounds how often accepting looks again because another producer
// changed one of the requests in between.
const maxRounds = 10

// place is where requests are accepted: a chunk of a batch, or in none.
type place struct {
	batch    int       // 0: none
	chunk    int       // or noChunk
	notAfter time.Time // the batch's; zero: none
	by       string    // the maker's id
}

// accepted is what became of one row.
type accepted struct {
	record request.Record
	made   bool // by this call
	err    error
	later  bool // it repeats a row before it, and is to be asked for after that
}

// line is a row's place in its batch's order.
type line struct {
	number int
	id     string
	joined bool // the request is not the batch's own
}

// sight is what was seen of an id: its latest generation, or why that cannot be read;
// neither where there is none, or nobody has looked.
type sight struct {
	record *request.Record
	broken error
}

// verdict is what is to be done with a row, given what is known of its id.
type verdict struct {
	op         string // the script's
	generation int    // that op is said of
	row        int    // of its batch, which the next generation keeps
	joined     bool
	later      bool
	err        error           // for the asker
	old        *request.Record // the answer, where an earlier generation is asked for
}

// acceptAll accepts rows in one atomic step, which writes the chunk with lines
// and theirs as well. It first takes all of them to be unknown, and decides anew
// from what the script saw instead.
func (c *Client) acceptAll(ctx context.Context, at place, lines []line, rows []Row) ([]accepted, error) {
	firsts := firstOf(rows)
	known, room := make([]sight, len(rows)), anyRoom()
	for round := range maxRounds {
		verdicts, err := c.decideAll(ctx, at, rows, firsts, known, room)
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 && !slices.ContainsFunc(verdicts, func(v verdict) bool { return !v.full() }) {
			return c.results(verdicts, nil, rows, firsts), nil
		}
		reply, err := c.callAccept(ctx, at, lines, rows, firsts, verdicts)
		switch {
		case err != nil:
			return nil, err
		case reply.applied:
			return c.results(verdicts, reply.seen, rows, firsts), nil
		case reply.full:
			// Where others take the room each time, this one comes later.
			if room = reply.room; round > maxRounds/2 {
				room = nil
			}
		default:
			known = reply.seen
		}
	}
	return nil, errors.New("other producers changed the same requests again and again; try again")
}

func (c *Client) results(verdicts []verdict, seen []sight, rows []Row, firsts []int) []accepted {
	results := make([]accepted, len(verdicts))
	for i, v := range verdicts {
		results[i].err, results[i].later = v.err, v.later
		results[i].made = v.op == "new" || v.op == "next"
		switch {
		case v.err != nil || v.later:
		case v.old != nil:
			results[i].record = *v.old
		case !c.caller.maySee(seen[firsts[i]].record): // it was erased, and created again, since the decision
			results[i].err = foreign(rows[i].Request)
		default:
			results[i].record = *seen[firsts[i]].record
		}
	}
	return results
}

// firstOf gives for each row the first one that has its id.
func firstOf(rows []Row) []int {
	firsts, at := make([]int, len(rows)), make(map[string]int, len(rows))
	for i, row := range rows {
		first, ok := at[row.Request.ApplicationID]
		if !ok {
			first = i
			at[row.Request.ApplicationID] = i
		}
		firsts[i] = first
	}
	return firsts
}

func (c *Client) decideAll(ctx context.Context, at place, rows []Row, firsts []int, known []sight, left room) (_ []verdict, err error) {
	verdicts := make([]verdict, len(rows))
	for i, row := range rows {
		if known[i].broken != nil {
			verdicts[i] = verdict{op: "leave", err: &UnreadableError{row.Request.ApplicationID, known[i].broken}}
			continue
		}
		about := known[i].record
		if f := firsts[i]; f != i {
			if verdicts[f].full() {
				verdicts[i].err = verdicts[f].err
				continue
			}
			if about = verdicts[f].leaves(at, rows[f], known[f].record); about == nil {
				verdicts[i].later = true
				continue
			}
		}
		v, err := c.decide(ctx, at, row.Request, about)
		if err != nil {
			return nil, err
		}
		v.joined = about != nil && about.Batch != at.batch
		if about != nil {
			v.row = about.Content.Row
		}
		v.later = firsts[i] != i && v.op != "keep"
		if !v.later {
			v = left.take(v, row.Request.Lane, about, c.limit)
		}
		verdicts[i] = v
	}
	return verdicts, nil
}

// leaves is the record as the script leaves it, nil where only the script knows.
func (v verdict) leaves(at place, row Row, known *request.Record) *request.Record {
	switch {
	case v.err != nil:
		return nil
	case v.op == "new":
		return firstRecord(at, row, time.Time{})
	case v.op == "keep":
		return known
	}
	return nil
}

// decide is [judge], and what an earlier generation has to say.
func (c *Client) decide(ctx context.Context, at place, req Request, known *request.Record) (verdict, error) {
	v := judge(req, known, at.notAfter, c.now())
	earlier := known != nil && req.Generation != 0 && req.Generation < known.Generation
	switch {
	case known == nil:
		return v, nil
	case !earlier && !c.caller.maySee(known):
		return verdict{op: "keep", generation: known.Generation, err: foreign(req)}, nil
	case !earlier:
		return v, nil
	}
	old, err := c.read(ctx, c.keys.Old(req.ApplicationID, req.Generation), req.ApplicationID)
	switch {
	case errors.Is(err, ErrNotFound) && c.caller.maySee(known):
		v.err = err
		return v, nil
	case err == nil && !c.caller.maySee(&old) || errors.Is(err, ErrNotFound):
		v.err = foreign(req)
		return v, nil
	case err != nil:
		return v, err
	}
	v.old, v.err = &old, conflict(req, &old)
	return v, nil
}

// judge decides what becomes of a request whose latest generation is known, or
// nil where the id is not. notAfter is for requests that give none.
func judge(req Request, known *request.Record, notAfter, now time.Time) verdict {
	if !req.NotAfter.IsZero() {
		notAfter = req.NotAfter
	}
	late := !notAfter.IsZero() && !notAfter.After(now)
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
		if v.err == nil && req.Lane == Interactive && known.Lane == request.Bulk {
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
	return invalid([]Problem{{"not_after", "has passed already"}})
}

func conflict(req Request, known *request.Record) error {
	if keys := differences(known.Content, req.content()); len(keys) > 0 {
		return &ConflictError{req.ApplicationID, keys}
	}
	return nil
}

// reply is what the script says: whether everything applied, and what is stored
// after it; or that the lanes have no room for all of it.
type reply struct {
	applied, full bool
	seen          []sight
	room          room
}

// callAccept runs the script, for the first row of each id.
func (c *Client) callAccept(ctx context.Context, at place, lines []line, rows []Row, firsts []int, verdicts []verdict) (reply, error) {
	args := make([]any, 6, 6+6*len(rows))
	plain := !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.op != "new" }) &&
		!slices.ContainsFunc(rows, func(r Row) bool { return r.Request.Lane != Bulk || !r.Request.NotAfter.IsZero() })
	lines = append(make([]line, 0, len(lines)+len(rows)), lines...)
	for i, row := range rows {
		v, req := &verdicts[i], &row.Request
		if v.err == nil && !v.later {
			lines = append(lines, line{row.Number, req.ApplicationID, v.joined})
		}
		if firsts[i] != i {
			continue
		}
		given := content(at, row)
		if v.op == "next" {
			given.Row = v.row
		}
		content, err := given.AppendJSON(make([]byte, 0, 256))
		if err != nil {
			return reply{}, fmt.Errorf("encode %s: %w", req.ApplicationID, err)
		}
		if plain {
			args = append(args, req.ApplicationID, content)
			continue
		}
		due := ""
		if !req.NotAfter.IsZero() {
			due = strconv.FormatInt(req.NotAfter.UnixMilli(), 10)
		}
		args = append(args, v.op, req.ApplicationID, string(req.Lane[:1]), v.generation, due, content)
	}
	args[0], args[1], args[4], args[5] = at.batch, "", "", ""
	if c.limit > 0 {
		args[4] = c.limit
	}
	if plain {
		args[5] = "plain"
	}
	args[2], args[3] = order(lines)
	if at.chunk != noChunk && !slices.ContainsFunc(verdicts, func(v verdict) bool { return v.later }) {
		args[1] = at.chunk // or the last step writes it, whole
	}
	raw, err := acceptScript.Run(ctx, c.rdb, []string{c.keys.Tag()}, args...).Slice()
	if err != nil {
		return reply{}, fmt.Errorf("accept %d requests: %w", len(rows), err)
	}
	switch raw[0].(int64) {
	case -1:
		name, _ := c.nameOf(ctx, at.batch) // it was opened just now
		return reply{}, &CancelledError{name}
	case -2:
		left, err := parseRoom(raw)
		return reply{full: true, room: left}, err
	case -3:
		return reply{}, errDeleted
	}
	seen, err := records(raw, at, rows, firsts)
	return reply{applied: raw[0].(int64) > 0, seen: seen}, err
}

// errDeleted is met by an import that has waited for more than a day.
var errDeleted = errors.New("the batch was deleted meanwhile, as nothing was in it for a day; import it again")

// records reads the script's reply.
func records(reply []any, at place, rows []Row, firsts []int) ([]sight, error) {
	seen := make([]sight, len(rows))
	var when time.Time
	if reply[0].(int64) == 2 {
		ms, err := strconv.ParseInt(reply[1].(string), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("accept: unexpected time %v", reply[1])
		}
		when = time.UnixMilli(ms).UTC()
	}
	next := 1
	for i, row := range rows {
		if firsts[i] != i {
			continue
		}
		if !when.IsZero() {
			seen[i].record = firstRecord(at, row, when)
			continue
		}
		raw := reply[next].(string)
		if next++; raw == "" {
			continue
		}
		if r, err := request.Parse(row.Request.ApplicationID, []byte(raw)); err != nil {
			seen[i].broken = err
		} else {
			seen[i].record = &r
		}
	}
	return seen, nil
}

// order is a chunk's text, and how many of its rows joined.
func order(lines []line) (text []byte, joined int) {
	slices.SortFunc(lines, func(a, b line) int { return a.number - b.number })
	for _, l := range lines {
		text = strconv.AppendInt(text, int64(l.number), 10)
		text = append(append(append(text, ' '), l.id...), '\n')
		if l.joined {
			joined++
		}
	}
	return text, joined
}

// content is what of a row is stored.
func content(at place, row Row) request.Content {
	c := row.Request.content()
	c.By = at.by
	if at.batch != 0 {
		c.Row = row.Number
	}
	return c
}

// firstRecord is what the script writes for a request that was unknown.
func firstRecord(at place, row Row, when time.Time) *request.Record {
	r := &request.Record{
		ApplicationID: row.Request.ApplicationID, State: request.Waiting, Lane: request.Lane(row.Request.Lane),
		Generation: 1, Run: 1, Batch: at.batch, AcceptedAt: when, ChangedAt: when,
		Deadline: !row.Request.NotAfter.IsZero(), Content: content(at, row),
	}
	if row.Request.Lane == Interactive {
		r.State, r.Turn = request.Queued, 1
	}
	return r
}
