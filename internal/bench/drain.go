package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/tasks"
)

// drainSlots is the concurrency of both sides of the comparison.
const drainSlots = 32

func drains() []scenario {
	return []scenario{
		{"drain", "1 process, FaceKi answers immediately, no rate limit; compared with bare asynq", true, 10 * time.Second, 4 * time.Minute, drain},
		{"drain-slow", "the same, but FaceKi answers after 50 ms, which limits both to 640/s", true, 25 * time.Second, 4 * time.Minute, drainSlow},
		{"trips", "client round trips per link, including asynq's polling and the import", false, 10 * time.Second, 3 * time.Minute, trips},
	}
}

// work is the result of draining a backlog.
type work struct {
	perSecond float64       // links per second
	cpu       time.Duration // processor time per thousand links
	redis     time.Duration // the same of Redis
	commands  float64       // of Redis per link, with those in scripts
	scripts   float64       // script calls per link
	write     time.Duration // processor time of Redis for a thousand more writes
}

func drain(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 4000, 10_000, 50_000)
	ours, servers, scripts, err := drainOurs(ctx, b, simulator.Config{}, n)
	if err != nil {
		return nil, err
	}
	bare, err := drainBare(ctx, b, simulator.Config{}, n, 1)
	if err != nil {
		return nil, err
	}
	same := bare
	if servers > 1 {
		if same, err = drainBare(ctx, b, simulator.Config{}, n, servers); err != nil {
			return nil, err
		}
	}
	return append([]figure{
		atLeast("links", "1/s", ours.perSecond, 1).against(bare.perSecond),
		info("links, bare asynq with as many servers", "1/s", ours.perSecond).against(same.perSecond),
		info("asynq servers of the lane", "", float64(servers)),
		atMost("processor time for 1,000 links", "s", ours.cpu.Seconds(), 0.9).against(bare.cpu.Seconds()),
		atMost("processor time of Redis for 1,000 links", "s", ours.redis.Seconds(), 1.7).against(bare.redis.Seconds()),
		info("commands in Redis per link, with those in scripts", "", ours.commands),
		info("script calls per link", "", ours.scripts),
		info("one more write for each link, processor time of Redis", "µs", microseconds(ours.write)/1000),
		atMost("one more write for each link, share of Redis' processor time", "%", 100*ours.write.Seconds()/ours.redis.Seconds(), 2),
	}, scripts...), nil
}

// drainSlow compares both sides when they mostly wait. They have the same concurrency, so
// that a handler that is late for its next call makes fewer links.
func drainSlow(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 2000, 5000, 20_000)
	ours, _, _, err := drainOurs(ctx, b, answering(), n)
	if err != nil {
		return nil, err
	}
	bare, err := drainBare(ctx, b, answering(), n, 1)
	return []figure{
		atLeast("links", "1/s", ours.perSecond, 1).against(bare.perSecond),
		info("processor time for 1,000 links", "s", ours.cpu.Seconds()).against(bare.cpu.Seconds()),
		info("processor time of Redis for 1,000 links", "s", ours.redis.Seconds()).against(bare.redis.Seconds()),
	}, err
}

func drainOurs(ctx context.Context, b *suite, cfg simulator.Config, n int) (w work, servers int, scripts []figure, err error) {
	r, err := b.open(cfg)
	if err != nil {
		return w, 0, nil, err
	}
	defer r.close()
	if err := r.logScripts(ctx); err != nil {
		return w, 0, nil, err
	}
	if err := r.bulk(ctx, r.client, n); err != nil {
		return w, 0, nil, err
	}
	measured, err := r.startMeasuring(ctx)
	if err != nil {
		return w, 0, nil, err
	}
	if err := r.workers(1, settings("100000/s", 1000, drainSlots)...); err != nil {
		return w, 0, nil, err
	}
	if err := r.waitForCalls(ctx, n/2); err != nil {
		return w, 0, nil, err
	}
	if servers, err = laneServers(r.rdb, "kyclink:default:bulk"); err != nil {
		return w, 0, nil, err
	}
	if err := r.waitForEnds(ctx); err != nil {
		return w, 0, nil, err
	}
	if r.outcomes.failed > 0 {
		return w, 0, nil, fmt.Errorf("%d requests failed: %s", r.outcomes.failed, r.outcomes.why)
	}
	if w, err = r.measureWork(ctx, measured, n); err != nil {
		return w, 0, nil, err
	}
	if scripts, err = r.scripts(ctx); err != nil {
		return w, 0, nil, err
	}
	w.write, err = r.costOfWrites(ctx)
	return w, servers, scripts, err
}

// startMeasuring resets the counters of Redis, and returns the processor time that it has used.
func (r *rig) startMeasuring(ctx context.Context) (time.Duration, error) {
	text, err := r.rdb.Info(ctx, "cpu").Result()
	if err == nil {
		err = r.rdb.ConfigResetStat(ctx).Err()
	}
	return sumOfProcessorTimes(text), err
}

