//go:build long

package main

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// Any number of requests may be failed: memory use does not grow with the number, and no
// script blocks Redis for long.
func TestFailed_HandlesHundredsOfThousands(t *testing.T) {
	const n = 200_000
	few := redistest.Start(t)
	failedRequests(t, few.Client(t), n/20)
	server := redistest.Start(t)
	rdb := server.Client(t)
	stores := failedRequests(t, rdb, n)
	if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil { // without the setup
		t.Fatal(err)
	}
	settings := []string{"KYCLINK_REDIS_URL=" + server.URL}
	small := peak(t, start(t, []string{"KYCLINK_REDIS_URL=" + few.URL}, "failed", "list", "--reason", "workflow_rules"))
	begun := time.Now()
	p := start(t, settings, "failed", "list", "--reason", "workflow_rules")
	large := peak(t, p)
	if lines := strings.Count(p.stdout.String(), "\n"); lines != n/10 {
		t.Errorf("%d lines", lines)
	}
	t.Logf("list of %d took %v, with %d MiB; %d MiB for a twentieth of them", n, time.Since(begun), large>>10, small>>10)
	if large > small+small/2 {
		t.Errorf("the memory grows: %d KiB, %d for a twentieth", large, small)
	}
	begun = time.Now()
	interruptedRetry(t, settings, stores, n, "5000/s")
	t.Logf("retry of all took %v", time.Since(begun))
	// There are too few pages for the 99.9th percentile.
	for command, percentile := range map[string]string{"evalsha": "99.9", "mget": "99", "zrange": "99"} {
		duration := longest(t, rdb, command, percentile)
		t.Logf("%s: p%s %v", command, percentile, duration)
		if duration > 10*time.Millisecond {
			t.Errorf("%s blocked Redis for %v", command, duration)
		}
	}
}

// longest returns a percentile of the duration of a command in Redis.
func longest(t testing.TB, rdb *redis.Client, command, percentile string) time.Duration {
	t.Helper()
	info, err := rdb.Info(t.Context(), "latencystats").Result()
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`usec_` + command + `:.*p` + percentile + `=([\d.]+)`).FindStringSubmatch(info)
	if found == nil {
		t.Fatalf("Redis has no latency of %s:\n%s", command, info)
	}
	us, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(us * float64(time.Microsecond))
}

// peak waits for the end of a process and returns its peak memory in KiB. The process's
// rusage cannot be used: it includes the peak of the parent.
func peak(t testing.TB, p *process) (most int) {
	t.Helper()
	for over := false; !over; {
		select {
		case <-p.over:
			over = true
		case <-time.After(2 * time.Millisecond):
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if _, text, ok := strings.Cut(string(status), "VmHWM:"); err == nil && ok {
			kib, err := strconv.Atoi(strings.Fields(text)[0])
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, kib)
		}
	}
	if code := p.exit(); code != 0 || most == 0 {
		t.Fatalf("exit code %d, at most %d KiB:\n%s", code, most, p.stderr.String())
	}
	return most
}
