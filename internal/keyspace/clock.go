package keyspace

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Clock is a query of the time, whose answer is there once its pipeline is executed.
type Clock struct{ cmd *redis.Cmd }

// Clock queries the server that has the account's keys, whose clock the scripts use. In a
// cluster, a plain TIME would ask any node.
func (k Keys) Clock(ctx context.Context, rdb redis.Cmdable) Clock {
	return Clock{rdb.Eval(ctx, "return redis.call('TIME')", []string{k.Tag()})}
}

// Time returns the answer.
func (c Clock) Time() (time.Time, error) {
	parts, err := c.cmd.Int64Slice()
	if err == nil && len(parts) != 2 {
		err = fmt.Errorf("it has %d parts", len(parts))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read Redis' time: %w", err)
	}
	return time.Unix(parts[0], parts[1]*1000), nil
}

// Node returns the node of a cluster that has the account's keys, for commands that
// name no key; rdb itself where that is no cluster.
func (k Keys) Node(ctx context.Context, rdb redis.UniversalClient) (redis.Cmdable, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return rdb, nil
	}
	node, err := cluster.MasterForKey(ctx, k.Tag())
	if err != nil {
		return nil, fmt.Errorf("find the node that has the account: %w", err)
	}
	return node, nil
}
