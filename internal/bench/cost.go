package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// cost is what some work cost.
type cost struct {
	service  time.Duration // processor time of the service
	redis    time.Duration // of Redis' commands; those in a script count twice
	server   time.Duration // processor time of Redis
	commands int           // with those in scripts
}

// figures returns the cost of each of so many pages.
func (c cost) figures(name string, pages int) []figure {
	n := float64(pages)
	return []figure{
		info(name+": processor time of the service", "ms", milliseconds(c.service)/n),
		info(name+": time of Redis' commands", "ms", milliseconds(c.redis)/n),
		info(name+": commands", "", float64(c.commands)/n),
	}
}

var (
	statOfCommand = regexp.MustCompile(`cmdstat_(\S+):calls=(\d+),usec=(\d+),`)
	processorTime = regexp.MustCompile(`used_cpu_(?:sys|user):([0-9.]+)`)
)

// costOf returns what some work costs. Nothing else may use Redis meanwhile.
func (r *rig) costOf(ctx context.Context, pid int, work func() error) (c cost, err error) {
	const reset = "config|resetstat"
	before, err := r.rdb.Info(ctx, "cpu").Result()
	if err != nil {
		return c, err
	}
	if err := r.rdb.ConfigResetStat(ctx).Err(); err != nil {
		return c, err
	}
	began := processorTimeOf(pid)
	if err := work(); err != nil {
		return c, err
	}
	c.service = processorTimeOf(pid) - began
	after, err := r.rdb.Info(ctx, "commandstats", "cpu").Result()
	if err != nil {
		return c, err
	}
	for _, found := range statOfCommand.FindAllStringSubmatch(after, -1) {
		calls, _ := strconv.Atoi(found[2]) // they are digits
		took, _ := strconv.Atoi(found[3])
		if found[1] != reset {
			c.commands += calls
			c.redis += time.Duration(took) * time.Microsecond
		}
	}
	c.server = sumOfProcessorTimes(after) - sumOfProcessorTimes(before)
	return c, nil
}

// processorTime returns the processor time of Redis.
func (r *rig) processorTime(ctx context.Context) (time.Duration, error) {
	text, err := r.rdb.Info(ctx, "cpu").Result()
	return sumOfProcessorTimes(text), err
}

func sumOfProcessorTimes(text string) (sum time.Duration) {
	for _, found := range processorTime.FindAllStringSubmatch(text, -1) {
		seconds, _ := strconv.ParseFloat(found[1], 64) // it is a number
		sum += time.Duration(seconds * float64(time.Second))
	}
	return sum
}

// processorTimeOf returns the processor time of a running process in steps of 10 ms, or 0 if
// it is unknown.
func processorTimeOf(pid int) time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ of Linux is 100
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name, in parentheses, may contain blanks. The next fields are the third to the
	// fifteenth: utime and stime are the last two of them.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, stime = 11, 12
	if len(fields) <= stime {
		return 0
	}
	user, _ := strconv.Atoi(fields[utime]) // they are digits
	system, _ := strconv.Atoi(fields[stime])
	return time.Duration(user+system) * tick
}

// costOfWrites returns what Redis needs for a thousand more writes in scripts that exist
// anyway: each adds an ID to a list, as the end of a request adds its own to the list of its
// minute. Replication and the append-only file would cost more.
func (r *rig) costOfWrites(ctx context.Context) (time.Duration, error) {
	const writes, inScript = 64_000, 32
	ids := make([]any, inScript)
	for i := range ids {
		ids[i] = fmt.Sprintf("B-%07d", i)
	}
	costs := make(map[bool]time.Duration)
	for _, writing := range []bool{false, true} {
		body := "local id = ARGV[i]"
		if writing {
			body = "redis.call('RPUSH', KEYS[1], ARGV[i])"
		}
		script := redis.NewScript("for i = 1, #ARGV do " + body + " end")
		c, err := r.costOf(ctx, os.Getpid(), func() error {
			for range writes / inScript {
				if err := script.Run(ctx, r.rdb, []string{"{kyclink:default}:bench"}, ids...).Err(); err != nil && !errors.Is(err, redis.Nil) {
					return fmt.Errorf("write one more ID for each link: %w", err)
				}
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		costs[writing] = c.server
	}
	return max(0, costs[true]-costs[false]) * 1000 / writes, nil
}
