// Package dispatch delivers events to callback URLs. The [Dispatcher] reads the results
// stream and enqueues a task for each event whose request has a callback URL; the [Lane]
// handles these tasks.
package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kyclink/kyclink/internal/delivery"
	"github.com/kyclink/kyclink/internal/failpoint"
	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/tasks"
)

const (
	taskType       = "kyclink:callback"
	taskTimeout    = 24 * time.Hour // asynq's; a handler has its own, of seconds
	batchSize      = 100            // events that are read and opened at a time
	enqueuedAtOnce = 16
	claimAfter     = 15 * time.Second
)

// Opener creates the deliveries of events.
type Opener interface {
	// Open creates the deliveries of the events whose requests have a callback
	// URL, and returns the ones to attempt. Repeating it changes nothing.
	Open(ctx context.Context, events []tasks.Event) ([]delivery.Task, error)
}

// payload is the payload of a delivery's task, whose id is the event's.
type payload struct {
	ApplicationID string `json:"application_id"`
	Host          string `json:"host"`
	Again         int    `json:"again,omitempty"`
}

// Enqueue enqueues the task of a delivery. fresh is false if the task exists already.
func Enqueue(ctx context.Context, queue *asynq.Client, account string, d delivery.Task) (fresh bool, err error) {
	content, err := json.Marshal(payload{d.ApplicationID, d.Host, d.RestartAfter})
	if err != nil {
		return false, fmt.Errorf("encode the callback of %s: %w", d.EventID, err)
	}
	_, err = queue.EnqueueContext(ctx, asynq.NewTask(taskType, content),
		asynq.TaskID(d.EventID),
		asynq.Queue(keyspace.Keys{Account: account}.Queue(request.Callbacks)),
		asynq.MaxRetry(math.MaxInt32), // the lane decides when to stop
		asynq.Timeout(taskTimeout),
	)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("enqueue the callback of %s: %w", d.EventID, err)
	}
	return true, nil
}

// Dispatcher enqueues a task for each event whose request has a callback URL, whatever
// caused the event.
type Dispatcher struct {
	opener  Opener
	queue   *asynq.Client
	account string
	results *tasks.Results
}

// DispatcherConfig configures a [Dispatcher].
type DispatcherConfig struct {
	// Redis is the client for reads that block until an event is published.
	Redis   redis.UniversalClient
	Account string
	Opener  Opener
	Queue   *asynq.Client
	Limited *zap.Logger
}

// NewDispatcher returns a dispatcher.
func NewDispatcher(cfg DispatcherConfig) *Dispatcher {
	return &Dispatcher{
		opener: cfg.Opener, queue: cfg.Queue, account: cfg.Account,
		results: tasks.NewResults(cfg.Redis, tasks.ResultsConfig{
			Account: cfg.Account, Group: delivery.Group, Consumer: uuid.NewString(), Concurrency: 4, ClaimAfter: claimAfter,
			OnError: func(err error) { cfg.Limited.Warn("dispatching callbacks failed; retrying", zap.Error(err)) },
		}),
	}
}

// Run dispatches until ctx is done.
func (d *Dispatcher) Run(ctx context.Context) error {
	return d.results.RunBatches(ctx, batchSize, d.dispatch)
}

// dispatch may be interrupted anywhere: the events are then read again, and the repeated
// steps change nothing.
func (d *Dispatcher) dispatch(ctx context.Context, events []tasks.Event) error {
	opened, err := d.opener.Open(ctx, events)
	if err != nil {
		return err
	}
	failpoint.Hit("opened")
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(enqueuedAtOnce)
	for _, one := range opened {
		group.Go(func() error {
			_, err := Enqueue(ctx, d.queue, d.account, one)
			return err
		})
	}
	err = group.Wait()
	failpoint.Hit("dispatched")
	return err
}
