package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// enqueuers is the number of goroutines of the baseline. AutoPipeline needs many for its
// best throughput.
const enqueuers = 512

// contentBytes is the stored size of a row without its id.
const contentBytes = 200

func imports() []scenario {
	return []scenario{
		{"import", "rows of 200 bytes from a CSV file, compared with bare asynq.Client.Enqueue through AutoPipeline", true, 40 * time.Second, 10 * time.Minute, importRows},
	}
}

// imported is the result of an import.
type imported struct {
	perSecond float64
	peak      float64 // memory of the importer in MiB
	bytes     float64 // memory of Redis per row
	scripts   []figure
}

func importRows(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 50_000, 1_000_000, 1_000_000)
	fewer, err := importFile(ctx, b, n/10)
	if err != nil {
		return nil, err
	}
	ours, err := importFile(ctx, b, n)
	if err != nil {
		return nil, err
	}
	bare, bareBytes, err := enqueueBare(ctx, b, n/10)
	if err != nil {
		return nil, err
	}
	return append([]figure{
		atLeast("rows", "1/s", ours.perSecond, 3).against(bare),
		atMost("peak memory of the importer", "MiB", ours.peak, 100),
		atMost("peak memory of the importer, a tenth of the rows", "MiB", ours.peak, 1.2).against(fewer.peak),
		atMost("Redis memory per waiting request", "B", ours.bytes, 0.55).against(bareBytes),
	}, ours.scripts...), nil
}

func importFile(ctx context.Context, b *suite, n int) (done imported, err error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return done, err
	}
	defer r.close()
	file := filepath.Join(r.dir, "people.csv")
	if err := writeCSV(file, n); err != nil {
		return done, err
	}
	before, err := r.memory(ctx)
	if err != nil {
		return done, err
	}
	for setting, value := range map[string]string{
		"slowlog-log-slower-than": "3000", "slowlog-max-len": "100000", "latency-tracking-info-percentiles": "99.9",
	} {
		if err := r.rdb.ConfigSet(ctx, setting, value).Err(); err != nil {
			return done, err
		}
	}
	took, peak, err := r.runToEnd(ctx, "import", file, "--batch", "bench")
	if err != nil {
		return done, err
	}
	waiting, err := r.rdb.HGet(ctx, "{kyclink:default}:batch:1", "waiting").Int()
	if err != nil || waiting != n {
		return done, fmt.Errorf("%d of %d rows were accepted: %w", waiting, n, err)
	}
	after, err := r.memory(ctx)
	if err != nil {
		return done, err
	}
	done = imported{perSecond: float64(n) / took.Seconds(), peak: float64(peak) / (1 << 20), bytes: (after - before) / float64(n)}
	done.scripts, err = r.scripts(ctx)
	return done, err
}

// rowFields returns the fields of a row, whose stored size is about [contentBytes].
func rowFields(i int) (id, redirect, note string) {
	return fmt.Sprintf("B-%07d", i), fmt.Sprintf("https://shop.example/done/%07d", i), strings.Repeat("n", contentBytes-90)
}

func writeCSV(path string, n int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	fmt.Fprintln(w, "application_id,redirect_url,metadata")
	for i := 1; i <= n; i++ {
		id, redirect, note := rowFields(i)
		fmt.Fprintf(w, "%s,%s,\"{\"\"note\"\":\"\"%s\"\"}\"\n", id, redirect, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// enqueueBare measures bare asynq: tasks per second, and Redis memory per task.
func enqueueBare(ctx context.Context, b *suite, n int) (perSecond, bytes float64, err error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return 0, 0, err
	}
	defer r.close()
	before, err := r.memory(ctx)
	if err != nil {
		return 0, 0, err
	}
	pipeline, err := r.rdb.AutoPipeline()
	if err != nil {
		return 0, 0, err
	}
	queue := asynq.NewClientFromRedisClient(pipeline)
	group, going := errgroup.WithContext(ctx)
	began := time.Now()
	for worker := range enqueuers {
		group.Go(func() error {
			for i := worker; i < n; i += enqueuers {
				_, redirect, note := rowFields(i)
				payload := fmt.Appendf(nil, `{"redirect_url":"%s","metadata":{"note":"%s"},"row":%d}`, redirect, note, i)
				if _, err := queue.EnqueueContext(going, asynq.NewTask(bareTask, payload)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	perSecond = float64(n) / time.Since(began).Seconds()
	after, err := r.memory(ctx)
	return perSecond, (after - before) / float64(n), err
}

var usedMemory = regexp.MustCompile(`used_memory:(\d+)`)

// memory returns the memory that Redis uses, in bytes.
func (r *rig) memory(ctx context.Context) (float64, error) {
	text, err := r.rdb.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	found := usedMemory.FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("no used_memory in %q", text)
	}
	return strconv.ParseFloat(found[1], 64)
}
