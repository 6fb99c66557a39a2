package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// store is the Redis of a run: one server, or several that fail over.
type store interface {
	// settings are the environment variables with which a worker finds it.
	settings() []string
	// client reaches it; a producer's as the workers do, the oracle's own past
	// every fault between. The caller closes it.
	client(producer bool) redis.UniversalClient
	// kinds is what can be done to it.
	kinds() []kind
	// forgets says that what it acknowledged last may be lost by that.
	forgets() bool
	// upsets is what it did that explains what no worker can mend.
	upsets() *upsets
	// heal makes it whole again, whatever was done to it.
	heal(ctx context.Context) error
	// written lists the files that hold what was ever written to it.
	written() []string
	close()
}

// openStore starts what -redis names, with its data below dir.
func openStore(name, dir string) (store, error) {
	switch name {
	case "single":
		return openSingle(dir)
	case "sentinel":
		return openSentinel()
	case "cluster":
		return openCluster()
	default:
		return nil, fmt.Errorf("there is no Redis %q; use single, sentinel or cluster", name)
	}
}

// single is one redis-server that loses nothing that it acknowledged, unless it is made
// to, behind a road of its own.
type single struct {
	server *redistest.Server
	clock  *redistest.Clock
	upset  upsets
	road   *road
	rdb    *redis.Client // past the road
	dir    string
	extra  string // a file of settings that the server reads as it starts
}

func openSingle(dir string) (_ *single, err error) {
	s := &single{dir: filepath.Join(dir, "redis")}
	s.extra = filepath.Join(s.dir, "extra.conf")
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(s.extra, nil, 0o600); err != nil {
		return nil, err
	}
	s.server, s.clock, err = redistest.LaunchWithClock("--dir", s.dir, "--appendonly", "yes", "--appendfsync", "always",
		"--auto-aof-rewrite-percentage", "0", "--loading-process-events-interval-bytes", "1024", "--include", s.extra)
	if err != nil {
		return nil, err
	}
	if s.road, err = build("redis", s.server.Addr); err != nil {
		s.server.Close()
		s.clock.Close()
		return nil, err
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: s.server.Addr, MaxRetries: -1})
	return s, nil
}

func (s *single) settings() []string {
	return []string{"KYCLINK_REDIS_URL=redis://" + s.road.addr() + "/0"}
}

func (s *single) client(producer bool) redis.UniversalClient {
	addr := s.server.Addr
	if producer {
		addr = s.road.addr()
	}
	return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
}

func (*single) forgets() bool { return false }

func (s *single) upsets() *upsets { return &s.upset }

func (s *single) written() []string {
	files, _ := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*")) // the pattern is a good one
	return files
}

func (s *single) close() {
	_ = s.rdb.Close()
	s.road.close()
	s.server.Stop() // its folder is the run's
	s.clock.Close()
}

const aBit = 100 * time.Millisecond

func (s *single) heal(ctx context.Context) error {
	if err := os.WriteFile(s.extra, nil, 0o600); err != nil {
		return err
	}
	if err := s.clock.Set(0); err != nil {
		return err
	}
	if s.rdb.Ping(ctx).Err() != nil {
		if err := s.server.Relaunch(); err != nil {
			return err
		}
	}
	if err := s.rdb.Do(ctx, "REPLICAOF", "NO", "ONE").Err(); err != nil {
		return err
	}
	if err := s.rdb.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		return err
	}
	return s.road.clear(ctx)
}

func (s *single) kinds() []kind {
	const redis, net = "redis", "redis-net"
	sec := time.Second
	return []kind{
		{"redis-kill", redis, sec / 2, 2 * sec, s.crash},
		{"redis-lost", redis, sec / 2, 3 * sec, s.lose},
		{"redis-clock", "clock", 2 * sec, 8 * sec, s.setClock},
		{"redis-loading", redis, sec, 3 * sec, s.load},
		{"redis-oom", redis, sec, 3 * sec, s.during(
			func(ctx context.Context) error { return s.rdb.ConfigSet(ctx, "maxmemory", "1").Err() },
			func(ctx context.Context) error { return s.rdb.ConfigSet(ctx, "maxmemory", "0").Err() })},
		// With a master that cannot be reached it only refuses to write: nothing is lost.
		{"redis-readonly", redis, sec, 3 * sec, s.during(
			func(ctx context.Context) error { return s.rdb.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() },
			func(ctx context.Context) error { return s.rdb.Do(ctx, "REPLICAOF", "NO", "ONE").Err() })},
		{"redis-noscript", redis, sec / 2, 2 * sec, s.repeatedly(300*time.Millisecond,
			func(ctx context.Context) error { return s.rdb.ScriptFlush(ctx).Err() })},
		{"redis-clients", redis, 2 * sec, 4 * sec, s.repeatedly(60*time.Millisecond,
			func(ctx context.Context) error {
				return s.rdb.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err()
			})},
		{"redis-cut", net, aBit, aBit, s.during(s.road.cut, s.road.clear)},
		{"redis-slow", net, sec, 4 * sec, s.during(func(context.Context) error { return s.road.slow(200) }, s.road.clear)},
		{"redis-hole", net, 2 * sec, 8 * sec, s.during(func(context.Context) error { return s.road.swallow() }, s.road.clear)},
	}
}

// crash ends the server as a crash does, and starts it again after a while.
func (s *single) crash(_ context.Context, o occasion) error {
	s.server.Kill()
	o.wait()
	return s.server.Relaunch()
}

// load crashes it and lets it read its file so slowly that clients hear of it.
func (s *single) load(_ context.Context, o occasion) error {
	info, err := os.Stat(s.largest())
	if err != nil {
		return err
	}
	// A command in the file takes some 100 bytes or more; the delay is in
	// microseconds each, and a negative one comes with that many commands only.
	commands := max(int(info.Size()/100), 1)
	delay := int(o.lasts.Microseconds()) / commands
	if delay < 100 {
		delay = -max(commands*100/int(o.lasts.Microseconds()), 1)
	}
	s.server.Kill()
	if err := os.WriteFile(s.extra, fmt.Appendf(nil, "key-load-delay %d\n", delay), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.WriteFile(s.extra, nil, 0o600) }() // heal does it again
	return s.server.Relaunch()
}

func (s *single) largest() string {
	largest, size := "", int64(-1)
	for _, file := range s.written() {
		if info, err := os.Stat(file); err == nil && info.Size() > size {
			largest, size = file, info.Size()
		}
	}
	return largest
}

func (s *single) during(begin, end func(context.Context) error) inject {
	return func(ctx context.Context, o occasion) error {
		if err := begin(ctx); err != nil {
			return err
		}
		o.wait()
		return end(ctx)
	}
}

func (s *single) repeatedly(pause time.Duration, do func(context.Context) error) inject {
	return func(ctx context.Context, o occasion) error {
		end := time.Now().Add(o.lasts)
		for time.Now().Before(end) {
			if err := do(ctx); err != nil {
				return err
			}
			o.pause(pause)
		}
		return nil
	}
}
