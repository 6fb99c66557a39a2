package recovery

import (
	"context"
	"time"
)

// Requests changes requests that wait.
type Requests interface {
	// ExpireDue ends waiting requests whose not_after has passed, page by page.
	ExpireDue(ctx context.Context, page string) (ended int, next string, err error)
	// RequeueNewer lets requests be fed that an older version could not decode, by this process.
	RequeueNewer(ctx context.Context) (int, error)
}

type requests struct{ requests Requests }

func (r *requests) expire(ctx context.Context, counts Counts) error {
	page := ""
	for range mostPages {
		ended, next, err := r.requests.ExpireDue(ctx, page)
		counts[Expired] += ended
		if page = next; err != nil || page == "" {
			return err
		}
	}
	return nil
}

func (r *requests) feedReadable(ctx context.Context, counts Counts) error {
	for range mostPages {
		n, err := r.requests.RequeueNewer(ctx)
		counts[Readable] += n
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// Upkeep removes what is no longer kept, a part at a time.
type Upkeep interface {
	// EraseExpired erases requests past their retention, a part at each interval.
	EraseExpired(ctx context.Context, interval time.Duration) (erased int, err error)
	// IndexRows adds to the index of rows what an earlier version wrote.
	IndexRows(ctx context.Context) error
	// DropEmpty deletes batches without rows.
	DropEmpty(ctx context.Context) (dropped int, err error)
}

type upkeep struct {
	upkeep Upkeep
	pause  time.Duration
}

func (u *upkeep) retire(ctx context.Context, counts Counts) error {
	n, err := u.upkeep.EraseExpired(ctx, u.pause)
	counts[Retired] += n
	return err
}

func (u *upkeep) index(ctx context.Context, _ Counts) error { return u.upkeep.IndexRows(ctx) }

func (u *upkeep) dropEmpty(ctx context.Context, counts Counts) error {
	n, err := u.upkeep.DropEmpty(ctx)
	counts[Deleted] += n
	return err
}
