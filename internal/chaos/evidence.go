package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

// evidence is everything that the checks need, gathered when nothing moves
// any more.
type evidence struct {
	people   people
	asked    map[string]person
	records  map[string][]request.Record // all generations, the latest first
	events   []entry
	issued   map[string]simulator.Application
	calls    []simulator.Call
	batches  map[int]batchCounts
	left     []string      // what should be gone
	limit    limit         // of FaceKi's account
	late     time.Duration // by which a call's arrival may be noted too late
	noticed  []string      // what was found wrong on the way
	crashes  []crash
	injected map[string]int
	taken    map[string]time.Time // events by the receiver of callbacks
	entries  map[string]put       // of the intake stream
	rejected map[string]bool      // entries
	promised []promise            // links that the API answered with
	upset    *upsets
	forgets  bool // Redis may have lost what it acknowledged last: that is counted, and no violation
}

// entry is an event and when Redis took it.
type entry struct {
	at time.Time
	tasks.Event
	vague bool // Redis' clock may have been off then
}

// batchCounts is a batch with the counters that Redis has of it.
type batchCounts struct {
	name   string
	counts map[request.State]int
}

type limit struct {
	perSecond float64
	burst     int
}

func (r *rig) gather(ctx context.Context) (evidence, error) {
	e := evidence{
		people: r.people, asked: map[string]person{}, issued: map[string]simulator.Application{},
		limit: limit{r.cfg.rate, r.cfg.burst}, late: r.stall.Longest(), crashes: r.fleet.crashes,
		forgets: r.store.forgets(), upset: r.store.upsets(),
	}
	for _, id := range r.book.all() {
		e.asked[id] = *r.book.people[id]
		e.issued[id] = r.upstream.Application(id)
	}
	e.calls = r.upstream.Calls(0, r.upstream.State().LinkCalls).Calls
	e.noticed = slices.Concat(r.book.wrong, r.upstream.wrong)
	if n := r.upstream.State().RedirectsFollowed; n > 0 {
		e.noticed = append(e.noticed, fmt.Sprintf("%d redirects were followed, which carries the token away", n))
	}
	var err error
	if e.records, err = r.records(ctx); err != nil {
		return e, err
	}
	if e.events, err = r.events(ctx); err != nil {
		return e, err
	}
	if e.batches, err = r.batches(ctx); err != nil {
		return e, err
	}
	if e.rejected, err = r.rejected(ctx); err != nil {
		return e, err
	}
	e.taken, e.entries, e.promised = r.receiver.taken, r.entries.all, r.book.promised
	e.noticed = append(e.noticed, r.receiver.wrong...)
	e.left, err = r.left(ctx)
	return e, err
}

// keys lists what is stored under a pattern, on whichever server.
func (r *rig) keys(ctx context.Context, pattern string) ([]string, error) {
	scan := func(rdb redis.Cmdable) ([]string, error) {
		var found []string
		iter := rdb.Scan(ctx, 0, pattern, 5000).Iterator()
		for iter.Next(ctx) {
			found = append(found, iter.Val())
		}
		return found, iter.Err()
	}
	cluster, ok := r.rdb.(*redis.ClusterClient)
	if !ok {
		found, err := scan(r.rdb)
		slices.Sort(found)
		return slices.Compact(found), err
	}
	lists := make(chan []string, 100)
	err := cluster.ForEachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		found, err := scan(master)
		lists <- found
		return err
	})
	close(lists)
	var all []string
	for list := range lists {
		all = append(all, list...)
	}
	slices.Sort(all)
	return slices.Compact(all), err
}

