package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/batch"
	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
	"github.com/kyclink/kyclink/internal/storage"
)

func growths() []scenario {
	return []scenario{
		{"growth", "1 process; the figures with 1,000,000 waiting requests, as kyclink's, and with 10,000, as the baseline; at most a quarter worse counts as flat", false, 110 * time.Second, 10 * time.Minute, growth},
	}
}

// flat is the largest ratio of a cost at many waiting requests to that at few that counts as
// noise. The reciprocal is the smallest of a rate.
const flat = 1.25

func flatCost(name, unit string, value float64) figure { return atMost(name, unit, value, flat) }

func flatRate(name, unit string, value float64) figure { return atLeast(name, unit, value, 1/flat) }

// grown is an account with many waiting requests. Each measurement begins with as many.
type grown struct {
	*rig
	waiting int // that each measurement begins with
	batches int
	targets []figure // that do not compare
}

func growth(ctx context.Context, b *suite) ([]figure, error) {
	few, _, err := measureAt(ctx, b, 10_000)
	if err != nil {
		return nil, fmt.Errorf("few waiting requests: %w", err)
	}
	many, targets, err := measureAt(ctx, b, pick(b, 100_000, 1_000_000, 1_000_000))
	if err != nil {
		return nil, fmt.Errorf("many waiting requests: %w", err)
	}
	for i, f := range many {
		many[i] = f.against(few[i].value)
	}
	return append(many, targets...), nil
}

// measureAt returns all figures with so many waiting requests, and those with a target of
// their own.
func measureAt(ctx context.Context, b *suite, waiting int) (all, targets []figure, err error) {
	r, err := b.open(answering())
	if err != nil {
		return nil, nil, err
	}
	defer r.close()
	if err := r.logScripts(ctx); err != nil {
		return nil, nil, err
	}
	g := &grown{rig: r, waiting: waiting}
	for _, part := range []func(context.Context) ([]figure, error){g.begin, g.bytes, g.forgets, g.pages, g.signupsIdle, g.signupsBeside, g.drains, g.imports} {
		figures, err := part(ctx)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, figures...)
	}
	return all, g.targets, nil
}

// add imports n more rows from a file, as a batch of their own, and returns how long it took.
func (g *grown) add(ctx context.Context, n int) (time.Duration, error) {
	file := filepath.Join(g.dir, "people.csv")
	if err := writeCSV(file, g.accepted, n, n); err != nil {
		return 0, err
	}
	done, err := g.runToEnd(ctx, "import", file, "--batch", g.batchName(g.batches))
	g.accepted += n
	g.batches++
	return done.took, err
}

func (g *grown) batchName(i int) string { return fmt.Sprintf("bench-%d", i) }

// fill imports what is missing.
func (g *grown) fill(ctx context.Context) error {
	const tag = "{kyclink:default}"
	waiting, err := g.rdb.HGet(ctx, tag+":account", "waiting").Int()
	if err != nil {
		return fmt.Errorf("count the waiting requests: %w", err)
	}
	queued, err := g.rdb.ZCard(ctx, tag+":queued:bulk").Result()
	if missing := g.waiting - waiting - int(queued); err == nil && missing > 0 {
		_, err = g.add(ctx, missing)
	}
	return err
}

