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

// store is the Redis of a run: one server, or several with failover.
type store interface {
	// settings returns the environment variables that connect a process to it.
	settings() []string
	// client returns a client, which the caller closes. A faulty client connects through the
	// proxy, as workers do.
	client(faulty bool) redis.UniversalClient
	// kinds returns the faults that can be injected into it.
	kinds() []kind
	// losesWrites reports whether these faults may lose acknowledged writes at any time.
	losesWrites() bool
	// disruptions returns the periods in which it lost writes or had a wrong clock.
	disruptions() *disruptions
	// restore ends all faults.
	restore(ctx context.Context) error
	// dataFiles returns the files that contain everything ever written to it.
	dataFiles() []string
	close()
}

// openStore starts the topology named by -redis, with its data in dir.
func openStore(name, dir string) (store, error) {
	switch name {
	case "single":
		return openSingle(dir)
	case "sentinel":
		return openSentinel()
	case "cluster":
		return openCluster()
	default:
		return nil, fmt.Errorf("unknown Redis topology %q; use single, sentinel or cluster", name)
	}
}

// single is one redis-server behind a proxy. It loses acknowledged writes only in
// [single.lose].
type single struct {
	server    *redistest.Server
	clock     *redistest.Clock
	disrupted disruptions
	proxy     *proxy
	rdb       *redis.Client // bypasses the proxy
	dir       string
	extra     string // configuration file that the server reads when it starts
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
	if s.proxy, err = newProxy("redis", s.server.Addr); err != nil {
		s.server.Close()
		s.clock.Close()
		return nil, err
	}
	s.rdb = redis.NewClient(&redis.Options{Addr: s.server.Addr, MaxRetries: -1})
	return s, nil
}

func (s *single) settings() []string {
	return []string{"KYCLINK_REDIS_URL=redis://" + s.proxy.addr() + "/0"}
}

func (s *single) client(faulty bool) redis.UniversalClient {
	addr := s.server.Addr
	if faulty {
		addr = s.proxy.addr()
	}
	return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
}

func (*single) losesWrites() bool { return false }

func (s *single) disruptions() *disruptions { return &s.disrupted }

func (s *single) dataFiles() []string {
	files, _ := filepath.Glob(filepath.Join(s.dir, "appendonlydir", "*")) // the pattern is valid
	return files
}

func (s *single) close() {
	_ = s.rdb.Close()
	s.proxy.close()
	s.server.Stop() // its data is in the directory of the run
	s.clock.Close()
}

// moment is the planned duration of a fault that has none of its own.
const moment = 100 * time.Millisecond

func (s *single) restore(ctx context.Context) error {
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
	return s.proxy.reset(ctx)
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
		// A replica of an unreachable master only refuses writes, and loses nothing.
		{"redis-readonly", redis, sec, 3 * sec, s.during(
			func(ctx context.Context) error { return s.rdb.Do(ctx, "REPLICAOF", "127.0.0.1", "1").Err() },
			func(ctx context.Context) error { return s.rdb.Do(ctx, "REPLICAOF", "NO", "ONE").Err() })},
		{"redis-noscript", redis, sec / 2, 2 * sec, s.repeatedly(300*time.Millisecond,
			func(ctx context.Context) error { return s.rdb.ScriptFlush(ctx).Err() })},
		{"redis-clients", redis, 2 * sec, 4 * sec, s.repeatedly(60*time.Millisecond,
			func(ctx context.Context) error {
				return s.rdb.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err()
			})},
		{"redis-cut", net, moment, moment, s.during(s.proxy.disconnect, s.proxy.reset)},
		{"redis-slow", net, sec, 4 * sec, s.during(func(context.Context) error { return s.proxy.addLatency(200) }, s.proxy.reset)},
		{"redis-hole", net, 2 * sec, 8 * sec, s.during(func(context.Context) error { return s.proxy.blackhole() }, s.proxy.reset)},
	}
}

// crash kills the server and restarts it at the end of the fault.
func (s *single) crash(_ context.Context, o injection) error {
	s.server.Kill()
	o.wait()
	return s.server.Relaunch()
}

// load kills the server and slows its restart down, so that clients receive LOADING errors.
func (s *single) load(_ context.Context, o injection) error {
	info, err := os.Stat(s.largest())
	if err != nil {
		return err
	}
	// A command in the file takes at least about 100 bytes. The delay is in microseconds per
	// command; a negative delay -n is one microsecond per n commands.
	commands := max(int(info.Size()/100), 1)
	delay := int(o.duration.Microseconds()) / commands
	if delay < 100 {
		delay = -max(commands*100/int(o.duration.Microseconds()), 1)
	}
	s.server.Kill()
	if err := os.WriteFile(s.extra, fmt.Appendf(nil, "key-load-delay %d\n", delay), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.WriteFile(s.extra, nil, 0o600) }() // restore repeats it
	return s.server.Relaunch()
}

// largest returns the largest data file.
func (s *single) largest() string {
	largest, size := "", int64(-1)
	for _, file := range s.dataFiles() {
		if info, err := os.Stat(file); err == nil && info.Size() > size {
			largest, size = file, info.Size()
		}
	}
	return largest
}

func (s *single) during(begin, end func(context.Context) error) injectFunc {
	return func(ctx context.Context, o injection) error {
		if err := begin(ctx); err != nil {
			return err
		}
		o.wait()
		return end(ctx)
	}
}

func (s *single) repeatedly(pause time.Duration, do func(context.Context) error) injectFunc {
	return func(ctx context.Context, o injection) error {
		end := time.Now().Add(o.duration)
		for time.Now().Before(end) {
			if err := do(ctx); err != nil {
				return err
			}
			o.pause(pause)
		}
		return nil
	}
}
