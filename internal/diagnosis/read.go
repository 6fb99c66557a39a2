package diagnosis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/fleet"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// What a snapshot reads at most, so that it costs the same however much there is.
const (
	mostPaused     = 20  // paused batches
	mostDeliveries = 20  // deliveries that wait for another attempt
	mostGroups     = 50  // groups of the results stream
	mostEvents     = 100 // events that are counted for a group
	mostHeads      = 10  // requests at the head of a lane, of which some may not be readable
)

// Reader reads snapshots of one account. It is safe for concurrent use.
type Reader struct {
	rdb    redis.UniversalClient
	stores *storage.Stores
}

// NewReader returns a reader that uses, and does not close, rdb.
func NewReader(rdb redis.UniversalClient, stores *storage.Stores) *Reader {
	return &Reader{rdb, stores}
}

// Snapshot reads the account, in about ten round trips whose cost does not depend on the
// number of requests.
func (r *Reader) Snapshot(ctx context.Context) (Snapshot, error) {
	status, err := admission.Read(ctx, r.rdb, r.stores.Keys)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Account: r.stores.Keys.Account, Gate: status.Gate, Rate: status.Rate, Calls: status.Calls, Silence: status.Silence}
	for _, n := range status.Lines {
		s.Asking += n
	}
	for _, part := range []func(context.Context, *Snapshot) error{r.counts, r.due, r.server, r.deliveries} {
		if err := part(ctx, &s); err != nil {
			return s, err
		}
	}
	s.Results, err = r.stores.Results.Sample(ctx, mostGroups, mostEvents)
	return s, err
}

// counts reads what can be read without the time.
func (r *Reader) counts(ctx context.Context, s *Snapshot) error {
	keys := r.stores.Keys
	var clock keyspace.Clock
	var state *redis.MapStringStringCmd
	var workers *redis.ZSliceCmd
	n := map[*int]*redis.IntCmd{}
	// Not in a transaction: a full Redis refuses one that has a script.
	_, err := r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = keys.Clock(ctx, pipe)
		state = pipe.HGetAll(ctx, keys.State())
		workers = pipe.ZRangeWithScores(ctx, keys.Workers(), 0, -1)
		n[&s.Interactive.Queued] = pipe.ZCard(ctx, keys.Queued(request.Interactive))
		n[&s.Bulk.Queued] = pipe.ZCard(ctx, keys.Queued(request.Bulk))
		n[&s.Held] = pipe.ZCard(ctx, keys.OperatorList(request.Held))
		n[&s.Failed] = pipe.ZCard(ctx, keys.OperatorList(request.Failed))
		n[&s.Deliveries.Pending] = pipe.ZCard(ctx, keys.Pending())
		n[&s.Deliveries.GivenUp] = pipe.ZCard(ctx, keys.Undelivered())
		n[&s.Quarantined] = pipe.LLen(ctx, keys.Quarantine())
		n[&s.Intake.Entries] = pipe.XLen(ctx, keys.Requests())
		n[&s.Intake.Rejects] = pipe.XLen(ctx, keys.Rejects())
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the account: %w", err)
	}
	if s.At, err = clock.Time(); err != nil {
		return err
	}
	s.At = s.At.UTC()
	for to, cmd := range n {
		*to = int(cmd.Val())
	}
	s.Bulk.Waiting, _ = strconv.Atoi(state.Val()["waiting"]) // absent is 0
	for _, w := range workers.Val() {
		at := time.UnixMilli(int64(w.Score)).UTC()
		if s.At.Sub(at).Abs() <= fleet.DeadAfter {
			s.Workers++
		}
		if at.After(s.LastHeartbeat) {
			s.LastHeartbeat = at
		}
	}
	return r.paused(ctx, s, state.Val())
}

// paused reads the first paused batches, which the account names in its fields. It does so
// until they are resumed, cancelled or deleted, also when all of their requests have ended.
func (r *Reader) paused(ctx context.Context, s *Snapshot, state map[string]string) (err error) {
	var numbers []int
	for field, status := range state {
		number, ok := strings.CutPrefix(field, "batch:")
		if !ok || status != string(batch.Paused) {
			continue
		}
		n, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("read the paused batches: the account has the field %q", field)
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil
	}
	slices.Sort(numbers)
	first := numbers[:min(len(numbers), mostPaused)]
	read, err := r.stores.Batches.Counted(ctx, first)
	s.Paused.First = slices.DeleteFunc(read, func(b batch.Batch) bool { return b.Status != batch.Paused })
	s.Paused.Batches = len(numbers) - len(first) + len(s.Paused.First)
	return err
}

