//go:build failpoint

package failpoint

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// Hit kills the process or panics if the named failpoint is set for this hit.
func Hit(name string) {
	switch action(name) {
	case "kill":
		kill()
	case "panic":
		panic("failpoint " + name)
	}
}

// Watch makes asynq's acknowledgements through the client hits of the failpoint "ack".
func Watch(rdb redis.UniversalClient) { rdb.AddHook(hook{}) }

// Shorten returns d divided by KYCLINK_FAILPOINT_PACE, if it is set.
func Shorten(d time.Duration) time.Duration {
	text := os.Getenv("KYCLINK_FAILPOINT_PACE")
	if text == "" {
		return d
	}
	pace, err := strconv.Atoi(text)
	if err != nil || pace < 1 {
		fmt.Fprintf(os.Stderr, "parse KYCLINK_FAILPOINT_PACE: %q is not a positive number\n", text)
		os.Exit(1)
	}
	return d / time.Duration(pace)
}

type point struct {
	name, action string
	hit          int64 // number of the hit at which the failpoint acts, from 1
	hits         atomic.Int64
}

// configured returns the failpoints that are set in the environment.
var configured = sync.OnceValue(func() []*point {
	points, err := parse(os.Getenv("KYCLINK_FAILPOINT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return points
})

func parse(list string) ([]*point, error) {
	var points []*point
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			continue
		}
		parts := append(strings.Split(text, ":"), "kill")
		hit := int64(0)
		if len(parts) > 2 {
			hit, _ = strconv.ParseInt(parts[1], 10, 64)
		}
		if hit < 1 || len(parts) > 4 {
			return nil, fmt.Errorf("parse KYCLINK_FAILPOINT: invalid failpoint %q; use name:hit or name:hit:action", text)
		}
		points = append(points, &point{name: parts[0], action: parts[2], hit: hit})
	}
	return points, nil
}

// action counts a hit of a failpoint, and returns the action for this hit, if any.
func action(name string) string {
	for _, p := range configured() {
		if p.name == name && p.hits.Add(1) == p.hit {
			fmt.Fprintf(os.Stderr, "failpoint %s: %s\n", name, p.action)
			return p.action
		}
	}
	return ""
}

// kill kills the process and does not return.
func kill() {
	_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {}
}

// hook makes asynq's acknowledgements fail.
type hook struct{}

func (hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !acknowledges(cmd.Args()) {
			return next(ctx, cmd)
		}
		switch action("ack") {
		case "kill":
			kill()
		case "error":
			err := errors.New("failpoint ack: not sent")
			cmd.SetErr(err)
			return err
		case "lost":
			_ = next(ctx, cmd)
			err := errors.New("failpoint ack: reply lost")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// acknowledges reports whether a command runs asynq's script "done": it has five keys, the
// first of which is a queue's list of active tasks.
func acknowledges(args []any) bool {
	if len(args) < 4 {
		return false
	}
	name, _ := args[0].(string)
	key, _ := args[3].(string)
	return strings.HasPrefix(strings.ToLower(name), "eval") && fmt.Sprint(args[2]) == "5" &&
		strings.HasPrefix(key, "asynq:{") && strings.HasSuffix(key, ":active")
}
