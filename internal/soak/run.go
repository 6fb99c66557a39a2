package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/kyclink/kyclink/tasks"
)

// shortestJudged is the shortest duration in which growth is judged: the resident memory of
// the processes needs up to ten minutes to become level, and the warm-up is a third of the run.
const shortestJudged = 20 * time.Minute

// run requests links for the duration, and waits until they are made, delivered and erased.
// It returns what must not happen. An error means that the run ended early or was not checked.
func run(ctx context.Context, cfg config, out io.Writer) (problems []string, err error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	r, err := open(ctx, cfg, fail)
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.describe(ctx, out); err != nil {
		return nil, err
	}
	stop := r.consume(ctx)
	defer stop()
	m, err := newMeter(r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.close()) }()

	r.began = time.Now()
	loading, cancel := context.WithTimeout(ctx, cfg.duration)
	defer cancel()
	var measuring sync.WaitGroup
	measuring.Go(func() { m.run(loading) })
	r.load(loading)
	measuring.Wait()
	r.note("end of the load")

	left, err := r.settle(ctx)
	stop()
	problems = r.stopProcesses()
	problems = slices.Concat(problems, r.book.problems, left)
	if grown := m.recording.report(out); cfg.duration >= shortestJudged {
		problems = append(problems, grown...)
	} else {
		fmt.Fprintf(out, "\ngrowth is not judged in a run of less than %v\n", shortestJudged)
	}
	fmt.Fprintf(out, "\n%d requests, %d links, %d callbacks, %d people forgotten, %d outages\n",
		r.book.counts.requests, r.book.counts.links, r.book.counts.callbacks, r.book.counts.forgotten, len(r.outages))
	warnings, late, logsErr := r.warnings()
	if late > 0 {
		fmt.Fprintf(out, "%d times a worker was too busy to send a call in time, and released its request\n", late)
	}
	return append(problems, warnings...), errors.Join(err, logsErr, drawPlot(m.recording, r.outages, filepath.Join(cfg.dir, "soak.svg")))
}

// consume reads the results stream as a consumer group, until the returned function is
// called.
func (r *rig) consume(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	results := tasks.NewResults(r.rdb, tasks.ResultsConfig{Account: account, Group: "soak", Consumer: "soak",
		OnError: func(err error) { r.book.problem("read the results stream: %v", err) }})
	var reading sync.WaitGroup
	reading.Go(func() {
		if err := results.Run(ctx, func(_ context.Context, e tasks.Event) error {
			r.book.event(e)
			return nil
		}); err != nil {
			r.fail(err)
		}
	})
	return func() {
		cancel()
		reading.Wait()
	}
}

const (
	settleTimeout = 5 * time.Minute
	eraseTimeout  = 3 * time.Minute // after the retention
)

// settle waits until every request has its link and its callback, and is erased. It returns
// what is left. The error is the reason for which the run has ended early.
func (r *rig) settle(ctx context.Context) (left []string, err error) {
	if err := r.await(ctx, settleTimeout, func() bool { return len(r.book.lost()) == 0 }); err != nil {
		return r.book.lost(), err
	}
	left = r.book.lost()
	var c census
	var scanErr error
	err = r.await(ctx, r.cfg.retention()+eraseTimeout, func() bool {
		c, scanErr = r.census(ctx)
		return scanErr != nil || c.count(requestKinds()...) == 0
	})
	if n := c.count(requestKinds()...); n > 0 && err == nil {
		left = append(left, fmt.Sprintf("%d keys of requests are left %v after their retention: %s", n, eraseTimeout, c))
	}
	r.note("keys at the end: %s", c)
	return left, errors.Join(err, scanErr)
}

// await waits until a condition holds or the time is over. It fails only if ctx ends.
func (*rig) await(ctx context.Context, limit time.Duration, holds func() bool) error {
	over := time.After(limit)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the run ended early: %w", context.Cause(ctx))
		case <-over:
			return nil
		case <-tick.C:
		}
	}
	return nil
}