// due reads which queued requests may be called now.
func (r *Reader) due(ctx context.Context, s *Snapshot) error {
	now := strconv.FormatInt(s.At.UnixMilli(), 10)
	for name, lane := range map[request.Lane]*Lane{request.Interactive: &s.Interactive, request.Bulk: &s.Bulk} {
		if lane.Queued == 0 {
			continue
		}
		key := r.stores.Keys.Queued(name)
		var due *redis.IntCmd
		var head *redis.StringSliceCmd
		var next *redis.ZSliceCmd
		_, err := r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			due = pipe.ZCount(ctx, key, "-inf", now)
			head = pipe.ZRange(ctx, key, 0, mostHeads-1)
			next = pipe.ZRangeByScoreWithScores(ctx, key, &redis.ZRangeBy{Min: "(" + now, Max: "+inf", Count: 1})
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the %s lane: %w", name, err)
		}
		lane.Due = int(due.Val())
		if len(next.Val()) > 0 {
			lane.NextDue = time.UnixMilli(int64(next.Val()[0].Score)).UTC()
		}
		if len(head.Val()) == 0 {
			continue
		}
		records, err := r.stores.Records.Headers(ctx, head.Val())
		if err != nil {
			return err
		}
		if len(records) > 0 {
			lane.Oldest = records[0].AcceptedAt.UTC()
		}
	}
	return nil
}

// server reads the state of the Redis server. A server that does not permit INFO is
// described by nothing.
func (r *Reader) server(ctx context.Context, s *Snapshot) error {
	node, err := r.stores.Keys.Node(ctx, r.rdb)
	if err != nil {
		return err
	}
	info, err := node.Info(ctx, "memory", "persistence", "replication").Result()
	if refused := (redis.Error)(nil); errors.As(err, &refused) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the state of Redis: %w", err)
	}
	f := map[string]string{}
	for line := range strings.SplitSeq(info, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			f[name] = value
		}
	}
	s.Redis.Used, _ = strconv.ParseInt(f["used_memory"], 10, 64)
	s.Redis.Max, _ = strconv.ParseInt(f["maxmemory"], 10, 64)
	s.Redis.Evicts = f["maxmemory_policy"] != "noeviction"
	s.Redis.Replica = f["role"] == "slave"
	for _, write := range []string{"aof_last_write_status", "rdb_last_bgsave_status"} {
		if f[write] == "err" {
			s.Redis.WriteError = write + ":err"
			break
		}
	}
	return nil
}

// deliveries reads some of the deliveries that wait for another attempt.
func (r *Reader) deliveries(ctx context.Context, s *Snapshot) error {
	if s.Deliveries.Pending == 0 {
		return nil
	}
	key, now := r.stores.Keys.Pending(), "("+strconv.FormatInt(s.At.UnixMilli(), 10)
	var later *redis.IntCmd
	var events *redis.StringSliceCmd
	_, err := r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		later = pipe.ZCount(ctx, key, now, "+inf")
		events = pipe.ZRangeByScore(ctx, key, &redis.ZRangeBy{Min: now, Max: "+inf", Count: mostDeliveries})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the deliveries: %w", err)
	}
	read, err := r.stores.Deliveries.Readable(ctx, events.Val(), func(string, error) {})
	if err != nil {
		return err
	}
	var last time.Time
	for _, d := range read { // some are attempted for the first time
		if d.Last.At.IsZero() || d.Last.Accepted() {
			continue
		}
		s.Deliveries.Retrying++
		if !d.NextAt.IsZero() && (s.Deliveries.NextAt.IsZero() || d.NextAt.Before(s.Deliveries.NextAt)) {
			s.Deliveries.NextAt = d.NextAt.UTC()
		}
		if d.Last.At.After(last) {
			last, s.Deliveries.Host, s.Deliveries.Message = d.Last.At, d.Host, d.Last.Message
		}
	}
	if n := int(later.Val()); s.Deliveries.Retrying > 0 && n > mostDeliveries {
		s.Deliveries.Retrying = n
	}
	return nil
}

// Request reads what the diagnosis of a request needs.
func (r *Reader) Request(ctx context.Context, s Snapshot, link tasks.Link) (RequestState, error) {
	q := RequestState{Link: link}
	if link.Status.Ended() {
		return q, nil
	}
	if link.Status == tasks.Waiting {
		q.Ahead = s.Bulk.Backlog() - 1
	}
	if link.Status == tasks.Queued {
		if err := r.place(ctx, s, &q); err != nil {
			return q, err
		}
	}
	record, ok, err := r.stores.Records.Get(ctx, link.ApplicationID)
	if err != nil {
		return q, err
	}
	if ok && record.Deadline {
		q.NotAfter = record.Content.NotAfter
	}
	if link.Batch == "" {
		return q, nil
	}
	b, ok, err := r.stores.Batches.ByName(ctx, link.Batch)
	if ok {
		q.Batch = &b
	}
	return q, err
}

// place reads when a queued request is due, and how many come first.
func (r *Reader) place(ctx context.Context, s Snapshot, q *RequestState) error {
	key, id := r.stores.Keys.Queued(request.Lane(q.Link.Lane)), q.Link.ApplicationID
	var at *redis.FloatCmd
	var rank *redis.IntCmd
	_, err := r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		at, rank = pipe.ZScore(ctx, key, id), pipe.ZRank(ctx, key, id)
		return nil
	})
	if errors.Is(err, redis.Nil) { // it is called meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("read when %s is due: %w", id, err)
	}
	q.Ahead = int(rank.Val())
	if due := time.UnixMilli(int64(at.Val())).UTC(); due.After(s.At) && q.Link.Attempts > 0 {
		q.RetryAt = due
	}
	return nil
}
