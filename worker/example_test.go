package worker_test

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

// invented makes links without calling anybody.
type invented struct{}

func (invented) Ready(context.Context) *worker.Fault   { return nil }
func (invented) Connect(context.Context) *worker.Fault { return nil }

func (invented) CreateLink(_ context.Context, a worker.Attempt) (worker.Link, *worker.Fault) {
	if a.ApplicationID == "unknown" {
		return worker.Link{}, &worker.Fault{Kind: worker.BadRequest, Detail: "no such applicant"}
	}
	return worker.Link{LinkID: "L-" + a.ApplicationID, URL: "https://kyc.example/" + a.ApplicationID}, nil
}

// A worker with its own upstream. Producers enqueue requests for the same account with
// package tasks, and read the links from the results stream.
func ExampleNew() {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:6379"})
	w := worker.New(rdb, invented{}, worker.Config{
		Account: worker.Account{Name: "demo", Rate: worker.Rate{N: 20, Per: time.Second}, Burst: 5},
		Calls:   worker.Calls{Concurrency: 20},
	})
	client := tasks.NewClient(rdb, tasks.Config{Account: "demo"})

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if _, err := client.Enqueue(ctx, tasks.Request{ApplicationID: "A-1001"}); err != nil {
		fmt.Println(err)
		return
	}
	if err := w.Run(ctx); err != nil { // until the signal; then it drains
		fmt.Println(err)
	}
}
