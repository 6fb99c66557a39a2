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
	// CallOff continues one, and calls told with the number of requests that it ended.
	CancelRequests(ctx context.Context, batch int, told func(ended int)) error
}

// batches finishes the cancellation of batches.
type batches struct {
	batches Batches
	seen    map[int]string // how far each cancellation was after the last pass
}

// forget forgets what earlier passes saw.
func (b *batches) forget() { b.seen = nil }

// finishCancelling continues the cancellations that have not moved since the last pass:
// whoever did them has died, or was stopped.
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
		err := b.batches.CancelRequests(once, batch, func(ended int) { counts[CalledOff] += ended })
		if err != nil && once.Err() == nil {
			return err
		}
	}
	b.seen, err = b.batches.Cancelling(ctx) // as this pass leaves it
	return err
}