// records reads every record that there is, also of ids that nobody asked for.
func (r *rig) records(ctx context.Context) (map[string][]request.Record, error) {
	latest, err := r.keys(ctx, r.tag.Tag()+"/*")
	if err != nil {
		return nil, err
	}
	old, err := r.keys(ctx, r.tag.Tag()+":old:*")
	if err != nil {
		return nil, err
	}
	all := map[string][]request.Record{}
	for _, keys := range [][]string{latest, old} {
		for page := range slices.Chunk(keys, 1000) {
			values := make([]*redis.StringCmd, len(page))
			_, err := r.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for i, key := range page {
					values[i] = pipe.Get(ctx, key)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			for i, key := range page {
				id := strings.TrimPrefix(key, r.tag.Tag()+"/")
				if rest, isOld := strings.CutPrefix(key, r.tag.Tag()+":old:"); isOld {
					_, id, _ = strings.Cut(rest, ":")
				}
				one, err := request.Parse(id, []byte(values[i].Val()))
				if err != nil {
					return nil, err
				}
				all[id] = append(all[id], one)
			}
		}
	}
	for _, generations := range all {
		slices.SortFunc(generations, func(a, b request.Record) int { return b.Generation - a.Generation })
	}
	return all, nil
}

func (r *rig) events(ctx context.Context) ([]entry, error) {
	const page = 5000
	var all []entry
	for from := "-"; ; {
		entries, err := r.rdb.XRangeN(ctx, r.tag.Results(), from, "+", page).Result()
		if err != nil {
			return nil, fmt.Errorf("read the results stream: %w", err)
		}
		for _, raw := range entries {
			from = "(" + raw.ID
			event, err := tasks.ParseEvent(raw.Values)
			if err != nil {
				return nil, err
			}
			text, _, _ := strings.Cut(raw.ID, "-")
			ms, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, err
			}
			all = append(all, r.dated(time.UnixMilli(ms), event))
		}
		if len(entries) < page {
			return all, nil
		}
	}
}

// dated is an event that Redis took at that time, by its clock. Entries of a stream never
// go back: where the clock did, the event's own time is better.
func (r *rig) dated(at time.Time, event tasks.Event) entry {
	upset := r.store.upsets()
	if upset.moved() {
		at = event.Timestamp.Add(time.Second) // it is cut down to one
	}
	return entry{at, event, upset.wrongClock(event.Timestamp)}
}

func (r *rig) batches(ctx context.Context) (map[int]batchCounts, error) {
	names, err := r.rdb.HGetAll(ctx, r.tag.Batches()).Result()
	if err != nil {
		return nil, err
	}
	names[""] = "0" // what is in no batch is counted there
	all := map[int]batchCounts{}
	for name, text := range names {
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		values, err := r.rdb.HGetAll(ctx, r.tag.Batch(number)).Result()
		if err != nil {
			return nil, err
		}
		b := batchCounts{name, map[request.State]int{}}
		for _, state := range request.States {
			n, err := strconv.Atoi(values[string(state)])
			if err != nil && values[string(state)] != "" {
				return nil, err
			}
			b.counts[state] = n
		}
		all[number] = b
	}
	return all, nil
}

// left names what should be gone when all has ended: sets of what is under way,
// and asynq's tasks in whatever state.
func (r *rig) left(ctx context.Context) ([]string, error) {
	var left []string
	for _, lane := range []request.Lane{request.Interactive, request.Bulk} {
		tasks, err := r.keys(ctx, "asynq:{"+r.tag.Queue(lane)+"}:t:*")
		if err != nil {
			return nil, err
		}
		for _, key := range tasks {
			state, err := r.rdb.HGet(ctx, key, "state").Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, err
			}
			if err == nil {
				left = append(left, fmt.Sprintf("the task %s is %s", key, state))
			}
		}
		for _, set := range []string{"pending", "active", "scheduled", "retry", "archived", "completed", "lease"} {
			if left, err = r.holds(ctx, left, "asynq:{"+r.tag.Queue(lane)+"}:"+set); err != nil {
				return nil, err
			}
		}
		// What stands in the line before the rate is stale in a moment, and the
		// next to ask drops it: that is no leftover.
		if left, err = r.holds(ctx, left, r.tag.Queued(lane)); err != nil {
			return nil, err
		}
	}
	entries, err := r.unsettled(ctx)
	if err != nil {
		return nil, err
	}
	left = append(left, entries...)
	for _, key := range []string{r.tag.Pending(), r.tag.Tag() + ":calls", r.tag.Deadlines(), r.tag.Running()} {
		if left, err = r.holds(ctx, left, key); err != nil {
			return nil, err
		}
	}
	return left, nil
}

// holds adds what a list or a sorted set still holds.
func (r *rig) holds(ctx context.Context, left []string, key string) ([]string, error) {
	const few = 5
	kind, err := r.rdb.Type(ctx, key).Result()
	if err != nil {
		return left, err
	}
	var some []string
	switch kind {
	case "list":
		some, err = r.rdb.LRange(ctx, key, 0, few-1).Result()
	case "zset":
		some, err = r.rdb.ZRange(ctx, key, 0, few-1).Result()
	}
	if err == nil && len(some) > 0 {
		left = append(left, fmt.Sprintf("%s still holds %s", key, strings.Join(some, ", ")))
	}
	return left, err
}

func sortedIDs[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
