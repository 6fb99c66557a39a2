package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// topology is a group of Redis servers with failover.
type topology interface {
	fail(ctx context.Context, random uint64) error // kills a master and waits for its replacement
	Rejoin(ctx context.Context) error              // restarts the killed server as a replica
	Close()
}

// replicated is a Redis with failover, which may lose the latest acknowledged writes.
// Clients connect to the addresses that it announces, so there is no proxy.
type replicated struct {
	topology
	mode, url string
	connect   func() redis.UniversalClient
	down      bool
}

// formTimeout is the maximum time in which the servers form a group or fail over.
const formTimeout = 2 * time.Minute

func openSentinel() (*replicated, error) {
	ctx, cancel := context.WithTimeout(context.Background(), formTimeout)
	defer cancel()
	s, err := redistest.LaunchSentinel(ctx, "--appendonly", "yes")
	if err != nil {
		return nil, err
	}
	o, err := redis.ParseFailoverURL(s.URL)
	if err != nil {
		s.Close()
		return nil, err
	}
	o.ContextTimeoutEnabled, o.DialerRetries = true, 1
	return &replicated{
		topology: sentinel{s}, mode: "sentinel", url: s.URL,
		connect: func() redis.UniversalClient { return redis.NewFailoverClient(o) },
	}, nil
}

type sentinel struct{ *redistest.Sentinel }

func (s sentinel) fail(ctx context.Context, _ uint64) error { return s.Failover(ctx) }

func openCluster() (*replicated, error) {
	ctx, cancel := context.WithTimeout(context.Background(), formTimeout)
	defer cancel()
	c, err := redistest.LaunchCluster(ctx, "--appendonly", "yes")
	if err != nil {
		return nil, err
	}
	o, err := redis.ParseClusterURL(c.URL)
	if err != nil {
		c.Close()
		return nil, err
	}
	o.ContextTimeoutEnabled, o.DialerRetries, o.ClusterStateReloadInterval = true, 1, time.Second
	return &replicated{
		topology: cluster{c}, mode: "cluster", url: c.URL,
		connect: func() redis.UniversalClient { return redis.NewClusterClient(o) },
	}, nil
}

type cluster struct{ *redistest.Cluster }

// fail kills the master of the ledger's keys or of a lane's queue.
func (c cluster) fail(ctx context.Context, random uint64) error {
	keys := []string{
		"{kyclink:" + account + "}", "asynq:{kyclink:" + account + ":interactive}", "asynq:{kyclink:" + account + ":bulk}",
	}
	return c.Failover(ctx, keys[random%uint64(len(keys))])
}

func (s *replicated) settings() []string {
	return []string{"KYCLINK_REDIS_MODE=" + s.mode, "KYCLINK_REDIS_URL=" + s.url}
}

func (s *replicated) client(bool) redis.UniversalClient { return s.connect() }

func (s *replicated) kinds() []kind {
	return []kind{{"redis-failover", "redis", time.Second, 4 * time.Second, s.failOver}}
}

func (s *replicated) failOver(ctx context.Context, o injection) error {
	ctx, cancel := context.WithTimeout(ctx, formTimeout)
	defer cancel()
	s.down = true
	if err := s.fail(ctx, o.random); err != nil {
		return err
	}
	o.wait()
	return s.restore(ctx)
}

func (s *replicated) restore(ctx context.Context) error {
	if !s.down {
		return nil
	}
	s.down = false
	return s.Rejoin(ctx)
}

func (*replicated) losesWrites() bool { return true }

func (*replicated) disruptions() *disruptions { return &disruptions{} }

func (*replicated) dataFiles() []string { return nil }

func (s *replicated) close() { s.Close() }
