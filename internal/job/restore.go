package job

import (
	"context"

	"github.com/kyclink/kyclink/internal/input"
	"github.com/kyclink/kyclink/internal/request"
)

// restore restores the requests of the journal that a valid row asks for: a link for any
// other would be billed although nobody wants it. Existing links are restored for invalid
// rows as well, and shown with them.
func (j *Job) restore(ctx context.Context) error {
	var (
		wanted *wantedIDs
		page   []request.Record
	)
	flush := func() error {
		err := j.withRetries(ctx, func() error { return j.Stores.Requests.Restore(ctx, j.Batch, page) })
		page = page[:0]
		return err
	}
	for r, err := range j.Journal.Records() {
		if err == nil && wanted == nil {
			wanted, err = j.wantedIDs(ctx)
		}
		if err != nil {
			return err
		}
		if !wanted.good.has(r.ApplicationID) && (r.State != request.Created || !wanted.other.has(r.ApplicationID)) {
			continue
		}
		if page = append(page, r); len(page) == pageRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// wantedIDs returns the ids of valid rows, and those of rows that are invalid or have a link
// in the input.
type wantedIDs struct{ good, other ids }

func (j *Job) wantedIDs(ctx context.Context) (*wantedIDs, error) {
	w := &wantedIDs{newIDs(), newIDs()}
	err := j.eachPage(ctx, func(page []input.Row) error {
		for _, row := range page {
			if row.Err == nil && row.Link == nil {
				w.good.add(row.Request.ApplicationID)
			} else {
				w.other.add(row.Request.ApplicationID)
			}
		}
		return nil
	})
	return w, err
}
