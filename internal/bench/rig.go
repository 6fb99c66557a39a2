package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/stall"
	"github.com/kyclink/kyclink/tasks"
)

// results is the stream of events of the account that every rig uses.
const results = "{kyclink:default}:results"

// rig is what one repetition of a scenario runs on: a Redis, an upstream and
// worker processes of its own, all on loopback. It is for one goroutine.
type rig struct {
	suite     *suite
	server    *redistest.Server
	rdb       *redis.Client
	client    *tasks.Client
	upstream  *upstream
	stall     *stall.Watch
	processes []*process
	dir       string
	accepted  int
	ended     ends
	last      string // event read
}

// open starts Redis and the upstream. Whoever calls it calls close.
func (b *suite) open(cfg simulator.Config) (_ *rig, err error) {
	r := &rig{suite: b, last: "-", stall: stall.New()}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.dir, err = os.MkdirTemp("", "kyclink-bench-"); err != nil {
		return nil, err
	}
	if r.server, err = redistest.Launch(); err != nil {
		return nil, err
	}
	if r.upstream, err = openUpstream(cfg); err != nil {
		return nil, err
	}
	r.rdb = redis.NewClient(&redis.Options{Addr: r.server.Addr})
	r.client = tasks.NewClient(r.rdb, tasks.Config{})
	return r, nil
}

// close ends everything that the rig started.
func (r *rig) close() {
	for _, p := range r.processes {
		p.kill()
	}
	r.stall.Close()
	if r.rdb != nil {
		_ = r.rdb.Close()
	}
	if r.upstream != nil {
		r.upstream.refuse()
	}
	if r.server != nil {
		r.server.Close()
	}
	_ = os.RemoveAll(r.dir)
}

// workers starts that many `kyclink worker` with these settings besides those
// that name the rig.
func (r *rig) workers(n int, settings ...string) error {
	return r.workersAt(r.server.URL, n, settings...)
}

func (r *rig) workersAt(redisURL string, n int, settings ...string) error {
	settings = append([]string{"KYCLINK_REDIS_URL=" + redisURL, "FACEKI_BASE_URL=" + r.upstream.url(), "KYCLINK_LOG_FORMAT=json"}, settings...)
	for range n {
		if err := r.run(r.suite.kyclink, settings, "worker", "--simulate"); err != nil {
			return err
		}
	}
	return nil
}

// bulk accepts n more requests of one batch through a client.
func (r *rig) bulk(ctx context.Context, client *tasks.Client, n int) error {
	var refused error
	err := client.EnqueueAll(ctx, tasks.Batch{Name: "bench"}, read(people(r.accepted, n)), func(result tasks.Result) {
		if result.Err != nil && refused == nil {
			refused = fmt.Errorf("row %d was not accepted: %w", result.Row.Number, result.Err)
		}
	})
	r.accepted += n
	return errors.Join(err, refused)
}

func people(after, n int) iter.Seq[tasks.Row] {
	return func(yield func(tasks.Row) bool) {
		for number := after + 1; number <= after+n; number++ {
			row := tasks.Row{Number: number, Request: tasks.Request{
				ApplicationID: fmt.Sprintf("B-%07d", number), RedirectURL: "https://shop.example/done"}}
			if !yield(row) {
				return
			}
		}
	}
}

// read gives rows as a source that never fails.
func read(rows iter.Seq[tasks.Row]) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// ends counts the events so far.
type ends struct {
	created, failed int
	why             string // the first that failed
}

// read counts the events since the last time.
func (r *rig) read(ctx context.Context) (ends, error) {
	const page = 5000
	for {
		entries, err := r.rdb.XRangeN(ctx, results, r.last, "+", page).Result()
		if err != nil {
			return r.ended, fmt.Errorf("read the results stream: %w", err)
		}
		for _, e := range entries {
			r.last = "(" + e.ID
			switch e.Values["type"] {
			case "link.created":
				r.ended.created++
			case "link.failed":
				if r.ended.failed++; r.ended.why == "" {
					r.ended.why = fmt.Sprint(e.Values["data"])
				}
			}
		}
		if len(entries) < page {
			return r.ended, nil
		}
	}
}

// until waits for a condition. It fails where ctx ends or a process does by
// itself.
func (r *rig) until(ctx context.Context, what string, condition func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if err := r.alive(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return r.stuck(what, context.Cause(ctx))
		case <-tick.C:
		}
	}
	return nil
}

// stuck says how far it came, and what a worker said last.
func (r *rig) stuck(what string, why error) error {
	state := r.upstream.State()
	err := fmt.Errorf("waiting until %s, with %d calls and %d links so far: %w", what, state.LinkCalls, state.Links, why)
	if errors.Is(why, context.Canceled) || len(r.processes) == 0 {
		return err
	}
	return fmt.Errorf("%w; the end of a process' log:\n%s", err, r.processes[len(r.processes)-1].tail())
}

// pass lets time go by.
func (r *rig) pass(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return r.until(ctx, fmt.Sprintf("%v have passed", d), func() bool { return !time.Now().Before(end) })
}

// arrivals waits for that many calls.
func (r *rig) arrivals(ctx context.Context, n int) error {
	return r.until(ctx, fmt.Sprintf("%d calls have arrived", n), func() bool { return r.upstream.State().LinkCalls >= n })
}

// done waits until all that was accepted has ended.
func (r *rig) done(ctx context.Context) error {
	links := func() bool { return r.upstream.State().Links >= r.accepted }
	if err := r.until(ctx, fmt.Sprintf("%d links are made", r.accepted), links); err != nil {
		return err
	}
	var err error
	recorded := func() bool {
		_, err = r.read(ctx)
		return err != nil || r.ended.created+r.ended.failed >= r.accepted
	}
	return errors.Join(r.until(ctx, fmt.Sprintf("%d requests have ended", r.accepted), recorded), err)
}

// promises are the figures that every scenario has: no request failed, and no
// window was over the limit.
func (r *rig) promises(ctx context.Context, l limit) ([]figure, error) {
	ended, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	if ended.failed > 0 {
		r.suite.note("the first request that failed: %s", ended.why)
	}
	at := times(r.upstream.calls())
	if len(at) == 0 {
		return nil, errTooFew
	}
	worst := l.worst(at)
	if worst > 0 {
		r.suite.note("this process, which notes arrivals, was up to %v late", r.stall.Longest().Round(time.Millisecond))
	}
	return []figure{
		must(atMost("requests that failed", "", float64(ended.failed), 0)),
		must(atMost("calls over the limit, fullest window", "", worst, 0)),
	}, nil
}
