// Package connection keeps the connections of a process within its limit of open files.
package connection

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/config"
)

const (
	// Ops is how many connections for health and metrics there are at a time.
	Ops = 32
	// otherFiles is the number of other files of a process: standard streams, listeners,
	// logs, certificates, name servers.
	otherFiles = 32
	// clusterNodes is the number of servers of a cluster that a process connects to.
	clusterNodes = 6
	// fewest is how many HTTP connections the API needs to start, and most how many it
	// accepts whatever the limit of open files: each also costs memory.
	fewest = 16
	most   = 32_768
)

// Require returns a settings error if the process may open fewer files than it needs,
// besides those that every process has open: it would hang as soon as it is busy.
func Require(files int) error {
	limit, err := openFiles()
	if err != nil {
		return err
	}
	if files += otherFiles; limit >= files {
		return nil
	}
	return &config.Error{Problems: []string{fmt.Sprintf("ulimit -n is %d, and this command needs up to %d open files; raise it "+
		"(LimitNOFILE= in systemd), or lower KYCLINK_CONCURRENCY, or pool_size in KYCLINK_REDIS_URL", limit, files)}}
}

// Available is how many HTTP connections the API may accept, so that Redis, health and
// metrics never lack a file descriptor.
func Available(clients ...redis.UniversalClient) (int, error) {
	limit, err := openFiles()
	if err != nil {
		return 0, err
	}
	needed := Ops + otherFiles
	for _, rdb := range clients {
		needed += redisConnections(rdb)
	}
	available := limit - needed
	if available < fewest {
		return 0, &config.Error{Problems: []string{fmt.Sprintf("ulimit -n is %d, and serve needs at least %d: %d for Redis, health and metrics, "+
			"the others for HTTP connections; raise it, or lower pool_size in KYCLINK_REDIS_URL", limit, needed+fewest, needed)}}
	}
	return min(available, most), nil
}

// redisConnections is how many connections a client opens at most.
func redisConnections(rdb redis.UniversalClient) int {
	switch rdb := rdb.(type) {
	case *redis.Client:
		return rdb.Options().PoolSize
	case *redis.ClusterClient:
		return rdb.Options().PoolSize * clusterNodes
	}
	return 0
}
