package batch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/lua"
	"github.com/kyclink/kyclink/internal/order"
	"github.com/kyclink/kyclink/internal/request"
)

var recountScript = scripts.Script("recount.lua")

// Recount compares a batch's counters with the records of its rows.
type Recount struct {
	Batch   Batch // by its counters
	Counted map[request.State]int
	Joined  int
	// PossibleDuplicates is the sum over the records, which is less than the counter if
	// requests were erased.
	PossibleDuplicates int
}

// Differences returns, for each counter that is wrong, by how much it exceeds the count.
// Erased requests are not compared, since they cannot be counted: their rows may still
// exist, their ids may belong to another batch by now, and the rows of joined and repeated
// ids are erased as well.
func (c Recount) Differences() map[string]int {
	differs := map[string]int{}
	add := func(what string, more int) {
		if more != 0 {
			differs[what] = more
		}
	}
	for _, state := range request.States {
		add(string(state), c.Batch.Counts[state]-c.Counted[state])
	}
	add("joined", c.Batch.Joined-c.Joined)
	if more := c.Batch.PossibleDuplicates - c.PossibleDuplicates; c.Batch.Counts[Erased] == 0 || more < 0 {
		add("possible_duplicates", more)
	}
	return differs
}

// maxRecounts is how often a batch that changes is counted.
const maxRecounts = 5

// ErrChanging says that a batch changes faster than it can be counted.
var ErrChanging = errors.New("the batch changes faster than it can be counted: rows are being imported, or many requests retried or cancelled; check it again later")

// Recount counts a batch's rows page by page, and compares the result with its counters.
// Requests that change state meanwhile are read again, the last of them in the same step as
// the counters. Only a difference that is found twice is reported.
func (s *Store) Recount(ctx context.Context, batch int) (c Recount, err error) {
	var before map[string]int
	for round := range maxRecounts {
		n := recount{Store: s, batch: batch, seed: maphash.MakeSeed()}
		if c, err = n.run(ctx); errors.Is(err, ErrChanging) {
			continue
		}
		if err != nil {
			return c, err
		}
		differs := c.Differences()
		if len(differs) == 0 || round > 0 && before != nil && maps.Equal(differs, before) {
			return c, nil
		}
		before = differs
	}
	return c, ErrChanging
}

// countedRequest is one request of a batch, in 16 bytes, since a batch may have a million.
type countedRequest struct {
	id    uint64 // hash of the application id
	dups  uint32 // possible duplicates of all generations
	state uint8  // 1 + the index in [request.States]; 0: no record, or one of another batch
}

// recount is one count of a batch.
type recount struct {
	*Store
	batch        int
	seed         maphash.Seed
	rows         []countedRequest // by id, each once
	joined       int
	ordered      bool      // it has its order: that of a forgotten batch is dropped
	lastEvent    string    // the last event that is known
	movedAfter   time.Time // by Redis' clock: what moved before that is known
	requeuedRead bool      // all that is to be fed again is known
}

func (n *recount) run(ctx context.Context) (Recount, error) {
	var err error
	if n.lastEvent, err = n.readLastEvent(ctx); err != nil {
		return Recount{}, err
	}
	if n.movedAfter, err = n.keys.Clock(ctx, n.rdb).Time(); err != nil {
		return Recount{}, err
	}
	if err := n.readRows(ctx); err != nil {
		return Recount{}, err
	}
	var moving []string
	for range 5 { // each pass takes less time, so that fewer requests move
		if moving, err = n.movedIDs(ctx); err != nil {
			return Recount{}, err
		}
		if err := n.reread(ctx, moving); err != nil {
			return Recount{}, err
		}
	}
	if len(moving) > maxFinalRequests {
		return Recount{}, ErrChanging
	}
	b, err := n.finish(ctx, moving)
	if err != nil {
		return Recount{}, err
	}
	c := Recount{Batch: b, Counted: map[request.State]int{}, Joined: n.joined}
	if !n.ordered {
		c.Joined = b.Joined
	}
	for _, r := range n.rows {
		if r.state > 0 {
			c.Counted[request.States[r.state-1]]++
			c.PossibleDuplicates += int(r.dups)
		}
	}
	return c, nil
}

// readRows reads every row. Rows that repeat an id count once.
func (n *recount) readRows(ctx context.Context) error {
	for chunks, err := range n.Chunks(ctx, n.batch) {
		if err != nil {
			return err
		}
		n.ordered = true
		var ids []string
		for _, c := range chunks {
			var joined int
			if _, err := fmt.Sscan(c.Text, &joined); err != nil {
				return fmt.Errorf("read batch %d: chunk %d has no number of joined rows", n.batch, c.Number)
			}
			n.joined += joined
			for _, row := range order.ParseChunk(c.Text) {
				if row.ApplicationID != "" {
					ids = append(ids, row.ApplicationID)
				}
			}
		}
		rows, err := n.read(ctx, ids)
		if err != nil {
			return err
		}
		n.rows = append(n.rows, rows...)
	}
	slices.SortFunc(n.rows, func(a, b countedRequest) int { return cmp.Compare(a.id, b.id) })
	n.rows = slices.CompactFunc(n.rows, func(a, b countedRequest) bool { return a.id == b.id })
	return nil
}

