// Package operator carries out operator actions on an account: it retries and drops failed
// and held requests and given-up deliveries, cancels and refreshes batches, erases
// requests, publishes events again, and reads the history of a request. It neither parses
// flags nor prints.
package operator

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/linkview"
	"github.com/kyclink/kyclink/internal/quarantine"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Operator acts on one account.
type Operator struct {
	rdb     redis.UniversalClient
	stores  *storage.Stores
	queue   *asynq.Client
	account string
}

// New returns an operator of an account, which uses rdb and does not close it.
func New(rdb redis.UniversalClient, account string) *Operator {
	return &Operator{
		rdb: rdb, stores: storage.Of(rdb, account),
		queue: asynq.NewClientFromRedisClient(rdb), account: account,
	}
}

// Link returns the public form of a request, with the name of its batch.
func (o *Operator) Link(ctx context.Context, r request.Record) (tasks.Link, error) {
	batch, err := o.stores.Batches.Name(ctx, r.Batch)
	return linkview.Of(r, batch, time.Now()), err
}

// Quarantined reads the tasks and records that no worker could decode, the latest first.
func (o *Operator) Quarantined(ctx context.Context) iter.Seq2[quarantine.Entry, error] {
	return o.stores.Quarantine.All(ctx)
}

// Now returns the time of Redis' clock, which all processes share.
func (o *Operator) Now(ctx context.Context) (time.Time, error) {
	now, err := o.stores.Keys.Clock(ctx, o.rdb).Time()
	if err != nil {
		return now, fmt.Errorf("read the time of Redis: %w", err)
	}
	return now, nil
}

// ParseTime parses a time in RFC 3339, or an age such as 2h, which is subtracted from now.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time such as 2026-12-01T00:00:00Z nor an age such as 2h", text)
	}
	return t, nil
}
