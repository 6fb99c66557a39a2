// Command outside is a module of somebody else: it requests a link, runs a worker
// with an upstream of its own, and prints the result, with nothing but what tasks
// and worker export.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/tasks"
	"github.com/kyclink/kyclink/worker"
)

const account = "outside"

// upstream makes links without calling anybody. It is busy at a request's first call.
type upstream struct{}

func (upstream) Ready(context.Context) *worker.Fault { return nil }

func (upstream) Connect(context.Context) *worker.Fault { return nil }

func (upstream) CreateLink(ctx context.Context, a worker.Attempt) (worker.Link, *worker.Fault) {
	switch {
	case ctx.Err() != nil || !a.SendBy.IsZero() && time.Now().After(a.SendBy):
		return worker.Link{}, &worker.Fault{Kind: worker.Interrupted}
	case a.Number == 1:
		return worker.Link{}, &worker.Fault{Kind: worker.Unavailable, Detail: "busy"}
	}
	url := fmt.Sprintf("https://links.example/%s/%d?back=%s", a.ApplicationID, a.Generation, a.Settings.RedirectURL)
	return worker.Link{LinkID: "id-" + a.ApplicationID, URL: url}, nil
}

func main() {
	if err := run(os.Getenv("REDIS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	client := tasks.NewClient(rdb, tasks.Config{Account: account})
	if _, err := client.Enqueue(ctx, tasks.Request{ApplicationID: "A-1", RedirectURL: "https://shop.example/done"}); err != nil {
		return err
	}

	w := worker.New(rdb, upstream{}, worker.Config{
		Account: worker.Account{Name: account, Simulated: true, Rate: worker.Rate{N: 100, Per: time.Second}, Burst: 10},
		Retry:   worker.Retry{BackoffBase: time.Millisecond, BackoffCap: time.Millisecond},
	})
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(working) }()
	link, err := client.Wait(ctx, "A-1")
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	if link.Status != tasks.Created {
		return fmt.Errorf("the request is %s: %s", link.Status, link.Reason)
	}

	results := tasks.NewResults(rdb, tasks.ResultsConfig{Account: account, Group: "crm", From: "0"})
	return results.Drain(ctx, 10, func(_ context.Context, events []tasks.Event) error {
		for _, e := range events {
			fmt.Println(e.Type, e.Data.ApplicationID, e.Data.URL, e.Data.Attempts)
		}
		return nil
	})
}