func (n *recount) hash(id string) uint64 { return maphash.String(n.seed, id) }

// read reads the present state of requests.
func (n *recount) read(ctx context.Context, ids []string) ([]countedRequest, error) {
	headers := make([]*redis.StringCmd, len(ids))
	if _, err := n.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, id := range ids {
			headers[i] = pipe.GetRange(ctx, n.keys.Record(id), 0, request.HeaderLen-1)
		}
		return nil
	}); err != nil && len(ids) > 0 {
		return nil, fmt.Errorf("read %d requests: %w", len(ids), err)
	}
	texts := make([]string, len(headers))
	for i, header := range headers {
		texts[i] = header.Val()
	}
	return n.parseHeaders(ctx, ids, texts)
}

func (n *recount) parseHeaders(ctx context.Context, ids, headers []string) ([]countedRequest, error) {
	rows := make([]countedRequest, len(ids))
	for i, id := range ids {
		rows[i].id = n.hash(id)
		if headers[i] == "" {
			continue
		}
		r, err := request.Peek(id, []byte(headers[i]))
		if err != nil {
			return nil, err
		}
		if r.Batch != n.batch {
			continue
		}
		rows[i].state = uint8(1 + slices.Index(request.States[:], r.State)) //nolint:gosec // there are seven
		rows[i].dups = uint32(r.PossibleDuplicates)                         //nolint:gosec // four digits
		for generation := 1; generation < r.Generation; generation++ {
			old, err := n.rdb.GetRange(ctx, n.keys.Old(id, generation), 0, request.HeaderLen-1).Result()
			if err != nil {
				return nil, fmt.Errorf("read generation %d of %s: %w", generation, id, err)
			}
			if r, err := request.Peek(id, []byte(old)); err == nil { // else it does not exist
				rows[i].dups += uint32(r.PossibleDuplicates) //nolint:gosec // four digits
			}
		}
	}
	return rows, nil
}

// update stores the present state of a request, if it is one of the batch's rows.
func (n *recount) update(now countedRequest) {
	if i, found := n.find(now.id); found {
		n.rows[i] = now
	}
}

func (n *recount) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(n.rows, id, func(r countedRequest, id uint64) int { return cmp.Compare(r.id, id) })
}

func (n *recount) reread(ctx context.Context, ids []string) error {
	for page := range slices.Chunk(ids, pageSize) {
		rows, err := n.read(ctx, page)
		if err != nil {
			return err
		}
		for _, r := range rows {
			n.update(r)
		}
	}
	return nil
}

func (n *recount) readLastEvent(ctx context.Context) (string, error) {
	last, err := n.rdb.XRevRangeN(ctx, n.keys.Results(), "+", "-", 1).Result()
	if err != nil {
		return "", fmt.Errorf("read the latest event: %w", err)
	}
	if len(last) == 0 {
		return "0-0", nil
	}
	return last[0].ID, nil
}

func (n *recount) movedIDs(ctx context.Context) ([]string, error) {
	s, err := n.readMovedSets(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the requests that moved: %w", err)
	}
	return s.ids(), nil
}

// finish reads the requests that moved last in the same step as the counters.
func (n *recount) finish(ctx context.Context, moving []string) (Batch, error) {
	reply, err := recountScript.Run(ctx, n.rdb, []string{n.keys.Tag()}, lua.Args{
		"batch": n.batch, "last_event": n.lastEvent, "ends": requeuedEnd, "max": movedPage,
		"due_from": n.movedAfter.UnixMilli(), "due_until": n.movedAfter.Add(dueSoon).UnixMilli(),
	}, lua.Column("id", moving)).Slice()
	if err != nil {
		return Batch{}, fmt.Errorf("read batch %d: %w", n.batch, err)
	}
	if len(reply) == 0 {
		return Batch{}, ErrChanging
	}
	hash := map[string]string{}
	for pair := range slices.Chunk(reply[0].([]any), 2) {
		hash[pair[0].(string)] = pair[1].(string)
	}
	var ids, headers []string
	for pair := range slices.Chunk(reply[1:], 2) {
		ids, headers = append(ids, pair[0].(string)), append(headers, pair[1].(string))
	}
	rows, err := n.parseHeaders(ctx, ids, headers)
	if err != nil {
		return Batch{}, err
	}
	for _, r := range rows {
		n.update(r)
	}
	return parseBatch(n.batch, hash)
}
