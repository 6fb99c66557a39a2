package worker

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/kyclink/kyclink/internal/keyspace"
)

// clockMost is how far this machine's clock may differ from Redis' without a warning.
const clockMost = 5 * time.Second

// compareClocks warns if this machine's clock differs from Redis'. No promise depends on it,
// but asynq's times do: tasks run early or late, and leases end early or late.
func compareClocks(ctx context.Context, rdb redis.Cmdable, account string, now func() time.Time, log *zap.Logger) {
	begun := now()
	theirs, err := keyspace.Keys{Account: account}.Clock(ctx, rdb).Time()
	took := now().Sub(begun)
	if err != nil || took > clockMost {
		return // it only serves a warning
	}
	if ahead := begun.Add(took / 2).Sub(theirs); ahead.Abs() > clockMost {
		log.Warn("this machine's clock differs from Redis' clock: retries may be late; synchronise it, for example with NTP",
			zap.Duration("ahead_by", ahead.Round(time.Millisecond)))
	}
}
