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
	sentinels  = 3
	quorum     = 2
)

// Sentinel is a master with one replica, and three sentinels that promote the replica
// about two seconds after the master fails. A Sentinel is not safe for concurrent use.
type Sentinel struct {
	// URL contains the addresses of the sentinels, in the form of redis.ParseFailoverURL.
	URL string

	nodes     []*Server // either may be the master
	sentinels []*Server
	down      *Server // the killed master, if any
}

// StartSentinel runs the servers until the end of the test. The arguments are those of
// the master and the replica.
func StartSentinel(t testing.TB, args ...string) *Sentinel {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), formTimeout)
	defer cancel()
	s, err := LaunchSentinel(ctx, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// LaunchSentinel is [StartSentinel] without a test. The caller calls [Sentinel.Close].
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
	if err := replicate(ctx, s.nodes[1], s.nodes[0]); err != nil {
		return nil, err
	}
	query := url.Values{"master_name": {masterName}}
	for range sentinels {
		sentinel, err := launchSentinel(s.nodes[0])
		if err != nil {
			return nil, err
		}
		s.sentinels = append(s.sentinels, sentinel)
		query.Add("addr", sentinel.Addr)
	}
	s.URL = "redis://" + s.sentinels[0].Addr + "/0?" + query.Encode()
	return s, s.awaitAgreement(ctx, s.nodes[0])
}

// launchSentinel starts one sentinel.
func launchSentinel(master *Server) (*Server, error) {
	host, port, _ := strings.Cut(master.Addr, ":")
	sentinel, err := launch(func(s *Server, own int) error {
		file := filepath.Join(s.dir, "sentinel.conf") // the sentinel rewrites it
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
	// With the default intervals, sentinels take seconds to discover each other, and a
	// sentinel that is not scheduled for two seconds pauses for 30 s (TILT mode).
	err = sentinel.query(func(rdb *redis.Client) error {
		return rdb.Do(context.Background(), "SENTINEL", "DEBUG", "PUBLISH-PERIOD", "200", "INFO-PERIOD", "500", "ASK-PERIOD", "200",
			"PING-PERIOD", "200", "TILT-TRIGGER", "20000", "TILT-PERIOD", "1000").Err()
	})
	if err != nil {
		sentinel.Close()
		return nil, fmt.Errorf("configure a sentinel: %w", err)
	}
	return sentinel, nil
}

// Client returns a new client that follows the master. It is closed at the end of the
// test.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	t.Helper()
	o, err := redis.ParseFailoverURL(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.PoolSize = true, 1, poolSize
	rdb := redis.NewFailoverClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// StopReplication stops replication to the replica, so that the next failover loses later
// writes.
func (s *Sentinel) StopReplication(ctx context.Context) error {
	master, _ := s.roles()
	return stopReplication(ctx, master)
}

func (s *Sentinel) roles() (master, replica *Server) {
	if role(s.nodes[0]) == "master" {
		return s.nodes[0], s.nodes[1]
	}
	return s.nodes[1], s.nodes[0]
}

// Failover kills the master, and waits until the replica has been promoted and all
// sentinels agree.
func (s *Sentinel) Failover(ctx context.Context) error {
	if s.down != nil {
		return errors.New("the killed master has not rejoined yet")
	}
	master, replica := s.roles()
	master.Kill()
	s.down = master
	return s.awaitAgreement(ctx, replica)
}

// Rejoin restarts the killed server as a replica of the new master, and waits until it is
// in sync.
func (s *Sentinel) Rejoin(ctx context.Context) error {
	replica := s.down
	if replica == nil {
		return errors.New("no master is down")
	}
	master := s.nodes[0]
	if master == replica {
		master = s.nodes[1]
	}
	if err := replica.Relaunch(); err != nil {
		return err
	}
	s.down = nil
	return replicate(ctx, replica, master)
}

// Close kills all servers and removes their data.
func (s *Sentinel) Close() {
	for _, server := range append(s.sentinels, s.nodes...) {
		server.Kill()
		server.Close()
	}
}

func replicate(ctx context.Context, replica, master *Server) error {
	host, port, _ := strings.Cut(master.Addr, ":")
	err := replica.query(func(rdb *redis.Client) error { return rdb.ReplicaOf(ctx, host, port).Err() })
	if err != nil {
		return fmt.Errorf("make a replica: %w", err)
	}
	return poll(ctx, "the replica is in sync with its master", func() bool { return inSync(replica) })
}

// awaitAgreement waits until every sentinel monitors the master and is able to replace it.
func (s *Sentinel) awaitAgreement(ctx context.Context, master *Server) error {
	return poll(ctx, "the sentinels agree on the master", func() bool {
		for _, sentinel := range s.sentinels {
			if !monitors(ctx, sentinel, master, s.down == nil) {
				return false
			}
		}
		return role(master) == "master"
	})
}

// monitors reports whether a sentinel considers the server a healthy master, and knows the
// other sentinels and, if expected, a replica.
func monitors(ctx context.Context, sentinel, master *Server, replica bool) (ok bool) {
	_ = sentinel.query(func(rdb *redis.Client) error {
		known, err := redis.NewSentinelClient(rdb.Options()).Master(ctx, masterName).Result()
		ok = err == nil && known["ip"]+":"+known["port"] == master.Addr && known["num-other-sentinels"] == strconv.Itoa(sentinels-1) &&
			known["flags"] == "master" && (!replica || known["num-slaves"] == "1")
		return err
	})
	return ok
}