// measureWork measures the rate in the middle of the run, and the processor time of the
// whole process and of Redis since it had used some.
func (r *rig) measureWork(ctx context.Context, redisBefore time.Duration, n int) (work, error) {
	text, err := r.rdb.Info(ctx, "cpu", "commandstats").Result()
	if err != nil {
		return work{}, err
	}
	if err := r.processes[0].Stop(time.Minute); err != nil {
		return work{}, err
	}
	at := times(r.upstream.calls())
	from, to := at[len(at)/10], at[len(at)*9/10]
	w := work{
		perSecond: float64(between(at, from, to)) / to.Sub(from).Seconds(),
		cpu:       cpuOf(r.processes[0]) * 1000 / time.Duration(n),
		redis:     (sumOfProcessorTimes(text) - redisBefore) * 1000 / time.Duration(n),
	}
	for _, found := range statOfCommand.FindAllStringSubmatch(text, -1) {
		calls, _ := strconv.Atoi(found[2]) // they are digits
		w.commands += float64(calls) / float64(n)
		if strings.HasPrefix(found[1], "eval") {
			w.scripts += float64(calls) / float64(n)
		}
	}
	return w, nil
}

// laneServers counts the asynq servers of a queue.
func laneServers(rdb redis.UniversalClient, queue string) (int, error) {
	servers, err := asynq.NewInspectorFromRedisClient(rdb).Servers()
	if err != nil {
		return 0, fmt.Errorf("count asynq's servers: %w", err)
	}
	n := 0
	for _, s := range servers {
		if _, ours := s.Queues[queue]; ours {
			n++
		}
	}
	return n, nil
}

// logScripts has Redis keep what [rig.scripts] reads.
func (r *rig) logScripts(ctx context.Context) error {
	// With a lower threshold, commands within scripts are logged, too, which slows them down.
	const slow = 3 * time.Millisecond
	for setting, value := range map[string]string{
		"slowlog-log-slower-than": strconv.FormatInt(slow.Microseconds(), 10), "slowlog-max-len": "100000",
		"latency-tracking-info-percentiles": "99.9",
	} {
		if err := r.rdb.ConfigSet(ctx, setting, value).Err(); err != nil {
			return err
		}
	}
	return r.rdb.SlowLogReset(ctx).Err()
}

// scripts returns how long scripts blocked Redis: those of kyclink and of asynq.
func (r *rig) scripts(ctx context.Context) ([]figure, error) {
	stats, err := r.rdb.Info(ctx, "latencystats").Result()
	if err != nil {
		return nil, err
	}
	most, err := parseP999(stats)
	if err != nil {
		return nil, err
	}
	log, err := r.rdb.SlowLogGet(ctx, -1).Result()
	if err != nil {
		return nil, err
	}
	longest := most
	for _, entry := range log {
		if len(entry.Args) > 0 && strings.HasPrefix(strings.ToLower(entry.Args[0]), "eval") {
			longest = max(longest, entry.Duration)
		}
	}
	return []figure{
		atMost("scripts in Redis, p99.9", "ms", milliseconds(most), 5),
		info("scripts in Redis, longest", "ms", milliseconds(longest)),
	}, nil
}

var latencyOfScripts = regexp.MustCompile(`latency_percentiles_usec_evalsha:p99\.9=([0-9.]+)`)

// parseP999 parses INFO latencystats.
func parseP999(stats string) (time.Duration, error) {
	found := latencyOfScripts.FindStringSubmatch(stats)
	if found == nil {
		return 0, fmt.Errorf("no latency of EVALSHA in %q", stats)
	}
	us, err := strconv.ParseFloat(found[1], 64)
	return time.Duration(us * float64(time.Microsecond)), err
}

func trips(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 2000, 5000, 20_000)
	bulk, err := countTrips(ctx, b, n, func(r *rig, client *tasks.Client) error { return r.bulk(ctx, client, n) })
	if err != nil {
		return nil, err
	}
	interactive, err := countTrips(ctx, b, n, func(r *rig, client *tasks.Client) error { return r.interactive(ctx, client, n) })
	return []figure{
		atMost("bulk", "", bulk, 2.5),
		atMost("interactive", "", interactive, 5),
	}, err
}

// countTrips counts the round trips per link, from accepting to recording.
func countTrips(ctx context.Context, b *suite, n int, accept func(*rig, *tasks.Client) error) (float64, error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return 0, err
	}
	defer r.close()
	c, err := startCounter(r.server.Addr)
	if err != nil {
		return 0, err
	}
	defer c.close()
	rdb := redis.NewClient(&redis.Options{Addr: c.addr()})
	defer func() { _ = rdb.Close() }()
	if err := accept(r, tasks.NewClient(rdb, tasks.Config{})); err != nil {
		return 0, err
	}
	if err := r.workersAt("redis://"+c.addr()+"/0", 1, settings("100000/s", 1000, drainSlots)...); err != nil {
		return 0, err
	}
	if err := r.waitForEnds(ctx); err != nil {
		return 0, err
	}
	return float64(c.trips.Load()) / float64(n), nil
}

// interactive enqueues n interactive requests concurrently.
func (r *rig) interactive(ctx context.Context, client *tasks.Client, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for row := range requests(r.accepted, n) {
		group.Go(func() error {
			_, err := client.Enqueue(ctx, row.Request)
			return err
		})
	}
	r.accepted += n
	return group.Wait()
}
