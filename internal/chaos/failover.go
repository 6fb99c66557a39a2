package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

// topology is several servers of which one takes another's place.
type topology interface {
	fail(ctx context.Context, chance uint64) error // kills a master, and returns when it is replaced
	Rejoin(ctx context.Context) error              // brings it back, as a replica
	Close()
}

// several is a Redis that fails over. What was acknowledged a moment before may
// be lost by it. Clients go where it sends them, so that there is no road to it.
type several struct {
	topology
	mode, url string
	connect   func() redis.UniversalClient
	gone      bool
}

// settleWithin is how long several servers may take to find each other.
const settleWithin = 2 * time.Minute

func openSentinel() (*several, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
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
	return &several{
		topology: sentinel{s}, mode: "sentinel", url: s.URL,
		connect: func() redis.UniversalClient { return redis.NewFailoverClient(o) },
	}, nil
}

type sentinel struct{ *redistest.Sentinel }

func (s sentinel) fail(ctx context.Context, _ uint64) error { return s.Failover(ctx) }

func openCluster() (*several, error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
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
	return &several{
		topology: cluster{c}, mode: "cluster", url: c.URL,
		connect: func() redis.UniversalClient { return redis.NewClusterClient(o) },
	}, nil
}

type cluster struct{ *redistest.Cluster }

// fail takes the node that has the ledger, or that of a lane's queue.
func (c cluster) fail(ctx context.Context, chance uint64) error {
	keys := []string{
		"{kyclink:" + account + "}", "asynq:{kyclink:" + account + ":interactive}", "asynq:{kyclink:" + account + ":bulk}",
	}
	return c.Failover(ctx, keys[chance%uint64(len(keys))])
}

func (s *several) settings() []string {
	return []string{"KYCLINK_REDIS_MODE=" + s.mode, "KYCLINK_REDIS_URL=" + s.url}
}

func (s *several) client(bool) redis.UniversalClient { return s.connect() }

func (s *several) kinds() []kind {
	return []kind{{"redis-failover", "redis", time.Second, 4 * time.Second, s.failOver}}
}

func (s *several) failOver(ctx context.Context, o occasion) error {
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	s.gone = true
	if err := s.fail(ctx, o.chance); err != nil {
		return err
	}
	o.wait()
	return s.heal(ctx)
}

func (s *several) heal(ctx context.Context) error {
	if !s.gone {
		return nil
	}
	s.gone = false
	return s.Rejoin(ctx)
}

func (*several) forgets() bool { return true }

func (*several) upsets() *upsets { return &upsets{} }

func (*several) written() []string { return nil }

func (s *several) close() { s.Close() }
