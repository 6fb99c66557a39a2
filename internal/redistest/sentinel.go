package redistest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	masterName = "kyclink"
	watchers   = 3
	quorum     = 2
)

// Sentinel is a master, its replica, and three sentinels that make the replica
// the master about two seconds after it is gone. Its methods are for one
// goroutine at a time.
type Sentinel struct {
	// URL names the sentinels as go-redis' ParseFailoverURL reads it.
	URL string

	nodes    []*Server // either may be the master
	watchers []*Server
	gone     *Server // the master that was killed
}

// StartSentinel runs them until the end of the test. The arguments are those of
// the master and the replica.
func StartSentinel(t testing.TB, args ...string) *Sentinel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), settleWithin)
	defer cancel()
	s, err := LaunchSentinel(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// LaunchSentinel is [StartSentinel] without a test: whoever calls it calls
// [Sentinel.Close].
func LaunchSentinel(ctx context.Context, args ...string) (_ *Sentinel, err error) {
	s := &Sentinel{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for range 2 {
		node, err := Launch(append([]string{"--repl-diskless-sync-delay", "0"}, args...)...)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, node)
	}
	if err := follow(ctx, s.nodes[1], s.nodes[0]); err != nil {
		return nil, err
	}
	query := url.Values{"master_name": {masterName}}
	for range watchers {
		watcher, err := launchWatcher(s.nodes[0])
		if err != nil {
			return nil, err
		}
		s.watchers = append(s.watchers, watcher)
		query.Add("addr", watcher.Addr)
	}
	s.URL = "redis://" + s.watchers[0].Addr + "/0?" + query.Encode()
	return s, s.agreed(ctx, s.nodes[0])
}

// launchWatcher starts a sentinel. Its file is its own: it writes there what it
// learns.
func launchWatcher(master *Server) (*Server, error) {
	host, port, _ := strings.Cut(master.Addr, ":")
	watcher, err := launch(func(s *Server, own int) error {
		file := filepath.Join(s.dir, "sentinel.conf")
		s.args = []string{file, "--sentinel"}
		return os.WriteFile(file, []byte(strings.Join([]string{
			"bind 127.0.0.1", "port " + strconv.Itoa(own), "dir " + s.dir, "loglevel warning",
			fmt.Sprintf("sentinel monitor %s %s %s %d", masterName, host, port, quorum),
			"sentinel down-after-milliseconds " + masterName + " 1000",
			"sentinel failover-timeout " + masterName + " 3000", "",
		}, "\n")), 0o600)
	})
	if err != nil {
		return nil, err
	}
	// With the defaults, the sentinels need seconds to find each other, and one that
	// was not scheduled for two seconds does nothing for half a minute (tilt mode).
	err = watcher.ask(func(rdb *redis.Client) error {
		return rdb.Do(context.Background(), "SENTINEL", "DEBUG", "PUBLISH-PERIOD", "200", "INFO-PERIOD", "500", "ASK-PERIOD", "200",
			"PING-PERIOD", "200", "TILT-TRIGGER", "20000", "TILT-PERIOD", "1000").Err()
	})
	if err != nil {
		watcher.Close()
		return nil, fmt.Errorf("set up a sentinel: %w", err)
	}
	return watcher, nil
}

// Client is a new client that goes where the master is, closed at the end of the
// test.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	o, err := redis.ParseFailoverURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries = true, 1
	rdb := redis.NewFailoverClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// Part lets the replica get nothing any more of what is written, so that the next
// failover loses it.
func (s *Sentinel) Part(ctx context.Context) error {
	master, _ := s.parts()
	return part(ctx, master)
}

func (s *Sentinel) parts() (master, replica *Server) {
	if role(s.nodes[0]) == "master" {
		return s.nodes[0], s.nodes[1]
	}
	return s.nodes[1], s.nodes[0]
}

// Failover kills the master and waits until the replica has taken its place and
// all sentinels say so.
func (s *Sentinel) Failover(ctx context.Context) error {
	if s.gone != nil {
		return errors.New("the last master that was killed has not been brought back")
	}
	master, replica := s.parts()
	master.Kill()
	s.gone = master
	return s.agreed(ctx, replica)
}

// Return starts the master that was killed as the replica of the one that took
// its place, and waits until it has what that one has.
func (s *Sentinel) Return(ctx context.Context) error {
	back := s.gone
	if back == nil {
		return errors.New("no master was killed")
	}
	master := s.nodes[0]
	if master == back {
		master = s.nodes[1]
	}
	if err := back.Again(); err != nil {
		return err
	}
	s.gone = nil
	return follow(ctx, back, master)
}

// Close ends all of them and removes their data.
func (s *Sentinel) Close() {
	for _, server := range append(s.watchers, s.nodes...) {
		server.Kill()
		server.Close()
	}
}

func follow(ctx context.Context, replica, master *Server) error {
	host, port, _ := strings.Cut(master.Addr, ":")
	err := replica.ask(func(rdb *redis.Client) error { return rdb.ReplicaOf(ctx, host, port).Err() })
	if err != nil {
		return fmt.Errorf("make a replica: %w", err)
	}
	return poll(ctx, "the replica has what the master has", func() bool { return linked(replica) })
}

// agreed waits until every sentinel takes a server for the master, and knows
// enough to replace it.
func (s *Sentinel) agreed(ctx context.Context, master *Server) error {
	return poll(ctx, "the sentinels agree on the master", func() bool {
		for _, watcher := range s.watchers {
			if !watches(ctx, watcher, master, s.gone == nil) {
				return false
			}
		}
		return role(master) == "master"
	})
}

// watches says whether a sentinel takes a server for the master, knows the other
// sentinels and, where there should be one, a replica.
func watches(ctx context.Context, watcher, master *Server, replica bool) (ok bool) {
	_ = watcher.ask(func(rdb *redis.Client) error {
		known, err := redis.NewSentinelClient(rdb.Options()).Master(ctx, masterName).Result()
		ok = err == nil && known["ip"]+":"+known["port"] == master.Addr && known["num-other-sentinels"] == strconv.Itoa(watchers-1) &&
			known["flags"] == "master" && (!replica || known["num-slaves"] == "1")
		return err
	})
	return ok
}
