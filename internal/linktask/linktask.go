// Package linktask enqueues the asynq tasks that make workers process requests. Each
// enqueueing of a request is a turn, whose task ID is unique, so that enqueueing the
// same turn twice has no effect.
package linktask

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/hibiken/asynq"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// Type is the asynq type of the tasks. Their payload is empty: the ledger has the
// request.
const Type = "kyclink:link"

// timeout is longer than any handler runs. With asynq's default of 30 minutes, a request
// that waits for the gate would be started a second time.
const timeout = 24 * time.Hour

// Enqueue enqueues the task of a turn. It also succeeds if the task exists already,
// because it is that of the same turn.
func Enqueue(ctx context.Context, queue *asynq.Client, account string, lane request.Lane, turn request.Ref) error {
	_, err := queue.EnqueueContext(ctx, asynq.NewTask(Type, nil),
		asynq.TaskID(turn.String()),
		asynq.Queue(keyspace.Keys{Account: account}.Queue(lane)),
		asynq.MaxRetry(math.MaxInt32), // the worker decides when to stop
		asynq.Timeout(timeout),
	)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue the task of %s: %w", turn.ApplicationID, err)
	}
	return nil
}
