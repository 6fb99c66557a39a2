// Package linktask enqueues the asynq tasks that make workers process requests. Each
// enqueueing of a request is a turn, whose task ID is unique, so that enqueueing the
// same turn twice has no effect. A bundle is a task that stands for the turns of several
// bulk requests.
package linktask

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"

	"github.com/kyclink/kyclink/internal/keyspace"
	"github.com/kyclink/kyclink/internal/request"
)

// The asynq types of the tasks. That of a turn has an empty payload: its ID names the turn.
// The payload of a bundle names its turns, one in each line.
const (
	Type       = "kyclink:link"
	BundleType = "kyclink:bundle"
)

// MaxBundle is the largest number of turns in a bundle.
const MaxBundle = 32

// timeout is longer than any handler runs. With asynq's default of 30 minutes, a request
// that waits for the gate would be started a second time.
const timeout = 24 * time.Hour

// Enqueue enqueues the task of a turn. It also succeeds if the task exists already,
// because it is that of the same turn.
func Enqueue(ctx context.Context, queue *asynq.Client, account string, lane request.Lane, turn request.Ref) error {
	return EnqueueIn(ctx, queue, account, lane, turn, 0)
}

// EnqueueIn is [Enqueue] of a task that runs after a delay, which is rounded up to a second.
func EnqueueIn(ctx context.Context, queue *asynq.Client, account string, lane request.Lane, turn request.Ref, delay time.Duration) error {
	options := options(account, lane, turn.String())
	if delay > 0 { // asynq truncates the time to a second
		options = append(options, asynq.ProcessIn(delay+time.Second-1))
	}
	_, err := queue.EnqueueContext(ctx, asynq.NewTask(Type, nil), options...)
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue the task of %s: %w", turn.ApplicationID, err)
	}
	return nil
}

// EnqueueBundle enqueues one task for the turns of bulk requests, at most [MaxBundle]. A
// turn that is enqueued more than once is processed once.
func EnqueueBundle(ctx context.Context, queue *asynq.Client, account string, turns []request.Ref) error {
	lines := make([]string, len(turns))
	for i, turn := range turns {
		lines[i] = turn.String()
	}
	_, err := queue.EnqueueContext(ctx, asynq.NewTask(BundleType, []byte(strings.Join(lines, "\n"))),
		options(account, request.Bundles, uuid.NewString())...)
	// With a random ID, a conflict means that the client sent the task twice.
	if err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue the task of %d requests: %w", len(turns), err)
	}
	return nil
}

// Bundled returns the turns of a bundle's payload, and the lines that name none.
func Bundled(payload []byte) (turns []request.Ref, undecodable []string) {
	for line := range strings.SplitSeq(string(payload), "\n") {
		if turn, err := request.ParseRef(line); err == nil {
			turns = append(turns, turn)
		} else {
			undecodable = append(undecodable, line)
		}
	}
	return turns, undecodable
}

func options(account string, lane request.Lane, id string) []asynq.Option {
	return []asynq.Option{
		asynq.TaskID(id),
		asynq.Queue(keyspace.Keys{Account: account}.Queue(lane)),
		asynq.MaxRetry(math.MaxInt32), // the worker decides when to stop
		asynq.Timeout(timeout),
	}
}
