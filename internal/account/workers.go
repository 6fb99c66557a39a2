package account

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kyclink/kyclink/internal/admission"
	"github.com/kyclink/kyclink/internal/fleet"
)

// maxWorkers is the number of processes that [Reader.Workers] returns.
const maxWorkers = 1000

// Worker is a live worker process.
type Worker struct {
	Process       int       `json:"process"` // its number
	LastHeartbeat time.Time `json:"last_heartbeat"`
	Calls         int       `json:"calls"` // in flight
}

// Workers are the live worker processes of an account.
type Workers struct {
	Workers []Worker `json:"workers"` // by their numbers
	// More is the number of processes that were left out.
	More int `json:"more,omitempty"`
}

// Workers reads the live worker processes, of which it returns the first thousand by their
// last heartbeats.
func (a *Reader) Workers(ctx context.Context) (w Workers, err error) {
	now, err := a.keys.Clock(ctx, a.rdb).Time()
	if err != nil {
		return w, fmt.Errorf("read the time: %w", err)
	}
	alive, ahead := strconv.FormatInt(now.Add(-fleet.DeadAfter).UnixMilli(), 10), strconv.FormatInt(now.Add(fleet.DeadAfter).UnixMilli(), 10)
	var living, calls *redis.ZSliceCmd
	var all *redis.IntCmd
	_, err = a.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		living = pipe.ZRangeByScoreWithScores(ctx, a.keys.Workers(), &redis.ZRangeBy{Min: alive, Max: ahead, Count: maxWorkers})
		all = pipe.ZCount(ctx, a.keys.Workers(), alive, ahead)
		calls = pipe.ZRangeByScoreWithScores(ctx, a.keys.Calls(), &redis.ZRangeBy{
			Min: strconv.FormatInt(now.Add(-admission.AnswerWithin).UnixMilli(), 10), Max: "+inf",
		})
		return nil
	})
	if err != nil {
		return w, fmt.Errorf("read the workers: %w", err)
	}
	inFlight := map[string]int{}
	for _, call := range calls.Val() {
		process, _, _ := strings.Cut(call.Member.(string), " ")
		inFlight[process]++
	}
	w.Workers = make([]Worker, 0, len(living.Val()))
	for _, z := range living.Val() {
		process := z.Member.(string)
		number, err := strconv.Atoi(process)
		if err != nil {
			return w, fmt.Errorf("read the workers: %q is not the number of a process", process)
		}
		w.Workers = append(w.Workers, Worker{number, time.UnixMilli(int64(z.Score)).UTC(), inFlight[process]})
	}
	slices.SortFunc(w.Workers, func(a, b Worker) int { return a.Process - b.Process })
	w.More = max(0, int(all.Val())-len(w.Workers))
	return w, nil
}
