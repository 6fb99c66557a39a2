package main

import (
	"fmt"
	"math"
	"net"
	"sync"
	"syscall"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/config"
)

const (
	// opsConnections is how many connections for health and metrics there are at a
	// time.
	opsConnections = 32
	// otherFiles is for what else a process opens: standard streams, listeners, logs,
	// certificates, name servers.
	otherFiles = 32
	// clusterNodes is to how many servers of a cluster there may be connections.
	clusterNodes = 6
	// leastConnections is for how many HTTP connections the API starts, and
	// mostConnections how many it takes however many files it may open: each costs
	// memory, too.
	leastConnections = 16
	mostConnections  = 32_768
)

// httpConnections is how many connections the API may take, so that Redis, health
// and metrics never lack a file descriptor.
func httpConnections(clients ...redis.UniversalClient) (int, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	needed := opsConnections + otherFiles
	for _, rdb := range clients {
		needed += redisConnections(rdb)
	}
	most := int(min(files.Cur, math.MaxInt32)) - needed
	if most < leastConnections {
		return 0, &config.Error{Problems: []string{fmt.Sprintf("ulimit -n is %d, and serve needs at least %d: %d for Redis, health and metrics, "+
			"the others for HTTP connections; raise it, or lower pool_size in KYCLINK_REDIS_URL", files.Cur, needed+leastConnections, needed)}}
	}
	return min(most, mostConnections), nil
}

// redisConnections is how many connections to Redis there are at most.
func redisConnections(rdb redis.UniversalClient) int {
	switch rdb := rdb.(type) {
	case *redis.Client:
		return rdb.Options().PoolSize
	case *redis.ClusterClient:
		return rdb.Options().PoolSize * clusterNodes
	}
	return 0
}

// limitedListener has so many connections at a time; others wait in the system's
// queue.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	close  func()
	full   func()
}

// limit calls full whenever a connection has to wait.
func limit(l net.Listener, connections int, full func()) net.Listener {
	closed := make(chan struct{})
	return &limitedListener{l, make(chan struct{}, connections), closed, sync.OnceFunc(func() { close(closed) }), full}
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	default:
		l.full()
		select {
		case l.places <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{conn, sync.OnceFunc(func() { <-l.places })}, nil
}

func (l *limitedListener) Close() error {
	l.close()
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	leave func()
}

func (c *limitedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

// CloseWrite lets net/http end a connection so that its last answer arrives.
func (c *limitedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
