// Command consumer reads results as one consumer of a group, for a test that kills it.
// It counts how often it handled each event in a hash. If HANG is set, its handlers do
// not return.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/tasks"
)

func main() {
	rdb := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS")})
	results := tasks.NewResults(rdb, tasks.ResultsConfig{
		Account: os.Getenv("ACCOUNT"), Group: "crm", Consumer: os.Getenv("CONSUMER"), Concurrency: 20,
		ClaimAfter: 5 * time.Second, OnError: func(err error) { fmt.Fprintln(os.Stderr, err) },
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := results.Run(ctx, func(ctx context.Context, e tasks.Event) error {
		if os.Getenv("HANG") != "" {
			rdb.HIncrBy(ctx, os.Getenv("ACCOUNT")+":hung", e.ID, 1)
			<-ctx.Done()
			return ctx.Err()
		}
		return rdb.HIncrBy(ctx, os.Getenv("ACCOUNT")+":done", e.ID, 1).Err()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
