package main

import (
	"bufio"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

// enqueuers is the number of goroutines of the baseline. AutoPipeline needs many for its
// best throughput.
const enqueuers = 512

// contentBytes is the size of a row's content as JSON.
const contentBytes = 200

// sharedURLs is the number of redirect URLs of rows that share them.
const sharedURLs = 10

func imports() []scenario {
	return []scenario{
		{"import", "rows of 200 bytes from a CSV file, compared with bare asynq.Client.Enqueue through AutoPipeline", true, 20 * time.Second, 10 * time.Minute, importRows},
	}
}

// imported is the result of an import.
type imported struct {
	perSecond float64
	cpu       float64 // processor time of the importer and Redis per row in µs
	peak      float64 // memory of the importer in MiB
	bytes     float64 // memory of Redis per row
	scripts   []figure
}

func importRows(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 200_000, 1_000_000, 1_000_000)
	fewer, err := importFile(ctx, b, n/10, sharedURLs)
	if err != nil {
		return nil, err
	}
	ours, err := importFile(ctx, b, n, n)
	if err != nil {
		return nil, err
	}
	bare, err := enqueueBare(ctx, b, n/10)
	if err != nil {
		return nil, err
	}
	return append([]figure{
		atLeast("rows", "1/s", ours.perSecond, 3).against(bare.perSecond),
		info("processor time of a row", "µs", ours.cpu).against(bare.cpu),
		atMost("peak memory of the importer", "MiB", ours.peak, 100),
		atMost("peak memory of the importer, a tenth of the rows", "MiB", ours.peak, 1.2).against(fewer.peak),
		atMost("Redis memory per waiting request, rows that share nothing", "B", ours.bytes, 0.55).against(bare.bytes),
		atMost("Redis memory per waiting request, rows with ten redirect URLs", "B", fewer.bytes, 0.45).against(bare.bytes),
	}, ours.scripts...), nil
}

// importFile imports n rows with so many different redirect URLs.
func importFile(ctx context.Context, b *suite, n, urls int) (done imported, err error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return done, err
	}
	defer r.close()
	file := filepath.Join(r.dir, "people.csv")
	if err := writeCSV(file, 0, n, urls); err != nil {
		return done, err
	}
	if err := r.logScripts(ctx); err != nil {
		return done, err
	}
	began, err := r.processorTime(ctx)
	if err != nil {
		return done, err
	}
	u, err := r.runToEnd(ctx, "import", file, "--batch", "bench")
	if err == nil && u.peak == 0 {
		err = errNoPeak
	}
	if err != nil {
		return done, err
	}
	waiting, err := r.rdb.HGet(ctx, "{kyclink:default}:batch:1", "waiting").Int()
	if err != nil || waiting != n {
		return done, fmt.Errorf("%d of %d rows were accepted: %w", waiting, n, err)
	}
	cpu, err := r.processorTime(ctx)
	if err != nil {
		return done, err
	}
	cpu += u.cpu - began
	scripts, err := r.scripts(ctx)
	if err != nil {
		return done, err
	}
	bytes, err := r.eraseAll(ctx)
	if err != nil {
		return done, err
	}
	return imported{
		perSecond: float64(n) / u.took.Seconds(), cpu: 1000 * milliseconds(cpu) / float64(n),
		peak: float64(u.peak) / (1 << 20), bytes: bytes / float64(n), scripts: scripts,
	}, nil
}

// rowFields returns the fields of a row, which take about [contentBytes]. The rows have so many
// different redirect URLs, and share no other value.
func rowFields(i, urls int) (id, redirect, note string) {
	unique := sha512.Sum512([]byte(strconv.Itoa(i)))
	return fmt.Sprintf("B-%07d", i), fmt.Sprintf("https://shop.example/done/%07d", i%urls), hex.EncodeToString(unique[:])[:contentBytes-90]
}

// writeCSV writes n rows with numbers after the given one.
func writeCSV(path string, after, n, urls int) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	fmt.Fprintln(w, "application_id,redirect_url,metadata")
	for i := after + 1; i <= after+n; i++ {
		id, redirect, note := rowFields(i, urls)
		fmt.Fprintf(w, "%s,%s,\"{\"\"note\"\":\"\"%s\"\"}\"\n", id, redirect, note)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// enqueueBare enqueues n tasks with asynq alone.
func enqueueBare(ctx context.Context, b *suite, n int) (done imported, err error) {
	r, err := b.open(simulator.Config{})
	if err != nil {
		return done, err
	}
	defer r.close()
	pipeline, err := r.rdb.AutoPipeline()
	if err != nil {
		return done, err
	}
	cpuBefore, err := r.processorTime(ctx)
	if err != nil {
		return done, err
	}
	cpuBefore += processorTimeOf(os.Getpid())
	queue := asynq.NewClientFromRedisClient(pipeline)
	group, going := errgroup.WithContext(ctx)
	began := time.Now()
	for worker := range enqueuers {
		group.Go(func() error {
			for i := worker; i < n; i += enqueuers {
				_, redirect, note := rowFields(i, n)
				payload := fmt.Appendf(nil, `{"redirect_url":"%s","metadata":{"note":"%s"},"row":%d}`, redirect, note, i)
				if _, err := queue.EnqueueContext(going, asynq.NewTask(bareTask, payload)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return done, err
	}
	done.perSecond = float64(n) / time.Since(began).Seconds()
	cpu, err := r.processorTime(ctx)
	if err != nil {
		return done, err
	}
	done.cpu = 1000 * milliseconds(cpu+processorTimeOf(os.Getpid())-cpuBefore) / float64(n)
	bytes, err := r.eraseAll(ctx)
	done.bytes = bytes / float64(n)
	return done, err
}

var usedMemory = regexp.MustCompile(`used_memory:(\d+)`)

// eraseAll erases all keys, and returns the memory that they took, in bytes. What Redis had
// before the first key is no base for that: it allocates memory for each command that it
// sees for the first time.
func (r *rig) eraseAll(ctx context.Context) (bytes float64, err error) {
	before, err := r.memory(ctx)
	if err != nil {
		return 0, err
	}
	if err := r.rdb.FlushAll(ctx).Err(); err != nil {
		return 0, err
	}
	after, err := r.memory(ctx)
	return before - after, err
}

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
