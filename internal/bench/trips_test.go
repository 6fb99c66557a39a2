package main

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/redistest"
)

func TestCounter_CountsRoundTripsNotCommands(t *testing.T) {
	server := redistest.Start(t)
	c, err := startCounter(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	rdb := redis.NewClient(&redis.Options{Addr: c.addr(), PoolSize: 1, DisableIdentity: true, Protocol: 2})
	defer func() { _ = rdb.Close() }()
	ctx := t.Context()
	pipeline := func() error {
		_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for range 50 {
				pipe.Incr(ctx, "n")
			}
			return nil
		})
		return err
	}
	// Every connection starts with a handshake, and pipelines use a separate connection.
	if err := errors.Join(rdb.Ping(ctx).Err(), pipeline()); err != nil {
		t.Fatal(err)
	}
	trips := func(what string, want int64, do func() error) {
		t.Helper()
		before := c.trips.Load()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		if got := c.trips.Load() - before; got != want {
			t.Errorf("%s: got %d round trips, want %d", what, got, want)
		}
	}
	trips("a command", 1, func() error { return rdb.Set(ctx, "k", "v", 0).Err() })
	trips("a long command", 1, func() error { return rdb.Set(ctx, "k", make([]byte, 1<<20), 0).Err() })
	trips("a long answer", 1, func() error { return rdb.Get(ctx, "k").Err() })
	trips("a script", 1, func() error {
		return rdb.Eval(ctx, `for i = 1, 10 do redis.call("INCR", KEYS[1]) end return 1`, []string{"n"}).Err()
	})
	trips("a pipeline", 1, pipeline)
}
