package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/redistest"
	"github.com/kyclink/kyclink/internal/stall"
	"github.com/kyclink/kyclink/tasks"
)

// results is the key of the results stream.
const results = "{kyclink:default}:results"

// rig holds the Redis, the upstream and the processes of one repetition of a scenario, all
// on loopback. It is not safe for concurrent use.
type rig struct {
	suite     *suite
	server    *redistest.Server
	rdb       *redis.Client
	client    *tasks.Client
	upstream  *upstream
	stall     *stall.Watch
	processes []*child.Process
	dir       string
	accepted  int
	signedUp  int
	outcomes  outcomes
	unread    string // start of the unread results
}

// open starts Redis and the upstream. The caller calls close.
func (b *suite) open(cfg simulator.Config) (_ *rig, err error) {
	r := &rig{suite: b, unread: "-", stall: stall.New()}
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

// close stops everything that the rig started.
func (r *rig) close() {
	for _, p := range r.processes {
		p.Kill()
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

// loaded opens a rig with n waiting requests and a number of workers with the given
// settings. The caller calls close.
func (b *suite) loaded(ctx context.Context, cfg simulator.Config, n, workers int, settings ...string) (*rig, error) {
	r, err := b.open(cfg)
	if err != nil {
		return nil, err
	}
	if err = r.bulk(ctx, r.client, n); err == nil {
		err = r.workers(workers, settings...)
	}
	if err != nil {
		r.close()
	}
	return r, err
}

// run starts a program with only the given settings in its environment.
func (r *rig) run(program string, settings []string, args ...string) error {
	p, err := child.Start(filepath.Join(r.dir, fmt.Sprintf("%d.log", len(r.processes))), settings, program, args...)
	if err == nil {
		r.processes = append(r.processes, p)
	}
	return err
}

// last returns the process that was started last.
func (r *rig) last() *child.Process { return r.processes[len(r.processes)-1] }

// alive returns an error if a process has ended unexpectedly.
func (r *rig) alive() error {
	for _, p := range r.processes {
		if p.State() != nil && !p.Sent(syscall.SIGTERM, syscall.SIGKILL) {
			return fmt.Errorf("a process ended unexpectedly (%s); %s", p.State(), p.Tail())
		}
	}
	return nil
}

// cpuOf returns the processor time of a process that has ended.
func cpuOf(p *child.Process) time.Duration { return p.State().UserTime() + p.State().SystemTime() }

// workers starts n workers with the given settings and those of the rig.
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

// bulk enqueues n more requests of a batch.
func (r *rig) bulk(ctx context.Context, client *tasks.Client, n int) error {
	var refused error
	err := client.EnqueueAll(ctx, tasks.Batch{Name: "bench"}, asSource(requests(r.accepted, n)), func(result tasks.Result) {
		if result.Err != nil && refused == nil {
			refused = fmt.Errorf("row %d was not accepted: %w", result.Row.Number, result.Err)
		}
	})
	r.accepted += n
	return errors.Join(err, refused)
}

func requests(after, n int) iter.Seq[tasks.Row] {
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

// asSource returns rows as a source without errors.
func asSource(rows iter.Seq[tasks.Row]) iter.Seq2[tasks.Row, error] {
	return func(yield func(tasks.Row, error) bool) {
		for row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// outcomes counts the requests that have ended.
type outcomes struct {
	created, failed int
	why             string // data of the first failure
}

// countEvents counts the new events.
func (r *rig) countEvents(ctx context.Context) (outcomes, error) {
	const page = 5000
	for {
		entries, err := r.rdb.XRangeN(ctx, results, r.unread, "+", page).Result()
		if err != nil {
			return r.outcomes, fmt.Errorf("read the results stream: %w", err)
		}
		for _, e := range entries {
			r.unread = "(" + e.ID
			switch e.Values["type"] {
			case "link.created":
				r.outcomes.created++
			case "link.failed":
				if r.outcomes.failed++; r.outcomes.why == "" {
					r.outcomes.why = fmt.Sprint(e.Values["data"])
				}
			}
		}
		if len(entries) < page {
			return r.outcomes, nil
		}
	}
}

// waitUntil waits for a condition. It fails if ctx ends or a process ends unexpectedly.
func (r *rig) waitUntil(ctx context.Context, what string, condition func() bool) error {
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

// stuck returns an error with the progress so far and the end of a log.
func (r *rig) stuck(what string, why error) error {
	state := r.upstream.State()
	err := fmt.Errorf("wait until %s: %d calls and %d links so far: %w", what, state.LinkCalls, state.Links, why)
	if errors.Is(why, context.Canceled) || len(r.processes) == 0 {
		return err
	}
	return fmt.Errorf("%w; %s", err, r.last().Tail())
}

// sleep waits, and fails if a process ends unexpectedly.
func (r *rig) sleep(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	return r.waitUntil(ctx, fmt.Sprintf("%v have passed", d), func() bool { return !time.Now().Before(end) })
}

// waitForCalls waits until n calls have arrived.
func (r *rig) waitForCalls(ctx context.Context, n int) error {
	return r.waitUntil(ctx, fmt.Sprintf("%d calls have arrived", n), func() bool { return r.upstream.State().LinkCalls >= n })
}

// waitForEnds waits until all accepted requests have ended.
func (r *rig) waitForEnds(ctx context.Context) error {
	links := func() bool { return r.upstream.State().Links >= r.accepted }
	if err := r.waitUntil(ctx, fmt.Sprintf("%d links are made", r.accepted), links); err != nil {
		return err
	}
	var err error
	recorded := func() bool {
		_, err = r.countEvents(ctx)
		return err != nil || r.outcomes.created+r.outcomes.failed >= r.accepted
	}
	return errors.Join(r.waitUntil(ctx, fmt.Sprintf("%d requests have ended", r.accepted), recorded), err)
}

// drained waits until all accepted requests have ended. It returns the times of the calls, and
// the part in which the rate was steady.
func (r *rig) drained(ctx context.Context) (at []time.Time, from, to time.Time, err error) {
	if err = r.waitForEnds(ctx); err != nil {
		return nil, from, to, err
	}
	at = times(r.upstream.calls())
	from, to, err = steady(at, 3*time.Second)
	return at, from, to, err
}

// promiseFigures returns the figures of every scenario: no failed request, and no window over
// the limit.
func (r *rig) promiseFigures(ctx context.Context, l limit) ([]figure, error) {
	ended, err := r.countEvents(ctx)
	if err != nil {
		return nil, err
	}
	if ended.failed > 0 {
		r.suite.note("first failed request: %s", ended.why)
	}
	at := times(r.upstream.calls())
	if len(at) == 0 {
		return nil, errTooFew
	}
	worst := l.worst(at)
	if worst > 0 {
		r.suite.note("arrivals were recorded up to %v late", r.stall.Longest().Round(time.Millisecond))
	}
	return []figure{
		must(atMost("failed requests", "", float64(ended.failed), 0)),
		must(atMost("calls over the limit in the fullest window", "", worst, 0)),
	}, nil
}