// control pauses or resumes all batches.
func (g *grown) control(ctx context.Context, c batch.Control) error {
	stores := storage.Of(g.rdb, account)
	for i := range g.batches {
		b, _, err := stores.Batches.ByName(ctx, g.batchName(i))
		if err == nil {
			err = stores.Batches.Control(ctx, b, c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// begin has a worker look for what an earlier version left, while the account is empty, as
// is usual: in one that is not, it does so for an hour.
func (g *grown) begin(ctx context.Context) ([]figure, error) {
	p, err := g.work(ctx, "500/s", 5, slots)
	if err != nil {
		return nil, err
	}
	searched := func() bool { return g.rdb.HExists(ctx, "{kyclink:default}:account", "unlisted_erased").Val() }
	if err := g.waitUntil(ctx, "the worker has found nothing of an earlier version", searched); err != nil {
		return nil, err
	}
	err = p.Stop(30 * time.Second)
	return nil, err
}

func (g *grown) bytes(ctx context.Context) ([]figure, error) {
	if _, err := g.add(ctx, 100); err != nil { // Redis allocates memory for each command that it sees for the first time
		return nil, err
	}
	before, err := g.memory(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := g.add(ctx, g.waiting); err != nil {
		return nil, err
	}
	after, err := g.memory(ctx)
	return []figure{flatCost("Redis memory per waiting request", "B", (after-before)/float64(g.waiting))}, err
}

// forgets erases waiting requests, one at a time.
func (g *grown) forgets(ctx context.Context) ([]figure, error) {
	const times = 5
	c, err := g.costOf(ctx, os.Getpid(), func() error {
		for i := range times {
			if _, err := g.runToEnd(ctx, "forget", fmt.Sprintf("B-%07d", 1000+i), "--yes"); err != nil {
				return err
			}
		}
		return nil
	})
	took := milliseconds(c.redis) / times
	g.targets = append(g.targets, atMost("forget ID, 1,000,000 waiting: time of Redis' commands", "ms", took, 20))
	return []figure{flatCost("forget ID: time of Redis' commands", "ms", took)}, err
}

// pages measures what people look at.
func (g *grown) pages(ctx context.Context) (all []figure, err error) {
	s, err := g.serve(ctx, 0)
	if err != nil {
		return nil, err
	}
	o, err := g.signIn(ctx, s)
	if err != nil {
		return nil, err
	}
	defer o.CloseIdleConnections()
	for _, page := range []measured{
		{"console, Now", "/"},
		{"console, requests", "/requests"},
		{"console, a batch", "/batch?name=" + g.batchName(1)},
		{"GET /v1/links?status=waiting", "/v1/links?status=waiting"},
	} {
		var took []time.Duration
		for range 40 {
			_, d, err := o.get(ctx, page.path)
			if err != nil {
				return nil, err
			}
			took = append(took, d)
		}
		all = append(all, flatCost(page.name+", median", "ms", milliseconds(percentile(took, 50))))
	}
	err = s.Stop(30 * time.Second)
	return all, err
}

// signupsIdle measures signups while nothing else can be called, and what a process costs
// Redis without them.
func (g *grown) signupsIdle(ctx context.Context) ([]figure, error) {
	if err := g.control(ctx, batch.Pause); err != nil {
		return nil, err
	}
	p, err := g.work(ctx, "500/s", 5, slots)
	if err != nil {
		return nil, err
	}
	if err := g.enqueueOne(ctx, "warm-up"); err != nil {
		return nil, err
	}
	all, err := g.arrive(ctx, "idle", pick(g.suite, 50, 150, 1000), 20*time.Millisecond, 80*time.Millisecond, 3, 8)
	if err != nil {
		return nil, err
	}
	lasts := pick(g.suite, 5*time.Second, 10*time.Second, time.Minute)
	c, err := g.costOf(ctx, p.PID(), func() error { return g.sleep(ctx, lasts) })
	if err != nil {
		return nil, err
	}
	if err := p.Stop(30 * time.Second); err != nil {
		return nil, err
	}
	return append(all,
		info("an idle process: time of Redis' commands", "ms/s", milliseconds(c.redis)/lasts.Seconds()),
		info("an idle process: processor time", "ms/s", milliseconds(c.service)/lasts.Seconds())), g.control(ctx, batch.Resume)
}

// signupsBeside measures signups while bulk requests are called.
func (g *grown) signupsBeside(ctx context.Context) ([]figure, error) {
	if err := g.fill(ctx); err != nil {
		return nil, err
	}
	before := g.upstream.State().LinkCalls
	p, err := g.work(ctx, "50/s", 5, slots)
	if err != nil {
		return nil, err
	}
	if err := g.waitForCalls(ctx, before+100); err != nil {
		return nil, err
	}
	all, err := g.arrive(ctx, "beside bulk", pick(g.suite, 20, 80, 300), 150*time.Millisecond, 250*time.Millisecond, 8, 40)
	if err != nil {
		return nil, err
	}
	err = p.Stop(30 * time.Second)
	return all, err
}

// arrive measures n signups, which have targets of their own.
func (g *grown) arrive(ctx context.Context, when string, n int, shortest, longest time.Duration, p50, p99 float64) ([]figure, error) {
	took, err := g.arrivals(ctx, n, shortest, longest, g.enqueueOne)
	if err != nil {
		return nil, err
	}
	half, most := milliseconds(percentile(took[0], 50)), milliseconds(percentile(took[0], 99))
	g.targets = append(g.targets,
		atMost("signup "+when+", 1,000,000 waiting, p50", "ms", half, p50),
		atMost("signup "+when+", 1,000,000 waiting, p99", "ms", most, p99))
	// The p99 is one of the slowest of a few, which cannot be compared.
	return []figure{flatCost("signup "+when+", p50", "ms", half), info("signup "+when+", p99", "ms", most)}, nil
}

// work starts one worker.
func (g *grown) work(ctx context.Context, rate string, burst, slots int) (*child.Process, error) {
	if err := g.workers(1, settings(rate, burst, slots)...); err != nil {
		return nil, err
	}
	return g.last(), ctx.Err()
}

// drains drains a part of the backlog, as the scenario drain does, several times.
func (g *grown) drains(ctx context.Context) ([]figure, error) {
	if err := g.upstream.SetScript(simulator.Script{}); err != nil {
		return nil, err
	}
	var rates, processor, server []float64
	for range 3 {
		if err := g.fill(ctx); err != nil {
			return nil, err
		}
		w, err := g.drainOnce(ctx, g.upstream.State().LinkCalls, 7000)
		if err != nil {
			return nil, err
		}
		rates = append(rates, w.perSecond)
		processor, server = append(processor, microseconds(w.cpu)/1000), append(server, microseconds(w.redis)/1000)
	}
	return []figure{
		flatRate("drain, links", "1/s", median(rates)),
		flatCost("drain, processor time of a link", "µs", median(processor)),
		flatCost("drain, processor time of Redis for a link", "µs", median(server)),
	}, nil
}

// drainOnce drains at least n requests after those that were called before.
func (g *grown) drainOnce(ctx context.Context, before, n int) (w work, err error) {
	used, err := g.processorTime(ctx)
	if err != nil {
		return w, err
	}
	p, err := g.work(ctx, "100000/s", 1000, drainSlots)
	if err != nil {
		return w, err
	}
	if err := g.waitForCalls(ctx, before+n); err != nil {
		return w, err
	}
	if err := p.Stop(time.Minute); err != nil {
		return w, err
	}
	now, err := g.processorTime(ctx)
	if err != nil {
		return w, err
	}
	at := times(g.upstream.Calls(before, g.upstream.State().LinkCalls-before).Calls)
	from, to := at[len(at)/10], at[n*9/10]
	w.perSecond = float64(between(at, from, to)) / to.Sub(from).Seconds()
	links := time.Duration(len(at))
	w.cpu, w.redis = cpuOf(p)*1000/links, (now-used)*1000/links
	return w, nil
}

// imports imports 100,000 more rows: once as Redis may double its table of keys, which slows
// down every program that adds keys, and once when it has.
func (g *grown) imports(ctx context.Context) ([]figure, error) {
	if err := g.fill(ctx); err != nil {
		return nil, err
	}
	growing, err := g.importOnce(ctx)
	if err != nil {
		return nil, err
	}
	settled := growing
	if g.waiting > growthRows { // with fewer it doubles several times
		if err := g.settle(ctx); err != nil {
			return nil, err
		}
		if settled, err = g.importOnce(ctx); err != nil {
			return nil, err
		}
	}
	g.targets = append(g.targets, atMost("import beside 1,000,000 waiting, scripts in Redis, p99.9", "ms", settled.slowest, 5))
	return []figure{
		flatRate("import, rows, including the start of the process", "1/s", settled.perSecond),
		flatCost("import, processor time of Redis for a row", "µs", settled.redis),
		info("import, scripts in Redis, p99.9", "ms", settled.slowest),
		info("import as Redis doubles its table of keys, rows", "1/s", growing.perSecond),
		info("import as Redis doubles its table of keys, scripts in Redis, p99.9", "ms", growing.slowest),
	}, nil
}

// growthRows is how many rows are imported beside the waiting ones.
const growthRows = 100_000

// importCost is what an import of growthRows cost.
type importCost struct {
	perSecond float64
	redis     float64 // processor time of Redis for a row in µs
	slowest   float64 // p99.9 of the scripts in ms
}

func (g *grown) importOnce(ctx context.Context) (c importCost, err error) {
	if err := g.rdb.ConfigResetStat(ctx).Err(); err != nil {
		return c, err
	}
	used, err := g.processorTime(ctx)
	if err != nil {
		return c, err
	}
	took, err := g.add(ctx, growthRows)
	if err != nil {
		return c, err
	}
	now, err := g.processorTime(ctx)
	if err != nil {
		return c, err
	}
	scripts, err := g.scripts(ctx)
	if err != nil {
		return c, err
	}
	return importCost{growthRows / took.Seconds(), microseconds(now-used) / growthRows, scripts[0].value}, nil
}

// settle has Redis finish doubling its table of keys: it moves a part at each look-up.
func (g *grown) settle(ctx context.Context) error {
	keys, err := g.rdb.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	const lookUps = 10_000
	script := redis.NewScript("for i = 1, " + strconv.Itoa(lookUps) + " do redis.call('EXISTS', KEYS[1]) end return 1")
	for range 1 + 2*keys/lookUps {
		if err := script.Run(ctx, g.rdb, []string{"{kyclink:default}:account"}).Err(); err != nil {
			return err
		}
	}
	return nil
}
