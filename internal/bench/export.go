package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/child"
	"github.com/kyclink/kyclink/internal/faceki/simulator"
)

func exports() []scenario {
	return []scenario{
		{"export", "kyclink batch export of a batch whose rows all have a link, as CSV", true, 60 * time.Second, 10 * time.Minute, export},
	}
}

func export(ctx context.Context, b *suite) ([]figure, error) {
	n := pick(b, 50_000, 1_000_000, 1_000_000)
	r, err := b.open(simulator.Config{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	if err := r.bulk(ctx, r.client, n); err != nil {
		return nil, err
	}
	if err := r.link(ctx, n); err != nil {
		return nil, err
	}
	for setting, value := range map[string]string{"slowlog-log-slower-than": "1000", "slowlog-max-len": "100000"} {
		if err := r.rdb.ConfigSet(ctx, setting, value).Err(); err != nil {
			return nil, err
		}
	}
	if err := r.rdb.SlowLogReset(ctx).Err(); err != nil {
		return nil, err
	}
	out := filepath.Join(r.dir, "out.csv")
	done, err := r.runToEnd(ctx, "batch", "export", "bench", "-o", out)
	if err == nil && done.peak == 0 {
		err = errNoPeak
	}
	if err != nil {
		return nil, err
	}
	lines, bytes, err := measure(out)
	if err != nil {
		return nil, err
	}
	log, err := r.rdb.SlowLogGet(ctx, -1).Result()
	if err != nil {
		return nil, err
	}
	longest := time.Duration(0)
	for _, entry := range log {
		longest = max(longest, entry.Duration)
	}
	return []figure{
		must(atLeast("rows", "", float64(lines-1), float64(n))),
		must(atMost("rows at most", "", float64(lines-1), float64(n))),
		atLeast("rows per second, including the start of the process", "1/s", float64(n)/done.took.Seconds(), 100_000),
		info("size of the file per second", "MiB/s", float64(bytes)/(1<<20)/done.took.Seconds()),
		atMost("peak memory", "MiB", float64(done.peak)/(1<<20), 100),
		atMost("commands in Redis, longest", "ms", milliseconds(longest), 10),
	}, nil
}

// link stores a link in all records, in the format of the ledger.
func (r *rig) link(ctx context.Context, n int) error {
	script := redis.NewScript(`
for i = 2, #ARGV do
  local key = KEYS[1] .. '/' .. ARGV[i]
  redis.call('SETRANGE', key, 1, 'C')
  redis.call('APPEND', key, ARGV[1] .. ARGV[i] .. '","url":"https://simulator.invalid/kycverify/' .. ARGV[i]
    .. '","expires_at":"2026-12-01T00:00:00.000Z","ended_at":"2026-11-24T00:00:00.000Z"}')
end`)
	ids := make([]any, 0, n)
	for row := range requests(r.accepted-n, n) {
		ids = append(ids, row.Request.ApplicationID)
	}
	for page := range slices.Chunk(ids, 500) {
		args := append([]any{"\n" + `{"expiry_minutes":1440}` + "\n" + `{"run":1,"status":"created","link_id":"`}, page...)
		if err := script.Run(ctx, r.rdb, []string{"{kyclink:default}"}, args...).Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("store links: %w", err)
		}
	}
	return nil
}

var errNoPeak = errors.New("cannot read the peak memory of a process from /proc")

// usage is what a command needed until it exited.
type usage struct {
	took, cpu time.Duration
	peak      int64 // of its memory in bytes; 0 if it is unknown or the command took only milliseconds
}

// runToEnd runs a command until it exits.
func (r *rig) runToEnd(ctx context.Context, args ...string) (u usage, err error) {
	began := time.Now()
	p, err := child.Start(filepath.Join(r.dir, args[0]+".log"), []string{"KYCLINK_REDIS_URL=" + r.server.URL}, r.suite.kyclink, args...)
	if err != nil {
		return u, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-p.Exited:
			over = true
		case <-ctx.Done():
			p.Kill()
			return u, context.Cause(ctx)
		case <-tick.C:
			u.peak = max(u.peak, peakOf(p.PID()))
		}
	}
	if u.took, u.cpu = time.Since(began), cpuOf(p); !p.State().Success() {
		return u, fmt.Errorf("%s failed; %s", args[0], p.Tail())
	}
	return u, nil
}

// peakOf returns the peak memory of a running process in bytes, or 0 if it is unknown. The
// value in the state of an exited process would include memory of its parent.
func peakOf(pid int) (peak int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(rest, &peak); err != nil {
		return 0
	}
	return peak << 10
}

// measure counts a file's lines and bytes.
func measure(path string) (lines, bytes int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = f.Close() }()
	in := bufio.NewScanner(f)
	for in.Scan() {
		lines++
		bytes += len(in.Bytes()) + 1
	}
	return lines, bytes, in.Err()
}
