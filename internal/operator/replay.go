package operator

import (
	"context"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/kyclink/kyclink/internal/results"
)

// ReplayBurst is how many events a replay publishes at a time.
const ReplayBurst = results.MaxReplayed

// Replay publishes the ends of requests again. It waits while a live group has not
// acknowledged half of the stream's cap, and continues an interrupted replay of the
// same selection.
type Replay struct {
	// Selection has IDs, or a batch, or a time since when; or a batch and a time.
	Selection Selection
	Limit     *rate.Limiter // with a burst of [ReplayBurst]
	Restart   bool          // begin again, also if an earlier replay was interrupted

	Continues func(published int)                    // called if it continues an earlier replay
	Progress  func(published int)                    // called repeatedly
	Waiting   func(group string, unacknowledged int) // called when it begins to wait for a group

	operator       *Operator
	checked, shown time.Time
	published      int
}

const (
	progressInterval = 10 * time.Second
	groupsInterval   = time.Second // between readings of the groups
)

// Run publishes the events. It returns how many were published, also with an error, and how
// many of them by the earlier replay that it continues.
func (r *Replay) Run(ctx context.Context, o *Operator) (published, earlier int, err error) {
	r.operator, r.shown = o, time.Now()
	ids := slices.Clone(r.Selection.IDs)
	slices.Sort(ids)
	which := results.ReplaySelection{Batch: -1, IDs: slices.Compact(ids), Name: r.Selection.Since + " " + r.Selection.Batch}
	if r.Selection.Batch != "" {
		if which.Batch, err = o.BatchNumber(ctx, r.Selection.Batch); err != nil {
			return 0, 0, err
		}
	}
	done, err := r.begin(ctx, which)
	if err != nil {
		return 0, 0, err
	}
	earlier, r.published = done.Published, done.Published
	done, err = o.stores.Results.Replay(ctx, which, done, func(n int) error { return r.pace(ctx, n) })
	return done.Published, earlier, err
}

// begin finds where to begin.
func (r *Replay) begin(ctx context.Context, which results.ReplaySelection) (results.ReplayProgress, error) {
	done, interrupted, err := r.operator.stores.Results.Progress(ctx, which)
	if err != nil {
		return done, err
	}
	if interrupted && !r.Restart && len(which.IDs) == 0 {
		r.Continues(done.Published)
		return done, nil
	}
	done = results.ReplayProgress{}
	if r.Selection.Since != "" {
		now, err := r.operator.Now(ctx)
		if err != nil {
			return done, err
		}
		done.Since, err = ParseTime(r.Selection.Since, now)
		return done, err
	}
	return done, nil
}

// pace waits until n more events may be published.
func (r *Replay) pace(ctx context.Context, n int) error {
	if err := r.waitForGroups(ctx); err != nil {
		return err
	}
	if err := r.Limit.WaitN(ctx, n); err != nil {
		return err
	}
	if r.published += n; time.Since(r.shown) >= progressInterval {
		r.shown = time.Now()
		r.Progress(r.published)
	}
	return ctx.Err()
}

// waitForGroups waits while more events could push events out of the stream that a live
// group has not acknowledged.
func (r *Replay) waitForGroups(ctx context.Context) error {
	for waiting := false; time.Since(r.checked) >= groupsInterval; {
		results, err := r.operator.stores.Results.Status(ctx)
		if err != nil {
			return err
		}
		g, _ := results.Slowest()
		if results.Cap == 0 || g.Unacknowledged() <= results.Cap/2 {
			r.checked = time.Now()
			return nil
		}
		if !waiting {
			r.Waiting(g.Group, g.Unacknowledged())
			waiting = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(groupsInterval):
		}
	}
	return nil
}
