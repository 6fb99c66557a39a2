package worker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/keyspace"
)

// clockMost is how far a machine's clock may be off Redis' without a word.
const clockMost = 5 * time.Second

// compareClocks warns where this machine's clock is off. Nothing that is promised
// goes by it, but asynq's own times do: tasks come back early or late, and leases
// end so.
func compareClocks(ctx context.Context, rdb redis.Cmdable, account string, now func() time.Time, log *zap.Logger) {
	begun := now()
	theirs, err := keyspace.Keys{Account: account}.Clock(ctx, rdb).Time()
	took := now().Sub(begun)
	if err != nil || took > clockMost {
		return // it is for a word of warning only
	}
	if ahead := begun.Add(took / 2).Sub(theirs); ahead.Abs() > clockMost {
		log.Warn("this machine's clock is off Redis' clock: retries may come late; set it right, as with NTP",
			zap.Duration("ahead_by", ahead.Round(time.Millisecond)))
	}
}
