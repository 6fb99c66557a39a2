// Package embedded runs a Redis in this process, for a job that needs none of its own.
// What it stores ends with the process.
package embedded

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Connections is how many connections the client opens at most. Both ends of each are in
// this process.
const Connections = 100

// Redis starts a Redis on a loopback port, with a random password, and returns its client.
// The function closes both.
func Redis() (redis.UniversalClient, func(), error) {
	server := miniredis.NewMiniRedis()
	password := rand.Text()
	server.RequireAuth(password)
	if err := server.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the embedded Redis: %w", err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: password, DisableIdentity: true, PoolSize: Connections})

	// miniredis expires no key until its clock is advanced.
	stop := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				server.FastForward(time.Second)
			}
		}
	})
	return rdb, func() {
		close(stop)
		ticking.Wait()
		_ = rdb.Close()
		server.Close()
	}, nil
}
