package fleet

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Handlers returns the turns with a handler at the last heartbeat of their process, and
// whether that process is alive.
func (m *Member) Handlers(ctx context.Context) (alive map[string]bool, err error) {
	now, err := m.keys.Clock(ctx, m.rdb).Time()
	if err != nil {
		return nil, fmt.Errorf("read the time: %w", err)
	}
	workers, err := m.rdb.ZRangeWithScores(ctx, m.keys.Workers(), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("read the workers: %w", err)
	}
	turns := make([]*redis.StringSliceCmd, len(workers))
	_, err = m.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, w := range workers {
			turns[i] = pipe.SMembers(ctx, m.keys.Handlers(w.Member.(string)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the turns with handlers: %w", err)
	}
	alive = map[string]bool{}
	unbroken := m.clock.unbroken()
	if m.clock.stepped(now) {
		unbroken = 0
	}
	for i, w := range workers {
		// A heartbeat far in the future was stored before Redis' clock went back.
		silent := now.Sub(time.UnixMilli(int64(w.Score))).Abs() > m.cfg.DeadAfter
		lives := !silent || unbroken < m.cfg.DeadAfter
		for _, turn := range turns[i].Val() {
			alive[turn] = alive[turn] || lives
		}
	}
	return alive, nil
}
