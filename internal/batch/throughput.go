package batch

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/event"
	"github.com/kyclink/kyclink/internal/keyspace"
)

// Throughput is measured over at most maxRecent events of the last recentPeriod. Reading the
// stream costs nothing per link, unlike a counter.
const (
	maxRecent    = 1000
	recentPeriod = time.Minute
)

// recentEnds counts the recent ends that calls brought.
type recentEnds struct {
	now     time.Time // by Redis' clock
	period  time.Duration
	byBatch map[string]int // by batch
}

func (s *Store) recentEnds(ctx context.Context) (r recentEnds, err error) {
	var clock keyspace.Clock
	var events *redis.XMessageSliceCmd
	if _, err = s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		clock = s.keys.Clock(ctx, pipe)
		events = pipe.XRevRangeN(ctx, s.keys.Results(), "+", "-", maxRecent)
		return nil
	}); err != nil {
		return r, fmt.Errorf("read the latest events: %w", err)
	}
	if r.now, err = clock.Time(); err != nil {
		return r, err
	}
	r.byBatch, r.period = map[string]int{}, recentPeriod
	for _, e := range events.Val() {
		at := event.EnteredAt(e.ID)
		if r.now.Sub(at) > recentPeriod {
			return r, nil
		}
		if len(events.Val()) == maxRecent {
			r.period = r.now.Sub(at)
		}
		kind, _ := e.Values["type"].(string)
		if e.Values["replay"] != nil || kind != "link.created" && kind != "link.failed" {
			continue
		}
		var data struct{ Batch string }
		text, _ := e.Values["data"].(string)
		if json.Unmarshal([]byte(text), &data) == nil {
			r.byBatch[data.Batch]++
		}
	}
	return r, nil
}

// estimate sets the throughput and the ETA of a batch. A batch that is younger than a minute
// is measured over its age.
func (r recentEnds) estimate(b Batch) Batch {
	period := max(min(r.period, r.now.Sub(b.CreatedAt)), time.Second)
	b.Throughput = math.Round(10*float64(r.byBatch[b.Batch])/period.Seconds()) / 10
	// Joined rows have the throughput of their own batches.
	if b.Throughput > 0 && b.OpenOwn() > 0 && b.Status == Running {
		b.ETA = r.now.Add(time.Duration(float64(b.OpenOwn()) / b.Throughput * float64(time.Second))).Truncate(time.Second)
	}
	return b
}
