package redistest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// formTimeout is the maximum time in which several servers form a group. It allows for an
// overloaded machine.
const formTimeout = 4 * time.Minute

// query calls do with a client of the server that does not retry.
func (s *Server) query(do func(*redis.Client) error) error {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	return do(rdb)
}

// replication returns the replication section of INFO, or "" if the server does not answer.
func replication(s *Server) (text string) {
	_ = s.query(func(rdb *redis.Client) (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout) // no answer is not taken for another role
		defer cancel()
		text, err = rdb.Info(ctx, "replication").Result()
		return err
	})
	return text
}

func role(s *Server) string {
	_, rest, _ := strings.Cut(replication(s), "role:")
	name, _, _ := strings.Cut(rest, "\r\n")
	return name
}

// inSync reports whether the server is a replica in sync with its master.
func inSync(s *Server) bool {
	text := replication(s)
	return strings.Contains(text, "role:slave") && strings.Contains(text, "master_link_status:up")
}

// stopReplication denies replication to a master's replicas and disconnects them.
func stopReplication(ctx context.Context, master *Server) error {
	return master.query(func(rdb *redis.Client) error {
		if err := rdb.Do(ctx, "ACL", "SETUSER", "default", "-psync", "-sync").Err(); err != nil {
			return fmt.Errorf("deny replication: %w", err)
		}
		return rdb.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err()
	})
}

// poll waits until a condition holds or ctx ends.
func poll(ctx context.Context, condition string, holds func() bool) error {
	tick := time.NewTicker(4 * pingInterval)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", condition, context.Cause(ctx))
		}
	}
	return nil
}
