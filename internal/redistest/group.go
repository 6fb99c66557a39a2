package redistest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// settleWithin is how long several servers may take to find each other, on a
// overloaded machine.
const settleWithin = time.Minute

// ask lets do talk to one server, without retries.
func (s *Server) ask(do func(*redis.Client) error) error {
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr, MaxRetries: -1, DialerRetries: 1, DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	return do(rdb)
}

// replication is what a server says of its part, "" where it does not answer.
func replication(s *Server) (text string) {
	_ = s.ask(func(rdb *redis.Client) (err error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
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

// linked says that a replica has what its master has.
func linked(s *Server) bool {
	text := replication(s)
	return strings.Contains(text, "role:slave") && strings.Contains(text, "master_link_status:up")
}

// part lets a master's replicas get nothing any more of what is written.
func part(ctx context.Context, master *Server) error {
	return master.ask(func(rdb *redis.Client) error {
		if err := rdb.Do(ctx, "ACL", "SETUSER", "default", "-psync", "-sync").Err(); err != nil {
			return fmt.Errorf("forbid replication: %w", err)
		}
		return rdb.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err()
	})
}

// poll checks a condition until it holds or ctx ends.
func poll(ctx context.Context, what string, holds func() bool) error {
	tick := time.NewTicker(4 * pingInterval)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("never came true: %s: %w", what, context.Cause(ctx))
		}
	}
	return nil
}
