package recovery

import (
	"context"
	"time"
)

// cancelTimeout is the part of a pass that cancellations may take.
const cancelTimeout = 2 * time.Second

// Batches continues cancellations of batches.
type Batches interface {
	// Cancelling returns the batches whose cancellation is not finished, and how far it is.
	Cancelling(ctx context.Context) (far map[int]string, err error)
	// CancelRequests continues one, and calls told with the number of requests that it ended.
	CancelRequests(ctx context.Context, batch int, told func(ended int)) error
}

// batches finishes the cancellation of batches.
type batches struct {
	batches Batches
	seen    map[int]string // the progress of each cancellation after the last pass
}

// forget discards the state of earlier passes.
func (b *batches) forget() { b.seen = nil }

// finishCancelling continues the cancellations that have made no progress since the last
// pass: the process that did them has died, or was stopped.
func (b *batches) finishCancelling(ctx context.Context, counts Counts) error {
	far, err := b.batches.Cancelling(ctx)
	if err != nil {
		return err
	}
	once, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	for batch, now := range far {
		if before, known := b.seen[batch]; !known || before != now {
			continue
		}
		err := b.batches.CancelRequests(once, batch, func(ended int) { counts[Cancelled] += ended })
		if err != nil && once.Err() == nil {
			return err
		}
	}
	b.seen, err = b.batches.Cancelling(ctx) // the progress after this pass
	return err
}
