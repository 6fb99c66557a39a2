package keyspace

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Clock is a query of Redis' time. Its result is available after its pipeline has run.
type Clock struct{ cmd *redis.Cmd }

// Clock queries the time of the server that stores the account's keys, which is the clock of
// the scripts. In a cluster, a plain TIME command would go to any node.
func (k Keys) Clock(ctx context.Context, rdb redis.Cmdable) Clock {
	return Clock{rdb.Eval(ctx, "return redis.call('TIME')", []string{k.Tag()})}
}

// Time returns the result.
func (c Clock) Time() (time.Time, error) {
	parts, err := c.cmd.Int64Slice()
	if err == nil && len(parts) != 2 {
		err = fmt.Errorf("unexpected reply with %d parts", len(parts))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("read Redis' time: %w", err)
	}
	return time.Unix(parts[0], parts[1]*1000), nil
}

// Node returns the cluster node that stores the account's keys, for commands without a key;
// rdb itself if it is not a cluster client.
func (k Keys) Node(ctx context.Context, rdb redis.UniversalClient) (redis.Cmdable, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return rdb, nil
	}
	node, err := cluster.MasterForKey(ctx, k.Tag())
	if err != nil {
		return nil, fmt.Errorf("find the node of the account: %w", err)
	}
	return node, nil
}
