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

// evidence is the input of all checks. It is gathered after all processes have stopped.
type evidence struct {
	generator   generator
	requested   map[string]history
	records     map[string][]request.Record // all generations, latest first
	events      []timedEvent
	issued      map[string]simulator.Application
	calls       []simulator.Call
	batches     map[int]batchCounts
	leftovers   []string      // work that should not exist any more
	limit       limit         // of FaceKi's account
	delay       time.Duration // maximum delay with which an arrival is recorded
	problems    []string      // found while the run was in progress
	crashes     []crash
	injected    map[string]int
	received    map[string]time.Time   // events by the callback receiver
	entries     map[string]intakeEntry // added to the intake stream
	rejected    map[string]bool        // intake entries
	apiLinks    []apiLink              // links in answers of the API
	disruptions *disruptions
	losesWrites bool // Redis may have lost acknowledged writes, which is counted and not a violation
}

// timedEvent is an event and the time when Redis stored it.
type timedEvent struct {
	at time.Time
	tasks.Event
	inexact bool // Redis' clock may have been wrong
}

// batchCounts is the name and the stored counters of a batch.
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
		generator: r.generator, requested: map[string]history{}, issued: map[string]simulator.Application{},
		limit: limit{r.cfg.rate, r.cfg.burst}, delay: r.stall.Longest(), crashes: r.fleet.crashes,
		losesWrites: r.store.losesWrites(), disruptions: r.store.disruptions(),
	}
	for _, id := range r.journal.all() {
		e.requested[id] = *r.journal.histories[id]
		e.issued[id] = r.upstream.Application(id)
	}
	e.calls = r.upstream.Calls(0, r.upstream.State().LinkCalls).Calls
	e.problems = slices.Concat(r.journal.problems, r.upstream.problems)
	if n := r.upstream.State().RedirectsFollowed; n > 0 {
		e.problems = append(e.problems, fmt.Sprintf("%d redirects were followed, which may leak the token", n))
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
	e.received, e.entries, e.apiLinks = r.receiver.received, r.entries.all, r.journal.apiLinks
	e.problems = append(e.problems, r.receiver.problems...)
	e.leftovers, err = r.leftovers(ctx)
	return e, err
}

// scanKeys returns all keys that match a pattern, from all masters.
func (r *rig) scanKeys(ctx context.Context, pattern string) ([]string, error) {
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

// records reads all records, including those of unknown ids.
func (r *rig) records(ctx context.Context) (map[string][]request.Record, error) {
	latest, err := r.scanKeys(ctx, r.keys.Tag()+"/*")
	if err != nil {
		return nil, err
	}
	old, err := r.scanKeys(ctx, r.keys.Tag()+":old:*")
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
				id := strings.TrimPrefix(key, r.keys.Tag()+"/")
				if rest, isOld := strings.CutPrefix(key, r.keys.Tag()+":old:"); isOld {
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

func (r *rig) events(ctx context.Context) ([]timedEvent, error) {
	const page = 5000
	var all []timedEvent
	for from := "-"; ; {
		entries, err := r.rdb.XRangeN(ctx, r.keys.Results(), from, "+", page).Result()
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
			all = append(all, r.timed(time.UnixMilli(ms), event))
		}
		if len(entries) < page {
			return all, nil
		}
	}
}

// timed returns an event with the time of its stream entry. The time of stream entries never
// decreases, so if the clock was set back, the timestamp of the event is more accurate.
func (r *rig) timed(at time.Time, event tasks.Event) timedEvent {
	disruptions := r.store.disruptions()
	if disruptions.clockShifted() {
		at = event.Timestamp.Add(time.Second) // it is truncated to a second
	}
	return timedEvent{at, event, disruptions.clockShiftedAt(event.Timestamp)}
}

func (r *rig) batches(ctx context.Context) (map[int]batchCounts, error) {
	names, err := r.rdb.HGetAll(ctx, r.keys.Batches()).Result()
	if err != nil {
		return nil, err
	}
	names[""] = "0" // requests without a batch
	all := map[int]batchCounts{}
	for name, text := range names {
		number, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		values, err := r.rdb.HGetAll(ctx, r.keys.Batch(number)).Result()
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

// leftovers describes what must not exist after all requests have ended: asynq tasks, and
// members of the sets of requests in progress.
func (r *rig) leftovers(ctx context.Context) ([]string, error) {
	var leftovers []string
	for _, lane := range []request.Lane{request.Interactive, request.Bulk, request.Bundles} {
		tasks, err := r.scanKeys(ctx, "asynq:{"+r.keys.Queue(lane)+"}:t:*")
		if err != nil {
			return nil, err
		}
		for _, key := range tasks {
			state, err := r.rdb.HGet(ctx, key, "state").Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return nil, err
			}
			if err == nil {
				leftovers = append(leftovers, fmt.Sprintf("the task %s is %s", key, state))
			}
		}
		for _, set := range []string{"pending", "active", "scheduled", "retry", "archived", "completed", "lease"} {
			if leftovers, err = r.appendMembers(ctx, leftovers, "asynq:{"+r.keys.Queue(lane)+"}:"+set); err != nil {
				return nil, err
			}
		}
		// Turns that wait for admission expire by themselves, so they are not checked.
		if leftovers, err = r.appendMembers(ctx, leftovers, r.keys.Queued(lane)); err != nil {
			return nil, err
		}
	}
	entries, err := r.unsettled(ctx)
	if err != nil {
		return nil, err
	}
	leftovers = append(leftovers, entries...)
	for _, key := range []string{r.keys.Pending(), r.keys.Tag() + ":calls", r.keys.Deadlines(), r.keys.Running()} {
		if leftovers, err = r.appendMembers(ctx, leftovers, key); err != nil {
			return nil, err
		}
	}
	return leftovers, nil
}

// appendMembers appends a description of the members of a list or sorted set.
func (r *rig) appendMembers(ctx context.Context, leftovers []string, key string) ([]string, error) {
	const limit = 5
	kind, err := r.rdb.Type(ctx, key).Result()
	if err != nil {
		return leftovers, err
	}
	var some []string
	switch kind {
	case "list":
		some, err = r.rdb.LRange(ctx, key, 0, limit-1).Result()
	case "zset":
		some, err = r.rdb.ZRange(ctx, key, 0, limit-1).Result()
	}
	if err == nil && len(some) > 0 {
		leftovers = append(leftovers, fmt.Sprintf("%s still contains %s", key, strings.Join(some, ", ")))
	}
	return leftovers, err
}

func sortedIDs[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
