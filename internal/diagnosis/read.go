package diagnosis

import (
	"context"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/request"
	"github.com/kyclink/kyclink/internal/storage"
	"github.com/kyclink/kyclink/tasks"
)

// Read reads a snapshot of the account, in three round trips.
func Read(ctx context.Context, rdb redis.UniversalClient, book *storage.Stores) (Snapshot, error) {
	status, err := admission.Read(ctx, rdb, book.Keys)
	if err != nil {
		return Snapshot{}, err
	}
	s := Snapshot{Account: book.Keys.Account, Gate: status.Gate, Rate: status.Rate}
	_, s.Backlog, s.Workers, err = book.Account.Basics(ctx)
	return s, err
}

// About adds a request to a snapshot. It reads nothing for a request in its first turn
// without a batch.
func (s Snapshot) About(ctx context.Context, book *storage.Stores, link tasks.Link) (Snapshot, error) {
	s.Link = &link
	if link.Status == tasks.Queued && link.Attempts > 0 && link.Reason != "" {
		var err error
		if s.RetryAt, err = book.Records.RetryAt(ctx, request.Lane(link.Lane), link.ApplicationID); err != nil {
			return s, err
		}
	}
	if link.Batch == "" || link.Lane == tasks.Interactive {
		return s, nil
	}
	b, ok, err := book.Batches.Named(ctx, link.Batch)
	if ok {
		s.Batch = &b
	}
	return s, err
}

// Of reads a snapshot for one request.
func Of(ctx context.Context, rdb redis.UniversalClient, book *storage.Stores, link tasks.Link) (Snapshot, error) {
	s, err := Read(ctx, rdb, book)
	if err != nil {
		return s, err
	}
	return s.About(ctx, book, link)
}
